"""Many pictures at once on 8 devices: the numbers of one device, an eighth of the state each, nothing gathered."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from genjax.core import config as config_lib
from genjax.core.checkpoint import Checkpoints, digest
from genjax.core.experiment import Programs
from tests.dip import eight_devices


@pytest.fixture(scope="module")
def run(tmp_path_factory, root):
    """`(what the process with 8 devices found, its folder)`."""
    folder = tmp_path_factory.mktemp("eight")
    env = {**os.environ, "JAX_NUM_CPU_DEVICES": "8", "JAX_PLATFORMS": "cpu"}
    done = subprocess.run([sys.executable, "-m", "tests.dip.eight_devices", str(folder)], cwd=root, env=env,
                          capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["devices"] == 8
    return found, folder


def test_eight_devices_compute_what_one_does(run):
    found, _ = run
    assert all(d < 1e-4 for d in found["differences"].values()), found["differences"]
    np.testing.assert_allclose(*found["loss"], rtol=1e-4)
    assert {"ema", "best", "early", "output last", "output early"} <= set(found["differences"])


def test_every_device_holds_an_eighth(run):
    found, _ = run
    assert found["rows_per_device"] == [1] and found["devices_per_leaf"] == [8]


def test_no_parameter_travels(run):
    """Only means over the pictures cross devices: the state's smallest weights are larger than the largest of them."""
    found, _ = run
    assert all(kind == "all-reduce" or size <= 8 for kind, size in found["collectives"]), found["collectives"]
    assert max(size for _, size in found["collectives"]) <= 8


def test_one_picture_on_eight_devices_is_replicated(run):
    found, _ = run
    assert found["lone_replicated"]
    np.testing.assert_allclose(*found["lone_loss"], rtol=1e-5)


def test_a_checkpoint_of_eight_devices_goes_on_on_one(run):
    found, folder = run
    programs = Programs(config_lib.build(eight_devices.config(8, 1)))
    state = Checkpoints(folder / "checkpoints").restore(programs.abstract)
    assert digest(state) == found["digest"] and int(state.step) == eight_devices.STEPS
