"""Configs: expansion, locking, typos, references, overrides, round trips, and every config under configs/."""

import json
import re
import shutil

import optax
import pytest
from ml_collections import ConfigDict

from genjax.core import config as config_lib
from genjax.core import inspect as inspect_lib
from genjax.core import report
from genjax.core.checkpoint import digest
from genjax.core.config import build, diff, experiment, finalize, flatten, load, node, override, smoke
from genjax.core.run import RunFolder
from genjax.core.train import train
from genjax.errors import UserError
from tests.core.toy_parts import Inner, Parts

TOY = "tests/core/toy_config.py"


def finalized(**kwargs):
    """A finalized config around a `Parts`, which the task reads by reference."""
    return finalize(holding("@extra", extra=node("tests.core.toy_parts.Parts", **{"name": "n", **kwargs})))


def holding(thing, **kwargs):
    """A config whose task holds `thing` where an optimiser would be."""
    return experiment(task=node("tests.core.toy.ToyAdversarial", optimizer=thing),
                      data=node("tests.core.toy.ToyData"), **kwargs)


def held(config):
    """The built `thing` of `holding`."""
    return build(config).task.optimizer


def toy(**kwargs):
    return experiment(**{
        "task": node("tests.core.toy.ToyTask", optimizer="@optimizer"), "data": node("tests.core.toy.ToyData"),
        "optimizer": node("genjax.core.optim.adam"), **kwargs})


# Expansion


def test_every_default_is_expanded_typed_and_built():
    config = finalized()
    extra = config.extra.to_dict()
    assert extra == {
        "target": "tests.core.toy_parts.Parts", "name": "n", "maybe": None, "text": None, "kind": "near",
        "sizes": (3, 4), "upsample": "near", "rate": 1.0, "anything": None, "made": (7,),
        "inner": {"target": "tests.core.toy_parts.Inner", "width": 4, "scales": (1, 2)}}
    assert held(config) == Parts(name="n")
    assert config.train.steps == 1000 and config.mesh.data == -1 and config.sharding == (".* -> replicate",)


def test_values_of_the_file_are_kept_and_converted():
    built = held(finalized(rate=2, sizes=[5, 6], maybe=3, inner=node("tests.core.toy_parts.Inner", width=9)))
    assert built == Parts(name="n", rate=2.0, sizes=(5, 6), maybe=3, inner=Inner(9))
    assert isinstance(built.rate, float)


def test_a_finalized_config_is_locked_and_finalizing_again_changes_nothing():
    config = finalized()
    with pytest.raises(AttributeError):
        config.train.stepz = 5
    before = config_lib.to_json(config)
    assert config_lib.to_json(finalize(config)) == before


def test_a_node_read_twice_is_built_once():
    config = finalize(holding(node("tests.core.toy_parts.both", a="@shared", b="@shared"),
                              shared=node("tests.core.toy_parts.Inner", width=2)))
    a, b = held(config)
    assert a is b and a.width == 2


def test_references_chain_and_type_errors_name_both_keys():
    config = toy(data=node("tests.core.toy.ToyData", width="@width"), width="@size", size=24)
    assert build(finalize(config)).data.width == 24
    bad = toy(data=node("tests.core.toy.ToyData", width="@width"), width="wide")
    with pytest.raises(UserError, match="config.data.width = '@width' must be int, got 'wide'"):
        finalize(bad)


def test_a_default_that_json_cannot_hold_stays_the_constructors_own():
    config = finalize(toy(optimizer=node("optax.adafactor", learning_rate=0.1)))
    assert "dtype_momentum" not in config.optimizer and config.optimizer.eps == 1e-30
    assert isinstance(build(config).optimizer, optax.GradientTransformation)
    config = finalize(holding(node("tests.core.toy_parts.with_function_default", x=3)))
    assert "initializer" not in config.task.optimizer and held(config) == Inner(3)


# Mistakes in the file


