"""Values against annotations: what fits, what converts, what is refused, from files and from the command line."""

from collections.abc import Callable, Mapping
from typing import Any, Literal

import numpy as np
import pytest
from ml_collections import ConfigDict

from genjax.core.coerce import coerce
from genjax.core.experiment import Duration, TrainOptions
from genjax.errors import UserError

TEXT = [
    ("3", int, 3), ("1e3", int, 1000), ("-2", int, -2), ("1_000", int, 1000),
    ("3", float, 3.0), ("1e-4", float, 1e-4), ("-.5", float, -0.5),
    ("true", bool, True), ("False", bool, False),
    ("abc", str, "abc"), ("12", str, "12"), ("None", str, "None"), ("", str, ""), ("a,b", str, "a,b"),
    ("none", int | None, None), ("7", int | None, 7), ("none", str | None, None), ("x", str | None, "x"),
    ("123", str | None, "123"), ("1.5", Duration, "1.5"), ("3000", Duration, 3000),
    ("8Ki images", Duration, "8Ki images"),
    ("bilinear", Literal["nearest", "bilinear"], "bilinear"), ("2", Literal[1, 2], 2), ("1", Literal["1", "2"], "1"),
    ("none", Literal["a"] | None, None),
    ("3,4", tuple[int, int], (3, 4)), ("(3, 4)", tuple[int, ...], (3, 4)), ("3", tuple[int, ...], (3,)),
    ("", tuple[int, ...], ()), ("()", tuple[int, ...], ()), ("1,2", tuple[float, ...], (1.0, 2.0)),
    ("a,b", tuple[str, ...], ("a", "b")), ("a", tuple[str, ...], ("a",)), ("1,2", tuple[str, ...], ("1", "2")),
    ("'a','b'", tuple[str, ...], ("a", "b")), ("", tuple, ()), ("1,a", tuple, ("1", "a")), ("1,2", list[int], (1, 2)),
    ("(1,2),(3,4)", tuple[tuple[int, int], ...], ((1, 2), (3, 4))),
    ("kernel -> shard_dim(0, data),.* -> replicate", tuple[str, ...],
     ("kernel -> shard_dim(0, data)", ".* -> replicate")),
    ("4", int | tuple[int, ...], 4), ("4,5", int | tuple[int, ...], (4, 5)), ("(4,)", int | tuple[int, ...], (4,)),
    ("nearest", str | tuple[str, ...], "nearest"), ("nearest,bilinear", str | tuple[str, ...], ("nearest", "bilinear")),
    ("1.5", Any, 1.5), ("word", Any, "word"), ("[1, [2]]", Any, (1, (2,))),
]


@pytest.mark.parametrize(("text", "annotation", "want"), TEXT)
def test_text(text, annotation, want):
    got = coerce(text, annotation, "config.x", text=True)
    assert got == want and type(got) is type(want)
    assert [type(v) for v in got] == [type(v) for v in want] if isinstance(want, tuple) else True


BAD_TEXT = [("abc", int), ("1.5", int), ("true", int), ("1", bool), ("yes", bool), ("x", float), ("True", float),
            ("nan", float), ("none", int), ("3", tuple[int, int]), ("1,2,3", tuple[int, int]), ("1,b", tuple[int, ...]),
            ("1.5,2", tuple[int, ...]), ("x", int | None), ("a", int | tuple[int, ...]), ("nearst", Literal["nearest"])]


@pytest.mark.parametrize(("text", "annotation"), BAD_TEXT)
def test_bad_text_is_one_line_with_the_key(text, annotation):
    with pytest.raises(UserError, match="config.x") as e:
        coerce(text, annotation, "config.x", text=True)
    assert "\n" not in str(e.value) and text.split(",")[0] in str(e.value)


@pytest.mark.parametrize(("value", "annotation", "want"), [
    (3, float, 3.0), (3.0, int, 3), ([1, 2], tuple[int, ...], (1, 2)), ([1, [2]], Any, (1, (2,))),
    (None, int | None, None), (np.float64(2.5), float, 2.5), ((), tuple[str, ...], ()),
    ("a", str | tuple[str, ...], "a")])
def test_file_values(value, annotation, want):
    got = coerce(value, annotation, "config.x")
    assert got == want and type(got) is type(want)


@pytest.mark.parametrize(("value", "annotation"), [
    ("3", int), ("3", float), (True, int), (True, float), (1, bool), (2.5, int), (None, int), ("a", tuple[str, ...]),
    ((1, "a"), tuple[int, ...]), (5, str), (True, Literal[1, 2]), ("steps", TrainOptions), (3, TrainOptions)])
def test_bad_file_values(value, annotation):
    with pytest.raises(UserError, match="config.x"):
        coerce(value, annotation, "config.x")


@pytest.mark.parametrize("value", [len, np.float32(1), np.zeros(3), object(), (1, len), (ConfigDict(),)])
@pytest.mark.parametrize("annotation", [Any, Callable])
def test_what_json_cannot_hold_is_refused(value, annotation):
    with pytest.raises(UserError, match="config.x cannot hold"):
        coerce(value, annotation, "config.x")


def test_a_nested_config_without_target_is_refused_unless_a_mapping_is_wanted():
    plain = ConfigDict({"a": 1})
    assert coerce(plain, dict[str, int], "config.x") is plain
    assert coerce(plain, Mapping[str, int], "config.x") is plain
    with pytest.raises(UserError, match="config.x has no target.*TrainOptions"):
        coerce(plain, TrainOptions, "config.x")
