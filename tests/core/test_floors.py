"""The house's plan: a floor imports only floors below it, families do not know each other, files stay short."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FLOORS = {"errors": -1, "ops": 0, "nn": 1, "losses": 1, "data": 1, "metrics": 1, "viz": 1, "core": 2}
FAMILY = 3  # every other room
TOP = 4  # launch.py and its verbs, configs, experiments
LONGEST = 450
FILES = sorted([*ROOT.glob("genjax/**/*.py"), *ROOT.glob("configs/**/*.py"), *ROOT.glob("experiments/**/*.py"),
                ROOT / "launch.py"])


def room(path: Path) -> str:
    """The room of a file: "ops", "dip", ..., or "launch", "configs", "experiments"."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return parts[1] if parts[0] == "genjax" and len(parts) > 1 else parts[0]


def floor(name: str) -> int:
    return FLOORS.get(name, TOP if name in ("launch", "verbs", "configs", "experiments") else FAMILY)


def imports(path: Path) -> list[tuple[int, str]]:
    """(line, dotted module) of every import in a file, at any depth; relative ones made absolute."""
    package = path.relative_to(ROOT).parent.parts
    out = []
    for tree in ast.walk(ast.parse(path.read_text())):
        if isinstance(tree, ast.Import):
            out += [(tree.lineno, a.name) for a in tree.names]
        elif isinstance(tree, ast.ImportFrom):
            base = ".".join(package[: len(package) - tree.level + 1]) if tree.level else ""
            module = ".".join(filter(None, [base, tree.module or ""]))
            out += [(tree.lineno, f"{module}.{a.name}") for a in tree.names]
    return out


def rooms_of(path: Path) -> list[tuple[int, str]]:
    """(line, room) of every import of this repository."""
    out = []
    for line, module in imports(path):
        parts = module.split(".")
        if parts[0] == "genjax" and len(parts) > 1:
            out.append((line, parts[1]))
        elif parts[0] in ("configs", "experiments", "launch"):
            out.append((line, parts[0]))
        elif parts[0] == "tests":
            out.append((line, "tests"))
    return out


def wrong(path: Path) -> list[str]:
    """The imports of a file that the plan forbids."""
    here, found = room(path), []
    for line, there in rooms_of(path):
        up = floor(there) > floor(here) or there == "tests"
        sideways = there != here and floor(there) == floor(here) and floor(here) == FAMILY
        if up or sideways:
            found.append(f"{path.relative_to(ROOT)}:{line} (floor {floor(here)}) imports {there} ({floor(there)})")
    return found


def test_every_room_is_seen():
    assert {"ops", "nn", "losses", "data", "metrics", "viz", "core", "dip"} <= {room(p) for p in FILES}
    assert len(FILES) > 40


def test_a_floor_imports_only_floors_below():
    assert [w for path in FILES for w in wrong(path)] == []


def test_the_check_sees_what_it_forbids(tmp_path, monkeypatch):
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    cases = {"genjax/ops/a.py": "from genjax.nn import layers",
             "genjax/core/b.py": "def f():\n    import genjax.dip.task",
             "genjax/dip/c.py": "from genjax.gan import task",
             "genjax/viz/d.py": "from ..core import config",
             "genjax/data/e.py": "from tests.core import toy",
             "genjax/ops/f.py": "from genjax.core.config import node",
             "genjax/core/g.py": "import configs.dip.denoise",
             "genjax/gan/l.py": "from genjax.verbs import train",
             "genjax/errors.py": "from genjax.ops import conv"}
    fine = {"genjax/dip/h.py": "from genjax.core import config\nfrom genjax.errors import UserError\nfrom . import x",
            "genjax/viz/i.py": "from genjax.metrics import image",
            "configs/dip/j.py": "from genjax.dip import task",
            "genjax/verbs/m.py": "from genjax.gan import task",
            "genjax/ops/k.py": "import jax\nfrom genjax.errors import UserError\nfrom genjax.ops import conv"}
    for name, text in {**cases, **fine}.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    for name in cases:
        assert len(wrong(tmp_path / name)) == 1, name
    for name in fine:
        assert wrong(tmp_path / name) == [], name