@pytest.mark.parametrize(("broken", "message"), [
    ({"trian": node("genjax.core.experiment.TrainOptions")}, "'trian': nobody reads it.*did you mean 'train'"),
    ({"image": "x.png"}, "'image': nobody reads it"),
    ({"train": node("genjax.core.experiment.TrainOptions", stepz=3)}, "train.stepz.*did you mean 'steps'"),
    ({"train": node("genjax.core.experiment.TrainOptons")}, "did you mean 'TrainOptions'"),
    ({"train": node("genjax.core.experimnt.TrainOptions")}, "'experimnt'; did you mean 'experiment'"),
    ({"train": node("nowhere.Thing")}, "no module named 'nowhere'"),
    ({"train": node("TrainOptions")}, "not a dotted path"),
    ({"train": node("..x")}, "not a dotted path"),
    ({"train": node("genjax.core.config.ROOT")}, "not a class or function"),
    ({"train": ConfigDict({"target": 5})}, "config.train.target must be a dotted path"),
    ({"train": ConfigDict({"steps": 5})}, "config.train has no target.*TrainOptions"),
    ({"train": ConfigDict({"tagret": "genjax.core.experiment.TrainOptions"})}, "config.train has no target"),
    ({"train": 5}, "config.train must be TrainOptions"),
    ({"train": node("genjax.core.experiment.TrainOptions", keep="two")}, "config.train.keep must be int, got 'two'"),
    ({"seed": 1.5}, "config.seed must be int"),
    ({"optimizer": node("optax.chain")}, "'optax.chain' takes only .arguments.*write a function with keywords"),
    ({"seed": True}, "config.seed must be int"),
    ({"sharding": ".* -> replicate"}, "config.sharding must be tuple"),
    ({"optimizer": node("genjax.core.optim.adam", schedule="cosin")}, "'cosin'; did you mean 'cosine'"),
    ({"task": node("tests.core.toy.ToyTask", optimizer="@optimzer")}, "did you mean 'optimizer'"),
    ({"task": node("tests.core.toy.ToyTask")}, "config.task.optimizer is missing"),
    ({"optimizer": "@task"}, "circle: .*optimizer -> task -> optimizer|circle: task -> optimizer -> task"),
    ({"optimizer": "@optimizer"}, "leads back to itself|circle"),
    ({"seed": "@a", "a": "@b", "b": "@a"}, "leads back to itself"),
    ({"seed": "@a", "a": len}, "config.a|config.seed"),
    ({"target": "genjax.core.optim.adam"}, "config.target must be genjax.core.experiment.Experiment"),
    ({"smoke": ("train.stepz=1",)}, "unknown config key config.train.stepz.*did you mean 'steps'"),
])
def test_mistakes_in_a_file_are_one_line(broken, message):
    with pytest.raises(UserError, match=message) as e:
        smoke(finalize(toy(**{k: v for k, v in broken.items() if k != "target"}) if "target" not in broken
                       else node(broken["target"])))
    assert "\n" not in str(e.value)


def test_the_root_must_be_an_experiment():
    for root in (None, {}, ConfigDict(), 5):
        with pytest.raises(UserError, match="root"):
            finalize(root)


@pytest.mark.parametrize(("swap", "message"), [
    ({"train": node("genjax.core.sharding.MeshSpec")}, "config.train must be a TrainOptions; .*MeshSpec"),
    ({"optimizer": node("genjax.core.sharding.MeshSpec")}, "config.task.optimizer must be a GradientTransformation"),
    ({"task": node("tests.core.toy.ToyData")}, "config.task builds a ToyData"),
    ({"data": node("tests.core.toy_parts.SignedData")},
     r"makes pictures in \(-1.0, 1.0\), config.task works in \(0.0, 1.0\); set config.data.value_range=0,1"),
])
def test_a_target_of_the_wrong_kind_is_named_when_built(swap, message):
    with pytest.raises(UserError, match=message):
        build(finalize(toy(**swap)))


