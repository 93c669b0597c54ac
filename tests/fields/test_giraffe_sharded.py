"""GIRAFFE's training on 8 devices, scenes and rays split over them: the numbers of one device."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from tests.fields.eight_devices import STEPS


@pytest.mark.alone
@pytest.mark.parametrize("mesh", ["4x2", pytest.param("8", marks=pytest.mark.slow)])
def test_eight_devices_compute_what_one_does(root, mesh):
    env = {**os.environ, "JAX_NUM_CPU_DEVICES": "8", "JAX_PLATFORMS": "cpu"}
    done = subprocess.run([sys.executable, "-m", "tests.fields.eight_devices", "1", mesh], cwd=root, env=env,
                          capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["devices"] == 8
    one, many = found["metrics"]["1"], found["metrics"][mesh]
    assert len(many) == STEPS == len({row["loss"] for row in many})
    for a, b in zip(many, one, strict=True):
        assert a.keys() == b.keys()
        np.testing.assert_allclose(list(a.values()), list(b.values()), rtol=1e-5, atol=1e-6)
    # Features are put together for the convolutions, per device 2 images of 64 rays, 4 numbers each; no sample's are.
    assert max(found["gathered"][mesh], default=0) <= 2 * 64 * 4
    assert found["apart"][mesh] < 1e-6 < 1e-5 < found["moved"]
