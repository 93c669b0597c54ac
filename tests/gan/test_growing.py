"""Growing: the schedule against the published loop, the data, the task, and runs cut in fades."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from genjax.core import config as config_lib
from genjax.core.checkpoint import Checkpoints, digest
from genjax.core.experiment import Programs, to_steps
from genjax.core.train import train
from genjax.data.growing import NEVER, GrowingPipeline, GrowthSchedule, shrink
from genjax.errors import UserError
from genjax.gan.growing import Growing
from genjax.gan.progressive import Discriminator, Generator
from genjax.losses import adversarial as losses
from genjax.metrics import evaluate, features

V2 = GrowthSchedule(batch_sizes=(512, 256, 128, 64, 32), rates=(1, 1, 1, 1, 1, 1.5, 2, 3, 3))
# 3 steps at 4 pixels, 11 at 8 (6 of them fading), then 16 (fading for 7)
QUICK = dict(resolution=16, stable_kimg=0.016, fade_kimg=0.032, batch_sizes=(8, 4, 4), repeats=1)


def published(s, total):
    """The loop of the authors' training script: (resolution, batch, lod, images) of each step."""
    images, out = 0, []
    while images < total:
        kimg, period = images / 1000, s.stable_kimg + s.fade_kimg
        k = int(kimg // period)
        lod = max(np.log2(s.resolution // s.start) - k - max(kimg - k * period - s.stable_kimg, 0) / s.fade_kimg, 0)
        resolution = 2 ** int(np.log2(s.resolution) - np.floor(lod))
        at = int(np.log2(resolution // s.start))
        batch = s.batch_sizes[min(at, len(s.batch_sizes) - 1)]
        for _ in range(s.repeats):
            out.append((resolution, batch, lod, images))
            images += batch
    return out


@pytest.mark.parametrize("s", [
    GrowthSchedule(resolution=64, stable_kimg=1.0, fade_kimg=1.5, batch_sizes=(30, 20, 7), repeats=4),
    GrowthSchedule(resolution=32, start=8, stable_kimg=0.5, fade_kimg=0.25, batch_sizes=(16, 3), repeats=1),
    GrowthSchedule(**QUICK)])
def test_the_schedule_is_the_published_loop(s):
    lods = []
    for i, (resolution, batch, lod, images) in enumerate(published(s, 16_000)):
        assert (s.stage(i).resolution, s.stage(i).batch, s.images(i)) == (resolution, batch, images)
        assert s.lod(i) == pytest.approx(lod, abs=1e-9)
        lods.append(lod)
    changes = [i for i in range(1, len(lods)) if any(f(lods[i]) != f(lods[i - 1]) for f in (np.floor, np.ceil))]
    assert list(s.resets()) == changes


@pytest.mark.parametrize(("kimg", "lod"), [(0, 8.0), (900, 7.5), (1200, 7.0), (2400, 6.0)])
def test_published_lods(kimg, lod):
    assert V2.lod(V2.steps_of(1000 * kimg)) == pytest.approx(lod, abs=1e-3)  # a block of 4 batches of 512
    assert V2.images(V2.steps_of(1000 * kimg)) - 1000 * kimg in range(512)


def test_counting_is_exact_at_25_million_images():
    step = V2.steps_of(25_000_000)
    assert V2.images(step) - 25_000_000 in range(32) and V2.images(step - 1) < 25_000_000
    assert V2.lod(step) == 0 and V2.next_change(step) == NEVER and V2.stage(step).rate == 3
    assert V2.next_change(0) == 1172 and V2.stage(1172).resolution == 8
    assert to_steps("25000k images", 32, 70_000, "x", V2.steps_of) == step
    assert to_steps("2 epochs", 32, 500, "x", V2.steps_of) == V2.steps_of(1000) and to_steps(7, 32, 5, "x") == 7


@pytest.mark.parametrize(("wrong", "says"), [
    ({"resolution": 48}, "power of two"), ({"start": 2048}, "larger"), ({"batch_sizes": (1,) * 10}, "1 to 9 entries"),
    ({"rates": ()}, "entries"), ({"repeats": 0}, "repeats"), ({"fade_kimg": -1.0}, "fade_kimg")])
def test_bad_schedules_are_one_line(wrong, says):
    with pytest.raises(UserError, match=says):
        GrowthSchedule(**wrong)


def test_the_data_follow_the_schedule():
    s = GrowthSchedule(**QUICK)
    data = GrowingPipeline(s, "builtin:digits", prefetch=1)
    whole = [data.rows[r] for r in range(s.images(20))]
    for i in (13, 0, 2, 3, 19):
        r, b, first = s.stage(i).resolution, s.stage(i).batch, s.images(i)
        batch = data.batch(i)
        assert {k: (v.shape, v.dtype) for k, v in batch.items()} == {
            k: (v.shape, v.dtype) for k, v in data.spec_at(i).items()}
        assert np.array_equal(batch["label"], [row["label"] for row in whole[first:first + b]])
        f = 16 // r
        x = np.stack([row["image"] for row in whole[first:first + b]])
        want = sum(x[:, dy::f, dx::f].astype(np.float64) for dy in range(f) for dx in range(f)) / f**2
        assert batch["image"].shape == (b, r, r, 1) and np.allclose(batch["image"], want, atol=1e-6)
        assert np.array_equal(data.batch(i, 1, 3)["image"], batch["image"][1:3]), "a process's share"
    assert data.element_spec["image"].shape == (4, 16, 16, 1) and data.batch_size == 4
    assert shrink(np.ones((2, 2, 1), np.float32), 1).shape == (2, 2, 1)


def test_batches_that_do_not_divide_are_found_at_the_start():
    mesh = jax.sharding.AbstractMesh((8, 1), ("data", "fsdp"))

    def check(**schedule):
        data = GrowingPipeline(GrowthSchedule(**{**QUICK, **schedule}), prefetch=0)
        experiment = SimpleNamespace(data=data, steps=lambda name: 20)
        Programs._check_shapes(SimpleNamespace(experiment=experiment, mesh=mesh, constant=False, _spec=data.spec_at))

    check(batch_sizes=(16, 8))
    with pytest.raises(UserError, match="from step 3 on, a batch of 4 .* the batch sizes of config.data's schedule"):
        check()


def task(schedule=None, **more):
    s = schedule or GrowthSchedule(**{**QUICK, "resolution": 8, "batch_sizes": (8, 4)})
    net = dict(resolution=s.resolution, channels=1, fmap_base=16, fmap_max=4, classes=more.pop("classes", 0))
    return Growing(**{"schedule": s, "generator": Generator(**net), "discriminator": Discriminator(**net),
                      "g_optimizer": optax.adam(1e-3, 0.0, 0.99), "d_optimizer": optax.adam(1e-3, 0.0, 0.99),
                      "latent_dim": 4, "preview_images": 4, **more})


@pytest.mark.parametrize("s", [V2, GrowthSchedule(**QUICK), GrowthSchedule(resolution=8, fade_kimg=0)])
def test_the_traced_schedule_is_the_exact_one(s):
    edges = {e + d for t in s.stages for e in (t.first, t.first + t.fade // 2, t.first + t.fade) for d in (-1, 0, 1, 5)}
    steps = sorted(e for e in {*edges, 2**31 - 10} if e >= 0)
    r, alpha, lod = jax.jit(jax.vmap(task(s).growth))(jnp.array(steps, jnp.int32))
    assert np.array_equal(r, [s.stage(i).resolution for i in steps])
    assert np.allclose(alpha, [s.fade(i) for i in steps], atol=1e-6)
    assert np.allclose(lod, [s.lod(i) for i in steps], atol=1e-6)


def test_a_stage_has_its_rate_and_average():
    t = task(GrowthSchedule(resolution=8, batch_sizes=(64, 32), rates=(1.0, 2.5)), half_life_kimg=10.0)
    g = {"x": jnp.ones(3)}
    for size, rate, decay in ((4, 1.0, 0.5 ** (64 / 10_000)), (8, 2.5, 0.9977843871)):
        now = t._at(size, 1.0)
        assert now.ema_decay == pytest.approx(decay, abs=1e-9)
        for name in ("g_optimizer", "d_optimizer"):
            want, _ = getattr(t, name).update(g, getattr(t, name).init(g))
            got, _ = getattr(now, name).update(g, getattr(now, name).init(g))
            assert np.allclose(got["x"], rate * want["x"])
    with pytest.raises(UserError, match="no stage"):
        t._at(16, 1.0)


def test_learning_rates_grow_at_the_start():
    t = task(GrowthSchedule(resolution=8, batch_sizes=(64, 32), rates=(2.0,)), rampup_kimg=40.0)
    g = {"x": jnp.ones(3)}
    want, _ = t.g_optimizer.update(g, t.g_optimizer.init(g))
    for kimg, share in ((0.0, np.exp(-5)), (20.0, np.exp(-1.25)), (40.0, 1.0), (900.0, 1.0)):
        now = t._at(8, 1.0, jnp.float32(kimg)).g_optimizer
        assert np.allclose(now.update(g, now.init(g))[0]["x"], 2 * share * want["x"])


def test_presets_are_the_authors():
    configs = {p: config_lib.load(f"gan/progressive:preset={p},labels,classes=7") for p in ("v1", "v2", "cifar10")}
    found = {p: (c.task.discriminator.mbstd_group, c.task.rampup_kimg, c.data.flip) for p, c in configs.items()}
    assert found == {"v1": (16, 40.0, False), "v2": (4, 0.0, False), "cifar10": (16, 0.0, False)}
    assert configs["cifar10"].schedule.batch_sizes == (16, 16, 16, 16), "the deviation is over the whole batch"
    styled = config_lib.load("gan/stylegan:labels,classes=7")
    assert all(c.task[n].classes == 7 for c in (*configs.values(), styled) for n in ("generator", "discriminator"))
    assert not styled.data.flip


def test_bad_tasks_are_one_line():
    with pytest.raises(UserError, match="give one res"):
        task(generator=Generator(16))
    with pytest.raises(UserError, match="class_weight"):
        task(class_weight=1.0)
    with pytest.raises(UserError, match="share_latents"):
        task(share_latents=True)


def test_classes_are_learned_beside_the_score():
    """The AC-GAN losses of both networks, and the gradient norm asked for, against their formulas."""
    t = task(classes=3, conditional=True, class_weight=0.5, loss="wasserstein", gp_weight=10.0, gp_target=750.0,
             drift=0.001)._at(4, 1.0)
    x, y, key = jax.random.normal(jax.random.key(0), (2, 4, 4, 4, 1)), jnp.array([0, 2, 1, 1]), jax.random.key(1)
    params = jax.jit(t.discriminator.init)(key, x[0])["params"]
    total, (_, metrics) = jax.jit(lambda p: t._d_loss(p, {}, x[0], x[1], y, key, True))(params)

    def raw(x):
        return t.discriminator.apply({"params": params}, x, method="classify")

    @jax.jit
    def written_out():
        (a, real), (b, fake) = raw(x[0]), raw(x[1])
        classes = [-jax.nn.log_softmax(v)[jnp.arange(4), y].mean() for v in (real, fake)]
        penalty = losses.gradient_penalty(lambda x: raw(x)[0], x[0], x[1], key, 10.0, 750.0)
        return (b - a).mean() + 0.5 * sum(classes) + penalty + 0.001 * jnp.square(a).mean(), penalty

    want, penalty = written_out()
    assert float(total) == pytest.approx(float(want), rel=1e-5) and metrics["class_real"] > 0
    assert float(penalty) == pytest.approx(10, rel=0.1), "far from 750, whatever the networks"


CONFIG = "gan/stylegan:small,res=16"
ITEMS = [*(f"schedule.{k}={v}" for k, v in QUICK.items()), "task.r1_gamma=0.0", "task.latent_dim=4",
         "task.preview_images=4", "train.steps=17", "train.save_every=0", "train.preview_every=0", "train.log_every=1",
         "task.generator.z_dim=4", "task.generator.w_dim=4", "task.generator.mapping_layers=1",
         *(f"task.{n}.{k}" for n in ("generator", "discriminator") for k in ("fmap_base=16", "fmap_max=4"))]


@pytest.fixture
def quick_compilation():
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


# WGAN-GP with drift; a resolution less, whose second derivatives take long to compile
PROGRESSIVE = [*(i for i in ITEMS if not any(k in i for k in ("z_dim", "w_dim", "mapping", "resolution"))),
               "schedule.batch_sizes=(8, 4)"]


@pytest.mark.parametrize(("config", "items", "cuts", "resets"), [
    (CONFIG, ITEMS, (3, 6, 9, 14, 16), (3, 9, 14, 21)),
    ("gan/progressive:small,res=8", PROGRESSIVE, (6,), (3, 9))], ids=["stylegan", "progressive"])
def test_saved_anywhere_it_goes_on_exactly(config, items, cuts, resets, tmp_path, quick_compilation):
    """In the middle of a fade (6, 16), where a resolution comes (3, 14), and where its fade ends (9)."""
    programs = Programs(config_lib.build(config_lib.load(config, items)))
    last = cuts[-1] + 1

    def run(state, first, last):
        rows = []
        for i in range(first, last):
            state, metrics = programs.step(state, programs.put(i, 1))
            rows.append({k: float(v[0]) for k, v in metrics.items()})
        return state, rows

    state, at = programs.init(), 0
    for cut in (*cuts, last):
        state, rows = run(state, at, cut)
        saver = Checkpoints(tmp_path / str(cut), 1)
        saver.save(state)
        saver.close()
        schedule = programs.experiment.data.schedule
        assert [r["lod"] for r in rows] == pytest.approx([schedule.lod(i) for i in range(at, cut)], abs=1e-6)
        assert all((r.get("penalty", 0) > 0) == ("progressive" in config) for r in rows)
        counts = [int(x) for x in jax.tree.leaves(state.opt_state) if x.shape == ()]
        fresh = max([0, *(r for r in schedule.resets() if r < cut)])
        assert counts == [cut - fresh] * 2, "optimisers begin afresh when layers come and are in"
        at = cut
    assert schedule.resets() == resets
    want = digest(state)
    shapes = jax.tree.map(lambda x: x.shape, state)
    for cut in cuts:
        saver = Checkpoints(tmp_path / str(cut), 1)
        restored = saver.restore(programs.abstract)
        saver.close()
        assert int(restored.step) == cut and jax.tree.map(lambda x: x.shape, restored) == shapes
        assert digest(run(restored, cut, last)[0]) == want, f"cut at {cut}"


def test_samples_are_measured_at_full_size(monkeypatch, tmp_path, quick_compilation):
    """Also in the middle of growing, and the recipe says from which size they were enlarged."""
    monkeypatch.setenv("GENJAX_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(features, "load", lambda name, path, resize: features.random(name, 0))
    config = config_lib.load("gan/progressive:small,res=8,features=lenet", [
        "schedule.stable_kimg=0.008", "schedule.fade_kimg=0.016", "schedule.repeats=1", "schedule.batch_sizes=(4,)",
        "task.latent_dim=8", "task.preview_images=4", "task.evaluation.n=8", "task.evaluation.n_real=8",
        "task.evaluation.batch=8", "task.evaluation.settings.allow_few=True",
        *(f"task.{n}.{k}" for n in ("generator", "discriminator") for k in ("fmap_base=32", "fmap_max=8"))])
    experiment = config_lib.build(config)
    t, seen = experiment.task, []
    state = jax.jit(lambda: t.init(jax.random.key(0), experiment.data.element_spec))()
    inner = evaluate.generate

    def watched(*args, **kwargs):
        for x in inner(*args, **kwargs):
            seen.append(x)
            yield x

    monkeypatch.setattr(evaluate, "generate", watched)
    got = [t.evaluate(t.export(state.replace(step=jnp.int32(i))), experiment.data, jax.random.key(1))["fd_lenet"]
           for i in (0, 5, 30)]
    assert [x.shape[1:3] for x in seen] == [(8, 8)] * 3
    assert np.array_equal(seen[0][:, ::2, ::2].repeat(2, 1).repeat(2, 2), seen[0]) and (seen[1] != seen[2]).any()
    assert [dict(v.recipe.parameters).get("enlarged_from") for v in got] == [4, None, None]
    assert 0 < t.growth(5)[1] < 1 and got[1].recipe == got[2].recipe
    with pytest.raises(UserError, match="enlarged_from: 4 / none"):
        got[0] - got[2]


@pytest.mark.slow
def test_calls_of_two_steps_end_where_shapes_change(tmp_path, quick_compilation):
    items = [*ITEMS, "train.steps_per_call=2", "train.steps=7", "schedule.batch_sizes=(8, 4)", "schedule.resolution=8",
             "task.generator.resolution=8", "task.discriminator.resolution=8"]
    whole = train(config_lib.load(CONFIG, items), str(tmp_path / "whole"), quiet=True)
    cut = config_lib.load(CONFIG, [*items, "train.steps=5"])
    assert train(cut, str(tmp_path / "cut"), quiet=True).step == 5
    again = train(config_lib.load(CONFIG, items), str(tmp_path / "cut"), quiet=True)
    assert digest(again.state) == digest(whole.state) and again.step == 7
    programs = Programs(config_lib.build(config_lib.load(CONFIG, items)))
    assert programs.put(1, 2)["image"].shape == (2, 8, 4, 4, 1)
    with pytest.raises(ValueError, match="several shapes"):
        programs.put(2, 2)
    variables = programs.experiment.task.export(again.state)
    assert int(variables["resolution"]) == 8
    sheets = programs.experiment.task.results(variables, None, jax.random.key(0))
    assert set(sheets) == {"samples", "truncated"} and not np.array_equal(sheets["samples"], sheets["truncated"])