@pytest.mark.parametrize(("text", "message"), [
    ("def get_config(arg=''):\n    return nod(1)\n", r":2: NameError"),
    ("def get_config(arg=''):\n    return (1\n", r":2: "),
    ("from genjax.core.config import nod\n", r":1: ImportError"),
    ("import genjax.nowhere\n", r":1: ModuleNotFoundError"),
    ("from ml_collections import ConfigDict\ndef get_config(arg=''):\n    ConfigDict().trian.steps = 3\n",
     r":3: AttributeError"),
    ("x = 1\n", "defines no get_config"),
    ("def get_config():\n    return 1\n", "defines no get_config"),
    ("get_config = 5\n", "defines no get_config"),
    ("def get_config(arg=''):\n    return None\n", "root must come from"),
    ("\0", "null bytes"),
])
def test_a_broken_config_file_is_one_line_with_its_line_number(tmp_path, text, message):
    file = tmp_path / "broken.py"
    file.write_text(text)
    with pytest.raises(UserError, match=message) as e:
        load(str(file))
    assert "\n" not in str(e.value) and "broken.py" in str(e.value) or "root must come" in str(e.value)


def test_a_bug_of_ours_keeps_its_traceback(tmp_path, monkeypatch):
    file = tmp_path / "fine.py"
    file.write_text("from genjax.core.coerce import coerce\ndef get_config(arg=''):\n    coerce(1, int, 'x')\n")
    monkeypatch.setattr("genjax.core.coerce.typing", None)
    with pytest.raises(AttributeError, match="get_origin"):
        load(str(file))


# Command line


def test_overrides_are_typed_and_nested():
    config = override(finalized(), ["train.steps=5", "extra.inner.width=9", "extra.maybe=4", "extra.kind=far",
                                    "extra.sizes=8,9", "extra.upsample=near,far", "extra.text=12", "extra.rate=2"])
    got = held(config)
    assert got == Parts(name="n", maybe=4, kind="far", sizes=(8, 9), upsample=("near", "far"), text="12", rate=2.0,
                        inner=Inner(9))
    assert config.train.steps == 5
    assert held(override(config, ["extra.maybe=none", "extra.text=none"])).maybe is None


@pytest.mark.parametrize(("item", "message"), [
    ("trian.steps=3", "config.trian.steps: no key 'trian'; did you mean 'train'"),
    ("train.stepz=3", "config.train.stepz.*did you mean 'steps'"),
    ("extra.inner.widht=3", "did you mean 'width'"),
    ("seed.x=3", "config.seed is a value, it has no key 'x'"),
    ("train=3", "config.train is a node; override one of its keys"),
    ("train.keep=two", "config.train.keep must be int, got 'two'"),
    ("extra.sizes=1,2,3", "config.extra.sizes must be"),
    ("extra.kind=nea", "did you mean 'near'"),
    ("extra.rate=@rates", "reference in config.extra.rate"),
    ("extra.inner.target=tests.core.toy_parts.Iner", "did you mean 'Inner'"),
    ("target=genjax.core.optim.adam", "config.target is always"),
    ("=3", "unknown config key"),
    ("train.steps", "has no value: write --config.train.steps=VALUE"),
])
def test_mistakes_on_the_command_line_are_one_line(item, message):
    config = finalized()
    before = config_lib.to_json(config)
    with pytest.raises(UserError, match=message) as e:
        override(config, [item])
    assert "\n" not in str(e.value)
    assert config_lib.to_json(config) == before or ".target" in item or "@" in item


