"""Recipes: names, ids, and the refusal to compare what was measured differently."""

import dataclasses
import json

import pytest

from genjax.errors import UserError
from genjax.metrics.recipe import METRICS, Recipe, Value, rank, rows

FID = Recipe(metric="frechet", network="inception", weights="6726825d0af5f729", resize="legacy",
             reals="idx:mnist train #12", n_real=60000, n_fake=50000)


def proxy(**change):
    return dataclasses.replace(FID, **{"network": "lenet", "weights": "aa", "resize": "none", **change})


def test_only_the_published_network_has_the_published_names():
    assert (FID.key, FID.name) == ("fid", "FID")
    assert dataclasses.replace(FID, metric="kernel").name == "KID x 10^3"
    assert dataclasses.replace(FID, metric="inception_score").key == "is"
    assert dataclasses.replace(FID, resize="clean").key == "fid_clean"
    others = [proxy(), proxy(network="inception"), dataclasses.replace(FID, network="lenet")]
    assert [r.key for r in others] == ["fd_lenet", "fd_inception", "fd_lenet"]
    for metric in METRICS:
        for r in others:
            r = dataclasses.replace(r, metric=metric)
            assert r.key not in ("fid", "kid_x1000", "is") and not {"FID", "KID", "IS"} & set(r.name.split()), r
    assert proxy().name == "Frechet distance (lenet)"


@pytest.mark.parametrize("change", [{"n_fake": 10000}, {"n_real": 1}, {"weights": "bb"}, {"resize": "clean"},
                                    {"reals": "folder:x"}, {"dtype": "bfloat16"}, {"uint8": "truncated"},
                                    {"parameters": (("k", 5),)}, {"network": "vgg16"}, {"metric": "kernel"}])
def test_values_of_different_recipes_refuse(change):
    a = Value(3.0, proxy())
    b = Value(2.0, dataclasses.replace(proxy(), **change))
    assert a.recipe.id != b.recipe.id
    field = next(iter(change))
    for compare in (lambda: a < b, lambda: a >= b, lambda: a - b, lambda: a / b, lambda: sorted([a, b]),
                    lambda: rank({"a": a, "b": b})):
        with pytest.raises(UserError, match=f"cannot compare.*{'parameters.k' if field == 'parameters' else field}: "):
            compare()
    assert a != b


def test_values_of_one_recipe_compare():
    a, b = Value(3.0, proxy(), std=0.1), Value(2.0, proxy())
    assert a > b and a >= b and b < a and a - b == 1.0 and a / b == 1.5 and float(a) == 3.0 and max(a, b) is a
    assert a == Value(3.0, proxy()) and a <= Value(3.0, proxy())
    assert rank({"a": a, "b": b}) == ["b", "a"]
    good, bad = (Value(v, proxy(metric="recall")) for v in (0.9, 0.1))
    assert rank({"bad": bad, "good": good}) == ["good", "bad"]
    assert f"{a:.2f}" == "3.00" and proxy().id in str(a) and "+- 0.1" in str(a)


def test_a_plain_number_has_no_recipe():
    value = Value(3.0, proxy())
    for compare in (lambda: value < 5, lambda: 5 > value, lambda: value - 1, lambda: 1 - value):
        with pytest.raises(UserError, match="no recipe; compare it with float"):
            compare()


def test_recipes_survive_json_and_the_order_of_parameters():
    r = proxy(parameters=(("b", (1, 99)), ("a", 1e-4)))
    assert Recipe.from_json(r.json()) == r == proxy(parameters=(("a", 1e-4), ("b", (1, 99))))
    row = rows({"fd_lenet": Value(1.5, r)})["fd_lenet"]
    assert json.loads(json.dumps(row)) == {**row, "recipe": json.loads(r.json())}
    assert row["id"] == r.id and len(r.id) == 10 and "50000 generated" in str(r) and "a 0.0001" in str(r)


def test_path_length_says_which():
    r = Recipe(metric="path_length", network="lpips_vgg", parameters=(("space", "w"), ("sampling", "end"), ("crop", 1)))
    assert r.key == "ppl_wend_lpips_vgg"


def test_unknown_metric():
    with pytest.raises(UserError, match="did you mean 'frechet'"):
        Recipe(metric="frechett")
