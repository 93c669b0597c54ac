"""Path length where it is known: linear decoders, whose paths have closed speeds."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.errors import UserError
from genjax.metrics.perceptual_path import (
    PathSettings,
    path_distances,
    perceptual_path_length,
    trimmed_mean,
)

KEY, N, D = jax.random.key(3), 12, 16


class Squared:
    """|a - b|^2, summed over the image."""

    name, weights_id = "squared", "none"

    def __call__(self, a, b):
        return jnp.sum((a - b) ** 2, (1, 2, 3))


def as_image(z, keys, gain=1.0):
    return gain * z.reshape(-1, 4, 4, 1)


def noisy(z, keys, gain=1.0):
    """The same noise at both ends of a step cancels."""
    return as_image(z, keys, gain) + jax.vmap(lambda k: jax.random.normal(k, (4, 4, 1)))(keys)


def stretched(z, gain=1.0):
    return 2.0 * z[:, None, :]  # as StyleGAN's w: one row per layer


def ends():
    """z0, z1 of every pair, as the code draws them."""
    keys = [jax.random.split(jax.random.fold_in(KEY, i), 4) for i in range(N)]
    return (np.stack([jax.random.normal(k[j], (D,)) for k in keys]).astype(np.float64) for j in (0, 1))


def lengths(decode=as_image, n=N, batch=5, args=(), mapping=None, **settings):
    return path_distances(decode, Squared(), KEY, n, width=D, settings=PathSettings(epsilon=1e-2, **settings),
                          mapping=mapping, args=args, batch=batch)


def test_lines_have_the_squared_length_of_their_ends():
    a, b = ends()
    expected = ((b - a) ** 2).sum(1)
    np.testing.assert_allclose(lengths(), expected, rtol=1e-4)
    np.testing.assert_allclose(lengths(sampling="full"), expected, rtol=1e-3)
    np.testing.assert_allclose(lengths(args=(jnp.float32(3.0),), mapping=stretched), 36 * expected, rtol=1e-4)


def test_circles_have_the_squared_angle():
    a, b = ends()
    w = np.arccos((a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1))
    chord = (2 * np.sin(w * 1e-2 / 2) / 1e-2) ** 2 * D
    np.testing.assert_allclose(lengths(space="z"), chord, rtol=1e-4)
    np.testing.assert_allclose(lengths(space="z", sampling="full"), chord, rtol=1e-3)


def test_pair_i_is_a_function_of_key_and_i_and_noise_stays():
    np.testing.assert_allclose(lengths(n=7, batch=3), lengths()[:7], rtol=1e-5)
    np.testing.assert_allclose(lengths(noisy), lengths(), rtol=1e-3)


def test_crop_and_reduction():
    a, b = (x.reshape(N, 4, 4) for x in ends())
    np.testing.assert_allclose(lengths(crop=True), ((b - a)[:, 1:3, 1:3] ** 2).sum((1, 2)), rtol=1e-4)

    def large(z, keys):
        return as_image(z, keys).repeat(128, 1).repeat(128, 2)  # 512 x 512: averaged down to 256 x 256

    expected = ((b - a)[:2] ** 2).sum((1, 2)) * 64**2
    np.testing.assert_allclose(lengths(large, n=2), expected, rtol=1e-3)


def test_trimming_leaves_out_the_ends():
    x = np.arange(200.0)
    x[0], x[-1] = -1e9, 1e9
    low, high = np.sort(x)[1], np.sort(x)[198]  # 1 % and 99 % of 199 steps: between samples 1, 2 and 197, 198
    assert trimmed_mean(x) == pytest.approx(x[(x >= low) & (x <= high)].mean())
    assert trimmed_mean(x, 0, 100) == pytest.approx(x.mean())


def test_the_value_carries_its_recipe():
    s = PathSettings(space="z", sampling="full", epsilon=1e-2)
    value = perceptual_path_length(as_image, Squared(), KEY, N, width=D, settings=s, batch=5)
    assert float(value) == pytest.approx(trimmed_mean(lengths(space="z", sampling="full")), rel=1e-6)
    assert value.recipe.key == "ppl_zfull_squared" and value.recipe.n_fake == N
    other = perceptual_path_length(as_image, Squared(), KEY, N, width=D, batch=5, settings=PathSettings(epsilon=1e-2))
    with pytest.raises(UserError, match="parameters.sampling: full / end; parameters.space: z / w"):
        assert value < other


def test_refusals():
    with pytest.raises(UserError, match="unknown latent space 'v'"):
        PathSettings(space="v")
    with pytest.raises(UserError, match="unknown sampling"):
        PathSettings(sampling="begin")
    with pytest.raises(UserError, match="epsilon"):
        PathSettings(epsilon=0)
    with pytest.raises(UserError, match="at least 1"):
        lengths(n=0)