def test_overriding_a_target_swaps_what_is_built():
    config = finalize(toy(optimizer=node("genjax.core.optim.adam", learning_rate=0.5, b1=0.8, schedule="cosine",
                                         decay_steps=7)))
    swapped = override(config, ["optimizer.momentum=0.7", "optimizer.target=genjax.core.optim.sgd"])
    got = swapped.optimizer.to_dict()
    # what the file set stays where sgd knows it; what was Adam's default is now sgd's
    assert got["learning_rate"] == 0.5 and got["schedule"] == "cosine" and got["decay_steps"] == 7
    assert got["momentum"] == 0.7 and "b1" not in got and "eps" not in got
    free = load(TOY, ["data.target=tests.core.toy.ToyData"])
    assert "width" in free and "pause" not in free.data
    free = load(TOY, ["task.target=tests.core.toy.ToyAdversarial", "data.target=tests.core.toy_parts.keyless"])
    assert "width" not in free, "the top-level key that only the old target read goes with it"
    again = override(finalize(toy()), ["optimizer.target=optax.adafactor"])
    assert again.optimizer.eps == 1e-30 and again.optimizer.learning_rate is None


def test_outer_targets_are_swapped_before_inner_ones():
    config = holding(node("tests.core.toy_parts.Inner"))
    with pytest.raises(UserError, match="config.task.optimizer.name is missing"):  # never a guess
        override(finalize(config), ["task.optimizer.name=x", "task.optimizer.target=tests.core.toy_parts.Parts"])
    config = override(finalize(holding(node("tests.core.toy_parts.Parts", name="n"))), [
        "task.optimizer.inner.width=5", "task.optimizer.inner.target=tests.core.toy_parts.Inner",
        "task.optimizer.target=tests.core.toy_parts.holder"])
    assert held(config) == Inner(5)


# Structural arguments


def test_structural_arguments():
    parse = config_lib.parse_arg
    a = parse("small,res=64,rate=2,name=x", small=False, res=32, rate=0.5, name="y")
    assert (a.small, a.res, a.rate, a.name) == (True, 64, 2.0, "x")
    assert parse("", res=32).res == 32 and parse(None, res=32).res == 32
    assert parse("small=false", small=True).small is False
    for arg, message in (("smal", "did you mean 'small'"), ("res=big", "res must be int"), ("res", "write res=32"),
                         ("res=", "res must be int"), ("name", "write name='y'"), ("small=1", "small must be bool")):
        with pytest.raises(UserError, match=message):
            parse(arg, small=False, res=32, name="y")


# Round trips


def test_json_round_trip_and_diff(tmp_path):
    config = override(finalized(), ["extra.upsample=near,far", "extra.anything=(1,(2,'a'))", "extra.rate=1e-7"])
    file = tmp_path / "config.json"
    file.write_text(config_lib.to_json(config))
    again = load(str(file))
    assert diff(config, again) == {} and again.is_locked
    assert config_lib.to_json(again) == config_lib.to_json(config)
    assert {k: type(v) for k, v in flatten(again).items()} == {k: type(v) for k, v in flatten(config).items()}
    changed = load(str(file), ["extra.rate=2", "extra.inner.scales=3"])
    assert diff(config, changed) == {"extra.rate": (1e-7, 2.0), "extra.inner.scales": ((1, 2), (3,))}
    swapped = override(finalize(toy()), ["optimizer.target=genjax.core.optim.sgd"])
    found = diff(finalize(toy()), swapped)
    assert found["optimizer.b1"] == (0.9, "(absent)") and found["optimizer.momentum"] == ("(absent)", 0.0)
    with pytest.raises(UserError, match="takes no structural argument"):
        load(f"{file}:small")


@pytest.mark.parametrize("text", ["", "{", "[]", "5", '{"a.b": 1}', '{"target": 5}', '{"target": "genjax.x.Y"}',
                                  "[" * 100_000])
def test_a_damaged_config_json_is_one_line_that_names_the_file(tmp_path, text):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(UserError, match="config.json") as e:
        load(str(tmp_path / "config.json"))
    assert "\n" not in str(e.value) and len(str(e.value)) < 400
    with pytest.raises(UserError):
        RunFolder(tmp_path).config()


def test_a_run_of_another_genjax_version_is_read_where_keys_were_added(tmp_path):
    config = load(TOY).to_dict()
    del config["train"]["keep"]  # a key that a later version added
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert RunFolder(tmp_path).config().train.keep == 2


