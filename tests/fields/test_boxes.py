"""Boxes: frames by hand, ranges, collisions, existence, and refusals."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.errors import UserError
from genjax.fields.boxes import CLEVR_EXISTENCE, Boxes, BoxPrior, directions_to_box, inside, to_box


def draw(prior, n=500):
    return jax.tree.map(np.asarray, jax.jit(prior.draw)(jax.random.split(jax.random.key(0), n)))


def test_frames_by_hand():
    boxes = Boxes(jnp.array([[[2.0, 1, 1]]]), jnp.array([[[1.0, 0, 0]]]), jnp.array([[0.25]]), jnp.ones((1, 1), bool))
    p = jnp.array([[[1.0, 0, 0], [2.0, 0, 0], [1.0, 3.0, 0]]])
    np.testing.assert_allclose(to_box(p, boxes)[0, 0], [[0, 0, 0], [0, 1, 0], [-1.5, 0, 0]], atol=1e-6)
    d = to_box(p + 5, boxes) - to_box(p, boxes)
    np.testing.assert_allclose(directions_to_box(jnp.full_like(p, 5), boxes), d, atol=1e-5)
    assert inside(jnp.array([[1.1, 0, -1.1], [1.11, 0, 0]])).tolist() == [True, False]


def test_draws_lie_in_their_ranges_and_share_one_scale():
    prior = BoxPrior(boxes=2, scale_min=(0.2, 0.16, 0.16), scale_max=(0.25, 0.2, 0.2), centre_min=(-0.22, -0.12, 0.0),
                     centre_max=(0.22, 0.12, 0.0), rotation=(0.4, 0.6))
    b = draw(prior)
    for got, low, high in ((b.scale, prior.scale_min, prior.scale_max), (b.centre, prior.centre_min, prior.centre_max),
                           (b.angle, 0.4, 0.6)):
        at = (got - np.float32(low)) / np.maximum(np.float32(high) - np.float32(low), 1e-9)
        assert at.min() > -1e-5 and at.max() < 1 + 1e-5 and abs(at[at != 0].mean() - 0.5) < 0.03
    share = (b.scale - prior.scale_min) / (np.float32(prior.scale_max) - prior.scale_min)
    np.testing.assert_allclose(share[..., 0], share[..., 1], atol=1e-5)
    few = jax.jit(prior.draw)(jax.random.split(jax.random.key(0), 500)[7:9])
    np.testing.assert_array_equal(few.scale, b.scale[7:9])
    middle = prior.place([[0.5] * 3] * 2, [[0.5] * 3] * 2, [0.5, 1.0])
    np.testing.assert_allclose(middle.centre[0, 0], 0, atol=1e-7)
    np.testing.assert_allclose(middle.angle[0], [0.5, 0.6])


def test_no_collisions():
    prior = BoxPrior(boxes=5, scale_min=(0.17,) * 3, scale_max=(0.17,) * 3, centre_min=(-0.71, -0.71, 0.17),
                     centre_max=(0.71, 0.71, 0.17), padding=0.05)
    c = draw(prior).centre
    away = np.abs(c[:, :, None] - c[:, None])[..., :2].max(-1) + 9 * np.eye(5)
    assert (away.min((1, 2)) >= 2 * 0.17 + 0.05 - 1e-5).mean() > 0.99
    free = draw(BoxPrior(boxes=5, scale_min=(0.17,) * 3, scale_max=(0.17,) * 3)).centre
    assert np.abs(free[:, 0] - free[:, 1])[..., :2].max(-1).min() < 0.3, "without padding they may overlap"


def test_existence():
    prior = BoxPrior(boxes=5, existence=CLEVR_EXISTENCE)
    present = draw(prior, 4000).present
    counts = np.bincount(present.sum(1), minlength=6)[1:] / 4000
    np.testing.assert_allclose(counts, CLEVR_EXISTENCE, atol=0.03)
    np.testing.assert_allclose(present.mean(0), present.mean(), atol=0.04)


def test_a_box_is_not_placed_without_a_size():
    """Half of it is the share -1 of a range that ends at twice its beginning."""
    prior = BoxPrior(scale_min=(0.15,) * 3, scale_max=(0.3,) * 3)
    assert (np.asarray(prior.place([[-0.9] * 3], [[0.5] * 3], [0.5]).scale) > 0).all()
    for share in (-1.0, -1.5, np.nan):
        with pytest.raises(UserError, match="leaves a box without a size"):
            prior.place([[share] * 3], [[0.5] * 3], [0.5])


@pytest.mark.parametrize("bad, says", [
    ({"boxes": 0}, "at least 1"),
    ({"boxes": 9, "padding": 0.1, "scale_min": (0.5,) * 3, "scale_max": (0.5,) * 3}, "9 boxes .* do not fit"),
    ({"boxes": 6, "padding": 0.05, "scale_min": (0.17,) * 3, "scale_max": (0.17,) * 3,
      "centre_min": (-0.7, -0.7, 0.0), "centre_max": (0.7, 0.7, 0.0)}, "or rarely do by chance in 256 tries"),
    ({"scale_min": (0.0, 0.1, 0.1)}, "size above 0"),
    ({"centre_min": (1.0, 0, 0)}, "centre goes from"),
    ({"existence": (0.5,)}, "give 1 probabilities"),
])
def test_refusals(bad, says):
    with pytest.raises(UserError, match=says):
        BoxPrior(**bad)


def test_so_many_boxes_are_refused_as_would_collide():
    """At the border between a prior that is accepted and one that is not: the share of scenes with a collision."""
    room = {"scale_min": (0.17,) * 3, "scale_max": (0.17,) * 3, "centre_min": (-0.7, -0.7, 0.0),
            "centre_max": (0.7, 0.7, 0.0), "padding": 0.05}

    def colliding(prior):
        c = draw(prior).centre
        away = np.abs(c[:, :, None] - c[:, None])[..., :2].max(-1) + 9 * np.eye(prior.boxes)
        return (away.min((1, 2)) < 2 * 0.17 + 0.05 - 1e-5).mean()

    with pytest.raises(UserError, match="more tries"):
        BoxPrior(boxes=6, **room)
    assert colliding(BoxPrior(boxes=6, tries=2048, **room)) <= 0.01
    assert BoxPrior(boxes=30, **{**room, "padding": -1.0}).boxes == 30, "those that may overlap are not counted"