def test_ops_know_neither_flax_nor_config():
    for path in ROOT.glob("genjax/ops/*.py"):
        for line, module in imports(path):
            assert module.partition(".")[0] not in ("flax", "ml_collections", "optax"), f"{path}:{line} {module}"


def test_nothing_imports_tensorflow():
    found = [f"{path}:{line}" for path in [*FILES, *ROOT.glob("tests/**/*.py")] for line, module in imports(path)
             if module.partition(".")[0] in ("tensorflow", "tf")]
    assert found == []


def test_files_can_be_read_in_one_sitting():
    long = {str(p.relative_to(ROOT)): n for p in FILES if (n := len(p.read_text().splitlines())) > LONGEST}
    assert long == {}


def test_no_box_without_a_name():
    """A file says what it holds: no utils, helpers, common, misc."""
    assert [p for p in FILES if p.stem.strip("_") in ("utils", "util", "helpers", "common", "misc")] == []


@pytest.mark.parametrize("word", ["NotImplementedError", "TODO", "FIXME", "/work/", "/tmp/", "/root/"])
def test_nothing_is_left_open_and_no_path_of_one_machine(word):
    assert [str(p.relative_to(ROOT)) for p in FILES if word in p.read_text()] == []


def test_what_imports_cost():
    """Looking at configs needs no TensorFlow, no torch and no plotting, and starts no device."""
    code = ("import sys, genjax.core.config as c; c.load('dip/denoise'); from jax._src import xla_bridge as b; "
            "print([m for m in ('tensorflow', 'torch', 'matplotlib', 'tensorflow_datasets', 'skimage', 'orbax') "
            "if m in sys.modules], b.backends_are_initialized())")
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "[] False", done.stdout + done.stderr


def modules_after(*argv: str) -> tuple[str, set[str]]:
    """What a command line prints, and the modules it leaves imported."""
    code = ("import sys; sys.path.insert(0, ''); import launch; launch.main(sys.argv[1:]); "
            "print('modules', *sys.modules)")
    done = subprocess.run([sys.executable, "-c", code, *argv], cwd=ROOT, capture_output=True, text=True, timeout=120)
    said, _, modules = done.stdout.partition("modules ")
    return said + done.stderr, set(modules.split())


@pytest.mark.parametrize("argv", [
    ("trian", "--config", "dip/denoise"), ("train", "--config", "dip/denoize"), ("reproduce", "dip/restorations"),
    ("bench", "dipp"), ("sample", "genjaxx"), ("show", "--config", "dip/denoize")])
def test_a_misspelt_name_is_told_before_jax_is_imported(argv):
    said, modules = modules_after(*argv)
    assert "error: " in said and "did you mean" in said
    assert not modules & {"jax", "flax"}


def test_showing_a_gan_imports_only_what_it_is_made_of():
    said, modules = modules_after("show", "--config", "gan/dcgan")
    assert '"target": "genjax.core.experiment.Experiment"' in said
    assert "jax" in modules and "genjax.core.adversarial" in modules
    assert not modules & {"scipy.stats", "scipy.optimize", "sklearn", "matplotlib", "skimage", "orbax", "tensorstore",
                          "grain", "tensorboardX", "tensorflow_datasets"}


def test_only_what_computes_starts_again_for_huge_pages():
    import launch

    assert [argv[0] for argv in (["show"], ["list"], ["status", "x"], ["--help"], ["trian"], ["train"],
                                 ["sample", "x"], ["diff"], ["reproduce", "x"]) if launch.computes(argv)
            ] == ["train", "sample", "reproduce"]
    assert not launch.computes(["train", "--help"]) and not launch.computes([])


def test_everything_imports_and_none_of_it_is_tensorflow():
    modules = [".".join(p.relative_to(ROOT).with_suffix("").parts) for p in FILES
               if p.parts[-1] != "__init__.py" and "experiments" not in p.parts]
    code = ("import importlib, sys\nfor m in sys.argv[1:]:\n    importlib.import_module(m)\n"
            "print([m for m in sys.modules if m.partition('.')[0] == 'tensorflow'])")
    done = subprocess.run([sys.executable, "-c", code, *modules], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr


def test_test_files_have_names_of_their_own():
    """pytest imports test files by their name alone."""
    names = [p.name for p in ROOT.glob("tests/**/test_*.py")]
    assert sorted(n for n in set(names) if names.count(n) > 1) == []
