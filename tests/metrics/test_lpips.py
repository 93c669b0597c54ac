"""LPIPS against a slow version in the published layout, its properties, its gradients, and misuse."""

import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.errors import UserError
from genjax.metrics import lpips

sys.path.insert(0, str(Path(__file__).parent))
import published_layout as slow  # noqa: E402

WIDTHS = {"alex": (64, 192, 384, 256, 256), "vgg": (64, 128, 256, 512, 512),
          "squeeze": (64, 128, 256, 384, 384, 512, 512)}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Random SqueezeNet and heads in their published form."""
    folder = tmp_path_factory.mktemp("lpips")
    trunk = slow.arrays(slow.SQUEEZENET)
    rng = np.random.default_rng(1)
    heads = {f"lin{i}.model.1.weight": rng.random((1, n, 1, 1)).astype(np.float32)
             for i, n in enumerate(WIDTHS["squeeze"])}
    np.savez(folder / "trunk.npz", **trunk)
    np.savez(folder / "heads.npz", **heads)
    np.savez(folder / "archive.npz", **{f"v0.1/squeeze/{k}": v for k, v in heads.items()},
             **{"v0.0/squeeze/lin0.model.1.weight": np.zeros(64), "v0.1/alex/lin0.model.1.weight": np.zeros(64)})
    return folder, trunk, heads


@pytest.fixture(scope="module")
def metric(files):
    return lpips.load("squeeze", files[0] / "trunk.npz", files[0] / "heads.npz")


@pytest.fixture(scope="module")
def pair():
    rng = np.random.default_rng(2)
    return rng.uniform(-1, 1, (2, 2, 35, 33, 3)).astype(np.float32)


def slow_lpips(a, b, trunk, heads):
    """a, b [H,W,3] in [-1,1]."""
    shift, scale = np.array([-0.030, -0.088, -0.188]), np.array([0.458, 0.448, 0.450])
    fa, fb = (slow.squeezenet(((x - shift) / scale).transpose(2, 0, 1), trunk) for x in (a, b))
    total = 0.0
    for i, layer in enumerate((1, 4, 7, 9, 10, 11, 12)):
        u, v = (f[layer] / (np.sqrt((f[layer] ** 2).sum(0)) + 1e-10) for f in (fa, fb))
        total += (heads[f"lin{i}.model.1.weight"][0] * (u - v) ** 2).sum(0).mean()
    return total


def test_against_the_slow_version(files, metric, pair):
    _, trunk, heads = files
    want = [slow_lpips(a, b, trunk, heads) for a, b in zip(*pair, strict=True)]
    got = metric(*pair, value_range=(-1, 1))
    assert got.shape == (2,) and min(want) > 0.1
    np.testing.assert_allclose(got, want, rtol=1e-4)


def test_properties(metric, pair):
    a, b = pair
    np.testing.assert_array_equal(metric(a, a, value_range=(-1, 1)), [0, 0])
    d = metric(a, b, value_range=(-1, 1))
    np.testing.assert_allclose(metric(b, a, value_range=(-1, 1)), d, rtol=1e-5)
    np.testing.assert_allclose(metric(a / 2 + 0.5, b / 2 + 0.5, value_range=(0, 1)), d, rtol=1e-4)
    # pictures in [0,1] called [-1,1] are another number: the range matters
    wrong = metric(a / 2 + 0.5, b / 2 + 0.5, value_range=(-1, 1))
    assert float(jnp.abs(wrong - d).min()) > 1e-2 * float(d.min())


def test_an_archive_of_heads_is_the_same(files, metric):
    folder, *_ = files
    other = lpips.load("squeeze", folder / "trunk.npz", folder / "archive.npz")
    assert other.weights_id == metric.weights_id and len(metric.weights_id) == 12


def test_gradients_in_both_pictures(pair):
    """Directional derivatives against central differences, through the pytree as an argument of jit."""
    metric = lpips.random("alex")  # the quickest to compile
    u, v = np.random.default_rng(3).uniform(-1, 1, pair.shape).astype(np.float32)

    @jax.jit
    def value_and_grad(metric, a, b):
        return jax.value_and_grad(lambda a, b: metric(a, b, value_range=(-1, 1)).sum(), (0, 1))(a, b)

    h, (a, b) = 3e-3, 0.9 * pair
    _, (ga, gb) = value_and_grad(metric, a, b)
    for grad, direction, da, db in ((ga, u, u, 0), (gb, v, 0, v)):
        up, down = (metric(a + s * h * da, b + s * h * db, value_range=(-1, 1)).sum() for s in (1, -1))
        slope = float(jnp.vdot(grad, direction))
        assert abs(slope) > 1e-3
        np.testing.assert_allclose((up - down) / (2 * h), slope, rtol=5e-2, atol=2e-3)


def test_a_dead_pixel_has_gradient_zero():
    f = jnp.zeros((1, 1, 2, 3)).at[0, 0, 1].set(jnp.array([3.0, 0.0, 4.0]))
    np.testing.assert_allclose(lpips._unit(f)[0, 0], [[0, 0, 0], [0.6, 0, 0.8]], rtol=1e-6)
    grad = jax.jit(jax.grad(lambda f: (lpips._unit(f) ** 2 * jnp.arange(3.0)).sum()))(f)
    assert bool(jnp.isfinite(grad).all()) and bool((grad[0, 0, 0] == 0).all())


@pytest.mark.parametrize("net", WIDTHS)
def test_layers_and_heads(net):
    """Channels per layer, altogether 1152, 1472 and 2240 weights."""
    assert lpips.VARIANTS[net].widths == WIDTHS[net]
    assert sum(WIDTHS[net]) == {"alex": 1152, "vgg": 1472, "squeeze": 2240}[net]
    trunk = lpips.VARIANTS[net].trunk.template["params"]
    assert trunk and not any(name.startswith("classifier") for name in trunk)


@pytest.mark.parametrize(("net", "says"), [("alex", "take vgg or squeeze"), ("squeeze", "take vgg"),
                                           ("vgg", "less than 16: leave it out")])
def test_the_smallest_pictures(net, says):
    trunk = lpips.VARIANTS[net].trunk
    metric = lpips.LPIPS(net, "none", None, ())

    def apply(side):
        x = jax.ShapeDtypeStruct((1, side, side, 3), jnp.float32)
        return min(min(v.shape) for v in jax.eval_shape(trunk.module.apply, trunk.template, x).values())

    assert apply(trunk.least) > 0
    with pytest.raises((TypeError, ValueError)):
        apply(trunk.least - 1)
    x = np.zeros((1, trunk.least + 3, trunk.least - 1, 3), np.float32)
    with pytest.raises(UserError, match=f"LPIPS {net} takes pictures of at least {trunk.least}x.*{says}"):
        metric(x, x, value_range=(-1, 1))


@pytest.mark.slow
@pytest.mark.parametrize("net", ["alex", "vgg"])
def test_the_other_networks_run(net):
    metric, (a, b) = lpips.random(net), np.random.default_rng(0).uniform(0, 1, (2, 1, 48, 48, 3)).astype(np.float32)
    assert float(metric(a, b, value_range=(0, 1))[0]) > 0
    np.testing.assert_array_equal(metric(a, a, value_range=(0, 1)), [0])


def test_misuse_is_one_line(files, metric, pair):
    folder, trunk, heads = files
    a, b = pair
    np.savez(folder / "negative.npz", **heads | {"lin0.model.1.weight": -heads["lin0.model.1.weight"]})
    np.savez(folder / "few.npz", **{k: v for k, v in heads.items() if "lin6" not in k})
    eight = np.uint8(a * 100 + 100)
    for call, message in (
            (lambda: metric(a, b), None),  # no default range
            (lambda: metric(a, b, value_range=(0, 1)), "not in value_range"),
            (lambda: metric(a * np.nan, b, value_range=(-1, 1)), "not in value_range"),
            (lambda: metric(eight, eight, value_range=(0, 1)), r"uint8 need value_range=\(0, 255\)"),
            (lambda: metric(a, b, value_range=(1, -1)), "black, white"),
            (lambda: metric(a, b[:, :30], value_range=(-1, 1)), "one shape"),
            (lambda: metric(a[..., :1], b[..., :1], value_range=(-1, 1)), r"\[N,H,W,3\]"),
            (lambda: lpips.random("alexnet"), "did you mean 'alex'"),
            (lambda: lpips.load("squeeze", folder / "heads.npz", folder / "heads.npz"), "LPIPS squeeze.*missing feat"),
            (lambda: lpips.load("squeeze", folder / "trunk.npz", folder / "few.npz"), "lin6"),
            (lambda: lpips.load("squeeze", folder / "trunk.npz", folder / "negative.npz"), "negative")):
        with pytest.raises(UserError if message else TypeError, match=message) as e:
            call()
        assert "\n" not in str(e.value)
