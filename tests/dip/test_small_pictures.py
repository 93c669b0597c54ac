"""A picture smaller than the networks' multiples: it is restored, and every piece of advice given for it works."""

import jax
import numpy as np
import pytest

from genjax.core import config as config_lib
from genjax.core.config import load
from genjax.errors import UserError
from genjax.viz.grid import save_png


@pytest.mark.parametrize("name", ["dip/denoise", "dip/inpaint_hole", "dip/super_resolution"])
def test_twenty_pixels(tmp_path, name):
    image = f"image={save_png(tmp_path / 'p.png', np.zeros((20, 20, 3), np.uint8))}"

    def side(*overrides):
        experiment = config_lib.build(load(name, [image, *overrides]))
        spec = experiment.data.element_spec
        state = jax.eval_shape(lambda: experiment.task.init(jax.random.key(0), spec))
        return state.extra["ema"].shape[1]

    with pytest.raises(UserError, match="set a smaller crop_multiple$"):
        side("data.crop_multiple=32")
    assert side() == 20 and side("data.crop_multiple=4") == 20
    with pytest.raises(UserError, match="a 10x10 picture .* set a smaller crop_multiple or a larger size"):
        side("data.crop_multiple=16", "data.size=10")
    assert side("data.crop_multiple=16", "data.size=18") == 16 and side("data.crop_multiple=2", "data.size=12") == 12
