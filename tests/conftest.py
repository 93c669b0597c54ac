"""Shared test settings: slow tests need --slow; jax runs on the CPU, compiles quickly and keeps what it compiled."""

import importlib.metadata
import os
import shutil
import sys
import tempfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
os.environ.setdefault("JAX_PLATFORMS", "cpu")

# Compiling is what tests wait for, not running: XLA's quickest code, here and in the processes tests start. A value
# of yours, the empty one too, is left alone: `XLA_FLAGS= python -m pytest` tests the code that users run.
QUICK = ["--xla_backend_optimization_level=0", "--xla_llvm_disable_expensive_passes=true"]
if tuple(map(int, importlib.metadata.version("jaxlib").split(".")[:2])) < (0, 11):  # later ones refuse to know it
    QUICK.append("--xla_cpu_use_fusion_emitters=false")
os.environ.setdefault("XLA_FLAGS", " ".join(QUICK))


def pytest_addoption(parser):
    parser.addoption("--slow", action="store_true", help="also run the tests marked slow")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config, items):
    """With `--dist loadgroup` a file's tests share a process, and what they compile; those marked `alone`, which share
    nothing and take long, go to whichever process is free."""
    if config.pluginmanager.hasplugin("xdist"):
        for item in items:
            if "alone" not in item.keywords:
                item.add_marker(pytest.mark.xdist_group(item.nodeid.split("::")[0]))
    if config.getoption("--slow"):
        return
    skip = pytest.mark.skip(reason="slow: run with --slow")
    for item in items:
        if "slow" in item.keywords:
            item.add_marker(skip)


def pytest_configure(config):
    """Programs are compiled once per session (or once for all, with GENJAX_CACHE), by all its processes together."""
    if "GENJAX_CACHE" not in os.environ:
        os.environ["GENJAX_CACHE"] = config.own_cache = tempfile.mkdtemp(prefix="genjax-tests-")


def pytest_unconfigure(config):
    if hasattr(config, "own_cache"):
        shutil.rmtree(config.own_cache, ignore_errors=True)


@pytest.fixture(scope="session", autouse=True)
def compilation_cache():
    """Turns the cache on."""
    from genjax.core import backend

    backend.start()


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository root."""
    return ROOT
