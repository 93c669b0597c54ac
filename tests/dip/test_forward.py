"""The forward model of super-resolution: size, centre and weight of every filter it offers."""

import typing

import jax
import numpy as np
import pytest

from genjax.core import config as config_lib
from genjax.core.experiment import Programs
from genjax.dip import forward
from genjax.ops.resample import downsampling_kernel
from tests.dip import tiny

KINDS = typing.get_args(forward.Kernel)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("factor", [2, 3, 4, 5, 8])
def test_every_filter_sees_the_middle_of_its_block(kind, factor):
    """On a ramp a symmetric filter reads its centre: the mean of the block, as the data's own shrinking gives."""
    kernel = forward.centred_kernel(factor, kind)
    assert kernel.shape[0] % 2 == factor % 2 and kernel.sum() == pytest.approx(1, abs=1e-5)
    blocks = 2 * len(kernel) // factor + 4
    x, y = np.meshgrid(np.arange(blocks * factor), np.arange(blocks * factor))
    low = np.asarray(forward.observe(np.stack((x, y), -1).astype(np.float32), factor, kind))
    assert low.shape == (blocks, blocks, 2)
    edge = len(kernel) // (2 * factor) + 1
    want = np.arange(blocks) * factor + (factor - 1) / 2
    inner = slice(edge, blocks - edge)
    np.testing.assert_allclose(low[inner, inner, 0], np.broadcast_to(want[inner], (blocks - 2 * edge,) * 2), atol=1e-3)
    np.testing.assert_allclose(low[inner, inner, 1].T, low[inner, inner, 0], atol=1e-4)
    flat = forward.observe(np.full((blocks * factor, factor, 1), 0.7, np.float32), factor, kind)
    np.testing.assert_allclose(flat, np.full((blocks, 1, 1), 0.7), atol=1e-5)  # to the border and beyond


def test_the_gaussians_are_the_published_ones_where_those_are_centred():
    for kind in ("gauss12", "gauss1sq2"):
        np.testing.assert_array_equal(forward.centred_kernel(3, kind), downsampling_kernel(3, kind))
    assert forward.centred_kernel(4, "gauss12").shape == (8, 8) and forward.centred_kernel(16, "gauss12").shape[0] == 16


@pytest.mark.parametrize("kind", KINDS)
def test_the_task_takes_every_filter(kind):
    for factor in (2, 4):
        task, batch = tiny.make(factor=factor, kernel=kind), tiny.pictures(factor=factor)
        state = jax.eval_shape(lambda k, t=task, b=batch: t.init(k, tiny.spec(b)), jax.random.key(0))
        _, metrics = jax.eval_shape(task.step, state, tiny.spec(batch), jax.random.key(0))
        assert metrics["loss"].shape == ()


def test_an_odd_factor_trains():
    config = config_lib.smoke(config_lib.load("dip/super_resolution:factor=3"))
    experiment = config_lib.build(config_lib.override(config, ["train.steps=1"]))
    programs = Programs(experiment)
    _, metrics = jax.eval_shape(programs._one, programs.abstract, experiment.data.element_spec, jax.random.key(0))
    assert experiment.data.element_spec["observed"].shape == (1, 10, 10, 3) and metrics["loss"].shape == ()
