"""FSDP: parameters, optimiser state and average fall to 1/N per device, in the compiled program and in memory."""

import json
import os
import subprocess
import sys

import pytest

SAW = ("inputs", "outputs", "placed", "after a step")  # the compiled program's, then the buffers on the fullest device


@pytest.fixture(scope="module")
def found(root):
    """What tests/core/fsdp_bytes.py found."""
    env = {**os.environ, "JAX_NUM_CPU_DEVICES": "8", "JAX_PLATFORMS": "cpu"}
    done = subprocess.run([sys.executable, "tests/core/fsdp_bytes.py"], cwd=root, env=env, capture_output=True,
                          text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["devices"] == 8
    return found


@pytest.mark.parametrize("saw", SAW)
@pytest.mark.parametrize("n", [2, 4, 8])
def test_every_part_falls_to_one_nth(found, n, saw):
    whole, part = found["1"][saw], found[str(n)][saw]
    assert set(part) == {"params", "opt_state", "ema"}
    for name in part:
        assert part[name] == pytest.approx(whole[name] / n, rel=0.05), name


@pytest.mark.parametrize("n", [1, 2, 4, 8])
def test_the_program_takes_the_state_and_its_rows_and_nothing_else(found, n):
    """XLA's own account of one device's arguments; all of the state is donated, so a step needs no second one."""
    got = found[str(n)]
    state = sum(got["inputs"].values()) + 4  # the step
    assert got["donated"] == state
    assert 0 <= got["arguments"] - state - got["batch"] <= 64  # the random key, the number of steps
    assert got["batch"] == found["1"]["batch"], "each device has rows of its own"


def test_whole_copies_without_fsdp(found):
    """The measure itself: replicated, each of the eight devices holds everything."""
    for saw in SAW:
        assert found["8 replicated"][saw] == found["1"][saw]
    assert found["8 replicated"]["donated"] == found["1"]["donated"]


def test_the_state_is_more_than_scalars(found):
    assert found["1"]["placed"]["params"] > 10**6 and found["1"]["placed"]["opt_state"] > 2 * 10**6
