"""Controls of runs with generators: what each shows is what the latent tools make of the samples' own latents."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from genjax.core import control
from genjax.core import rng as rng_lib
from genjax.data.growing import GrowthSchedule
from genjax.errors import UserError
from genjax.gan import controls, latent
from genjax.gan.growing import Growing
from genjax.gan.progressive import Discriminator
from genjax.gan.stylegan import Generator
from genjax.metrics import lpips, weights
from genjax.viz.grid import save_png, to_uint8
from tests.gan import tiny

RNG = rng_lib.stream(0, "sample")
NET = dict(resolution=8, channels=1, fmap_base=16, fmap_max=4)


@pytest.fixture(scope="module", autouse=True)
def quick_compilation():
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


@pytest.fixture(scope="module")
def grown():
    """StyleGAN at 8 x 8 with random variables, and its snapshots at full size and in a fade."""
    task = Growing(schedule=GrowthSchedule(resolution=8, batch_sizes=(4,)), discriminator=Discriminator(**NET),
                   generator=Generator(**NET, z_dim=4, w_dim=4, mapping_layers=1), g_optimizer=optax.adam(1e-3),
                   d_optimizer=optax.adam(1e-3), latent_dim=4)
    v = jax.eval_shape(lambda: task.generator.init({"params": jax.random.key(0)}, jnp.zeros((1, 4))))
    rng = np.random.default_rng(0)
    v = jax.tree.map(lambda s: jnp.asarray(rng.standard_normal(s.shape), jnp.float32), v)
    found = {"params": v["params"], "extra": {"buffers": v["buffers"]}}
    return task, *({**found, "resolution": jnp.int32(r), "alpha": jnp.float32(a)} for r, a in ((8, 1), (8, .3), (4, 1)))


def cell(sheet, x, i, j, padding=2, left=0, top=0):
    """Picture (i, j) of a sheet, at its own size."""
    scale, (h, w) = max(1, 64 // x.shape[1]), x.shape[1:3]
    y, x0 = top + padding + i * (h * scale + padding), left + padding + j * (w * scale + padding)
    return sheet[y:y + h * scale:scale, x0:x0 + w * scale:scale, :1]


def seen(x):
    return to_uint8(np.clip((np.asarray(x) + 1) / 2, 0, 1))


def test_pictures_are_those_of_the_samples(grown):
    task, variables, fading, small = grown
    for v in (fading, small):
        x = task.sample(v, RNG, 3)["samples"]
        assert x.shape[1] == int(v["resolution"])
        sheet = task.controls()["truncation"](v, RNG, n=3, psi=(1.0, 0.0))["truncation"]
        top = sheet.shape[0] - 3 * (max(1, 64 // x.shape[1]) * x.shape[1] + 2) - 2
        for i in range(3):
            assert abs(cell(sheet, x, i, 0, top=top).astype(int) - seen(x[i])).max() <= 1
        assert np.array_equal(cell(sheet, x, 0, 1, top=top), cell(sheet, x, 2, 1, top=top)), "psi 0: the mean"
        film = task.controls()["walk"](v, RNG, n=3, steps=2)["walk"]
        assert film.shape[:1] == (6,) and film.max() <= 1
        f = film.shape[1] // x.shape[1]
        for i in range(3):
            assert np.allclose(film[2 * i, ::f, ::f], np.clip((x[i] + 1) / 2, 0, 1), atol=1e-4)
    assert not np.allclose(task.sample(fading, RNG, 1)["samples"], task.sample(variables, RNG, 1)["samples"])


def test_layers_of_a_small_generator_are_those_in_use(grown):
    task, variables, _, small = grown
    assert task.style(variables).map(np.ones((1, 4), np.float32)).shape[1] == 4
    assert task.style(small).map(np.ones((1, 4), np.float32)).shape[1] == 2


def test_a_projection_finds_a_sample(grown, tmp_path):
    task, variables, _, _ = grown
    x = task.sample(variables, RNG, 1)["samples"][0]
    save_png(tmp_path / "target.png", np.clip((x + 1) / 2, 0, 1))
    found = task.controls()["projection"](variables, RNG, image=str(tmp_path / "target.png"), steps=60)
    path = found["path"]
    half = path.shape[2] // 2
    apart = np.square(path[:, :, :half] - path[:, :, half:]).mean((1, 2, 3))
    assert apart[-1] < 0.5 * apart[0] and found["projection"].ndim == 3


def test_a_projection_is_given_the_weights_of_its_distance(grown, tmp_path, monkeypatch):
    task, variables, _, _ = grown
    save_png(tmp_path / "target.png", np.zeros((8, 8, 3)))
    project = functools.partial(task.controls()["projection"], variables, RNG, image=str(tmp_path / "target.png"))
    monkeypatch.setenv("GENJAX_WEIGHTS", str(tmp_path))
    monkeypatch.setattr(weights.urllib.request, "urlopen", lambda *a, **k: (_ for _ in ()).throw(OSError("no network")))
    with pytest.raises(UserError, match="give its path .--control.trunk=FILE and --control.heads=FILE."):
        project(distance="vgg")
    with pytest.raises(UserError, match="add --control.distance=vgg"):
        project(trunk="a.pth")
    asked = []
    monkeypatch.setattr(lpips, "load", lambda *a: asked.append(a) or lpips.random(a[0]))
    with pytest.raises(UserError, match="LPIPS squeeze takes pictures of at least 17x17 pixels, got 8x8"):
        project(distance="squeeze", trunk="a.pth", heads="b.pth", steps=1)
    assert asked == [("squeeze", "a.pth", "b.pth")]
    about = task.controls()["projection"].func.__doc__.splitlines()[0]  # what the listing shows
    assert "space=w steps=1000 distance=vgg" in about


def test_what_a_generator_is_fit_for(grown):
    task, variables, _, _ = grown
    names = set(task.controls())
    assert names == {"interpolation", "walk", "mixing", "truncation", "noise", "projection"}
    assert all(control.options(name, f, ["image=x"] if name == "projection" else []) is not None
               for name, f in task.controls().items())
    plain = tiny.task(classes=2, conditional=True)
    state = plain.init(jax.random.key(0), tiny.SPEC)
    assert set(plain.controls()) == {"interpolation", "walk"}
    v = plain.export(state)
    film = plain.controls()["walk"](v, RNG, n=2, steps=1, label=1)["walk"][:, ::64, ::64]
    want = plain.sample(v, RNG, 2, np.array([1, 1]))["samples"]
    assert np.allclose(film, np.clip((want + 1) / 2, 0, 1), atol=1e-5)
    assert plain.controls()["interpolation"](v, RNG, n=2, steps=3)["interpolation"].dtype == np.uint8
    for wrong, says in (({"psi": 0.5}, "no styles"), ({"space": "w"}, "no styles"), ({"label": 2}, "0 to 1")):
        with pytest.raises(UserError, match=says):
            plain.controls()["walk"](v, RNG, **wrong)
    with pytest.raises(UserError, match="no classes"):
        task.controls()["walk"](variables, RNG, label=0)
    with pytest.raises(UserError, match="'rough' is none of"):
        task.controls()["mixing"](variables, RNG, rows=("rough",))


def test_sheets_are_whole(grown):
    task, variables, fading, _ = grown
    mixing = task.controls()["mixing"](fading, RNG, n=2, rows=("coarse", "fine"))["mixing"]
    x = task.sample(fading, RNG, 4)["samples"]
    left = mixing.shape[1] - 3 * 67 - 3
    for j in range(2):
        assert abs(cell(mixing, x, 0, 1 + j, 3, left).astype(int) - seen(x[j])).max() <= 1
        assert abs(cell(mixing, x, 1 + j, 0, 3, left).astype(int) - seen(x[2 + j])).max() <= 1
    style = task.style(fading)
    ws = style.map(controls.codes(task, RNG, 4))
    want = style.paint(latent.mix(ws[2], ws[1], *latent.layer_groups(4)["coarse"])[None])[0]
    assert abs(cell(mixing, x, 1, 2, 3, left).astype(int) - seen(want)).max() <= 1
    found = task.controls()["noise"](variables, RNG, n=1, draws=4)
    assert set(found) == {"noise", "noise_parts"}


def test_a_generator_without_its_styles_offers_walks_alone(grown):
    """Row B of StyleGAN's table 1 maps latents to one w, which only the start reads."""
    plain = dataclasses.replace(grown[0], generator=Generator(
        **NET, z_dim=4, w_dim=4, mapping_layers=0, const_input=False, styles=False, noise=False))
    assert set(plain.controls()) == {"interpolation", "walk"}
    assert {"mixing", "truncation", "projection"} < set(grown[0].controls())
    with pytest.raises(UserError, match="has no styles"):
        plain.style(grown[1])


@pytest.mark.parametrize(("prior", "curve"), [("normal", "slerp"), ("uniform", "lerp")])
def test_walks_stay_where_the_prior_is(prior, curve, monkeypatch):
    task, seen, strip = tiny.task(prior=prior), [], latent.strip
    monkeypatch.setattr(latent, "strip", lambda a, b, steps, curve="lerp": (
        seen.append((curve, np.abs(strip(a, b, steps, curve)).max())), strip(a, b, steps, curve))[1])
    variables = task.export(task.init(jax.random.key(0), tiny.SPEC))
    task.controls()["interpolation"](variables, RNG, n=4, steps=3)
    task.controls()["walk"](variables, RNG, n=4, steps=2)
    assert [c for c, _ in seen] == [curve, curve]
    assert prior == "normal" or max(m for _, m in seen) <= 1
