"""Configs and modules of one's own outside the checkout, what files say of themselves, how runs were made."""

import json
import os
import shutil
import subprocess
import sys

import pytest

import launch
from genjax.core import config as config_lib
from genjax.core import config_file, inspect, made_by
from genjax.core.config import experiment, finalize, node, override
from genjax.errors import UserError

MODULE = '''
import dataclasses

from tests.core.toy import ToyTask


@dataclasses.dataclass(frozen=True, kw_only=True)
class MyTask(ToyTask):
    """A task of one's own."""

    scale: float = 1.0
'''
CONFIG = '''"""My notebook.

Its second paragraph.
"""

from genjax.core.config import experiment, node, parse_arg


def get_config(arg=""):
    """Structural arguments: width of the data."""
    a = parse_arg(arg, width=16, small=False)
    c = experiment(task=node("{module}.MyTask", optimizer="@optimizer"),
                   data=node("tests.core.toy.ToyData", width=a.width), optimizer=node("genjax.core.optim.adam"))
    c.train.steps = 3
    c.train.save_every = "2 steps"
    c.optimizer.learning_rate = 1
    return c


def sweep_scales():
    """Two of them."""
    from genjax.core.sweep import grid

    return grid({{"task.scale": (1.0, 2.0)}})
'''


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """A folder with my_config.py and its module, and the run that a process made of it from there."""
    folder = tmp_path_factory.mktemp("own")
    (folder / "outside_module.py").write_text(MODULE)
    (folder / "my_config.py").write_text(CONFIG.format(module="outside_module"))
    command(folder, "train", "--config", "my_config.py:width=8", "--workdir", "run", "--quiet")
    return folder


def command(folder, *argv, code=0):
    """`python launch.py ARGV` in another process and folder; what it said."""
    done = subprocess.run([sys.executable, str(config_lib.ROOT / "launch.py"), *map(str, argv)], cwd=folder,
                          capture_output=True, text=True, env={**os.environ, "PYTHONPATH": ""})
    assert done.returncode == code, done.stderr
    return done.stdout + done.stderr


def test_a_run_of_a_module_of_ones_own_opens_from_another_folder(own, tmp_path):
    said = command(tmp_path, "sample", own / "run", "-n", "2")
    assert (own / "run" / "samples" / "sample_seed0.png").exists(), said


def test_a_missing_module_is_one_line_that_names_the_folder(own, tmp_path, capsys):
    shutil.copytree(own / "run", tmp_path / "run")
    file = tmp_path / "run" / "config.json"
    file.write_text(file.read_text().replace("outside_module", "gone_module"))
    assert launch.main(["status", str(tmp_path / "run")]) in (0, 2)
    assert launch.main(["report", str(tmp_path / "run")]) == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert "no module named 'gone_module'" in said and str(own) in said


def test_a_mistake_in_a_module_of_ones_own_is_one_line(tmp_path):
    (tmp_path / "broken_module.py").write_text("import dataclasses\nMyTask = undefined\n")
    (tmp_path / "c.py").write_text(CONFIG.format(module="broken_module"))
    with pytest.raises(UserError, match=r"broken_module.py:2: NameError: name 'undefined'"):
        config_lib.load(str(tmp_path / "c.py"))


@pytest.mark.parametrize("argv", [("train", "--config", "{c}", "--processes", "2", "--dry-run"),
                                  ("sweep", "--config", "{c}", "--sweep", "scales", "--workdir", "{t}/s", "--dry-run"),
                                  ("show", "{c}"), ("diff", "{c}", "{r}"), ("report", "{r}"), ("status", "{r}")])
def test_every_verb_finds_the_module(own, tmp_path, monkeypatch, argv):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p != str(own)])
    monkeypatch.delitem(sys.modules, "outside_module", raising=False)
    config_lib.resolve_target.cache_clear()
    config_lib.schema.cache_clear()
    names = {"{c}": str(own / "my_config.py"), "{r}": str(own / "run"), "{t}": str(tmp_path)}
    for short, path in names.items():
        argv = [a.replace(short, path) for a in argv]
    assert launch.main(argv) == 0


def test_a_run_keeps_command_notebook_folder_and_legs(own):
    kept = made_by.read(own / "run")
    assert kept["command"].startswith("python launch.py train --config my_config.py:width=8")
    assert kept["notebook"].startswith("My notebook.") and kept["path"] == [str(own)]
    assert [leg["step"] for leg in kept["legs"]] == [0]
    assert made_by.seconds(own / "run") == (kept["legs"][0]["seconds"], 1)
    assert "path" not in json.loads((own / "run" / "config.json").read_text())


def test_the_time_of_all_legs_with_a_killed_one(tmp_path):
    rows = [{"step": 1, "kind": "speed", "time": t} for t in (103.0, 108.0, 205.0)]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    legs = [{"began": 100.0}, {"began": 200.0, "seconds": 30.0}, {"began": 300.0, "seconds": 1.0}]
    (tmp_path / made_by.FILE).write_text(json.dumps({"legs": legs}))
    assert made_by.seconds(tmp_path) == (39.0, 3)  # the killed one: to its last row
    assert made_by.seconds(tmp_path / "none") is None


