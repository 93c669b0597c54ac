"""Shared test settings: slow tests need --slow; jax runs on the CPU with a persistent compilation cache."""

import os
import shutil
import sys
import tempfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
os.environ.setdefault("JAX_PLATFORMS", "cpu")


def pytest_addoption(parser):
    parser.addoption("--slow", action="store_true", help="also run the tests marked slow")


def pytest_collection_modifyitems(config, items):
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