def test_changes_lists_what_a_config_sets():
    found = {k: (old, new) for k, old, new in report.changes(load(TOY, ["train.keep=5"]))}
    assert found["train.keep"] == ("2", "5") and found["optimizer.learning_rate"] == ("0.001", "0.01")
    assert "optimizer.b1" not in found and found["task.optimizer"] == (None, "'@optimizer'")


# Smoke form


def test_smoke_form_is_two_steps_and_the_configs_own_shrinkings():
    config = smoke(load(TOY, ["train.steps=500", "train.save_every=8Ki images"]))
    assert config.width == 8 and config.train.steps == 2 and config.train.steps_per_call == 1
    assert config.train.save_every == 1 and build(config).data.width == 8
    assert build(config).steps("steps") == 2


# Every config of the repository

CONFIGS = config_lib.list_configs()


def structural(name):
    """A config with its default argument, and with each flag its parse_arg declares switched on."""
    text = (config_lib.ROOT / "configs" / f"{name}.py").read_text()
    flags = re.findall(r"(\w+)=False", "".join(re.findall(r"parse_arg\(arg,(.*?)\)", text, re.S)))
    return [name, *(f"{name}:{flag}" for flag in flags)]


SPECS = [s for name in CONFIGS for s in structural(name)]


def test_there_are_configs_and_they_are_listed():
    rows = inspect_lib.listing()
    assert {r["name"] for r in rows if r["kind"] == "config"} == set(CONFIGS) and CONFIGS
    assert all(r["about"].endswith(".") for r in rows), "a docstring's first line is a sentence"
    assert inspect_lib.listing_text(rows).count("\n") >= len(rows)


@pytest.mark.parametrize("spec", SPECS)
def test_every_config_expands_and_round_trips(tmp_path, spec):
    config = load(spec)
    (tmp_path / "config.json").write_text(config_lib.to_json(config))
    assert diff(load(str(tmp_path / "config.json")), config) == {}
    small = smoke(config)
    assert small.train.steps == 2
    assert not {"", None} & {row[0] for row in report.changes(config)}


# Two networks, two optimisers with schedules, an adaptive scalar: as GANs have them.
TOYS = {f"tests/core/toy_config.py:task={t}": ("train.steps=7", "optimizer.schedule=cosine", "optimizer.warmup_steps=2",
                                              "optimizer.decay_steps=9") for t in ("ToyTask", "ToyAdversarial")}


# Two steps on either side of the cut, through the end of GRAF's noise and a halving of its rates.
FIELDS = {"fields/giraffe": ("train.steps=4",), "fields/nerf": ("train.steps=4",),
          "fields/graf": ("train.steps=4", "task.noise_steps=3", "g_optimizer.halve_at=2,3", "d_optimizer.halve_at=3")}
LONGER = TOYS | FIELDS


@pytest.mark.alone
@pytest.mark.parametrize("spec", [*CONFIGS, *TOYS])
def test_every_config_trains_in_its_smoke_form_and_resumes_exactly(tmp_path, spec):
    config = override(smoke(load(spec)), [*LONGER.get(spec, ()), "train.keep=99"])
    out = train(config, str(tmp_path / "run"), quiet=True)
    assert out.step == config.train.steps and (tmp_path / "run" / "DONE").exists()
    assert list((tmp_path / "run" / "samples").glob("*.png")) or "ToyAdversarial" in spec
    # What a kill at half its length leaves.
    half = out.step // 2
    cut = shutil.copytree(tmp_path / "run", tmp_path / "cut", ignore=shutil.ignore_patterns("DONE", "log.txt"))
    for saved in (cut / "checkpoints").iterdir():
        if saved.name.isdigit() and int(saved.name) > half:
            shutil.rmtree(saved)
    again = train(config, str(cut), quiet=True)
    assert f"at step {half} of {out.step}" in (cut / "log.txt").read_text()
    assert digest(again.state) == digest(out.state) and again.metrics == out.metrics