# What files say of themselves


def test_show_doc_prints_notebook_arguments_and_sweeps(own, capsys):
    assert launch.main(["show", str(own / "my_config.py"), "--doc"]) == 0
    said = capsys.readouterr().out
    for text in ("Its second paragraph.", "width  int   default 16", "small  bool  default False", "width of the data",
                 "--sweep scales  Two of them."):
        assert text in said, said
    assert launch.main(["show", str(own / "run"), "--doc"]) == 0
    assert "Its second paragraph." in capsys.readouterr().out


def test_show_doc_of_a_name_that_a_config_and_a_figure_have(capsys):
    assert launch.main(["show", "gan/dcgan", "--doc"]) == 0
    said = capsys.readouterr().out
    assert "Radford, Metz and Chintala 2016 (arXiv" in said and "variant   str   default 'paper'" in said
    assert "figure gan/dcgan" in said and "given  str  default ''" in said
    assert launch.main(["show", "fields", "--doc"]) == 0 and "official  str" in capsys.readouterr().out
    assert launch.main(["show", "dip/restoratio", "--doc"]) == 2 and "'dip/restoration'" in capsys.readouterr().err
    assert launch.main(["show", "dip/restoration"]) == 2 and "--doc" in capsys.readouterr().err


@pytest.mark.parametrize("row", inspect.listing(), ids=lambda r: f"{r['kind']}-{r['name']}")
def test_every_file_documents_its_arguments(row):
    base = {"config": "configs", "figure": "experiments", "bench": "experiments/bench"}[row["kind"]]
    path = config_lib.ROOT / base / f"{row['name']}.py"
    found, about = config_file.structural_arguments(path)
    assert len(config_file.notebook(path).split("\n")) > 2
    assert bool(found) <= bool(about)
    if row["kind"] == "config":
        assert all(name in about for name in found), (found, about)  # each is explained
        with pytest.raises(UserError, match="no_such_argument"):  # and each is one that the file takes
            config_lib.load(f"{row['name']}:{','.join(f'{k}={v}' for k, v in found.items())},no_such_argument")
    if row["name"].startswith("dip/") and row["kind"] == "config":  # parsed by a function that these files share
        assert {"small", "size"} <= set(found)
    said = config_file.document(path, row["name"])
    assert about in said and bool(found) == ("structural arguments: none" not in said)
    assert all(f"default {v!r}" in said for v in found.values())


def test_arguments_of_a_config_that_fails_are_not_called_none(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text('"""Notebook."""\n\ndef get_config(arg=""):\n    """Says."""\n    raise KeyError("x")\n')
    said = config_file.document(path, "mine")
    assert "not known" in said and "KeyError" in said and "none" not in said and "Notebook." in said
    path.write_text("def get_config(:\n")
    assert "not known" in config_file.document(path, "mine")


# Attributes set in Python


def toy(**more):
    return experiment(task=node("tests.core.toy.ToyTask", optimizer="@optimizer"), data=node("tests.core.toy.ToyData"),
                      optimizer=node("genjax.core.optim.adam"), **more)


def test_attributes_of_default_nodes_can_be_set():
    c = toy()
    c.train.steps = 60
    c.train.steps = "5 epochs"  # any type the command line takes
    c.optimizer.learning_rate = 1
    c.mesh.fsdp = 2
    assert c.data.batch_size == 8  # a default is read
    found = finalize(c)
    expected = override(finalize(toy()), ["train.steps=5 epochs", "optimizer.learning_rate=1", "mesh.fsdp=2"])
    assert config_lib.to_json(found) == config_lib.to_json(expected)


@pytest.mark.parametrize("change, says", [
    (lambda c: setattr(c.train, "stepz", 60), "did you mean 'steps'"),
    (lambda c: setattr(c.trian, "steps", 60), "did you mean 'train'"),
    (lambda c: setattr(c.train, "steps", (1, 2)), "config.train.steps must be"),
])
def test_a_mistake_in_an_attribute_is_the_usual_line(change, says):
    c = toy()
    with pytest.raises(UserError, match=says):
        change(c)
        finalize(c)


# Overrides of keys that hold "@name"


@pytest.mark.parametrize("item, key", [
    ("data.width=8", "--config.width=VALUE"), ("task.optimizer.learning_rate=0.1", "--config.optimizer.learning_rate="),
    ("task.optimizer=adam", "--config.optimizer."), ("task.optimizer.rate=0.1", "its keys, e.g. --config.optimizer.")])
def test_overriding_a_reference_names_the_key_to_override(item, key):
    with pytest.raises(UserError) as e:
        override(finalize(toy_by_name()), [item])
    assert key in str(e.value) and "holds '@" in str(e.value) and "unknown" not in str(e.value)


def test_a_reference_that_others_read_too_can_be_replaced():
    config = finalize(toy_by_name())
    with config.unlocked():
        config.seed = "@width"
    assert override(config, ["data.width=8"]).data.width == 8


def toy_by_name():
    c = toy(width=16)
    c.data.width = "@width"
    return c
