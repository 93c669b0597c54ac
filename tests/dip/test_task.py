"""Deep Image Prior's task: forward models, one step by hand, averages, backtracking, early stopping, outputs, errors.

`Pixels` (the picture is the parameter) and `Echo` (the picture is the noisy input) make every quantity visible.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

from genjax.core import rng as rng_lib
from genjax.dip.networks import Skip
from genjax.dip.other_networks import DeepDecoder, Pixels
from genjax.errors import UserError
from genjax.losses.regularisers import total_variation
from tests.dip import tiny


class Echo(nn.Module):
    """Draws the first channels of its input."""

    out_channels: int = 3
    multiple = reduction = 1

    @nn.compact
    def __call__(self, z):
        return z[..., : self.out_channels] + self.param("bias", nn.initializers.zeros, ())


def pixels(**kwargs):
    return tiny.make(Pixels(), **kwargs)


def decibel(mse):
    return -10 * np.log10(mse)


def walk(task, batch, count, seed=0, damage=None):
    """The states before each step (and the last), and the metrics of every step; `damage` {step: fn(params)}."""
    state, device, root = tiny.begin(task, batch, seed)
    states, rows = [state], []
    for i in range(count):
        if damage and i in damage:
            state = state.replace(params=jax.tree.map(damage[i], state.params))
            states[-1] = state
        state, metrics = tiny.step(task, state, device, root)
        states.append(state)
        rows.append({k: np.asarray(v) for k, v in metrics.items()})
    return states, rows


# ---------------------------------------------------------------- forward models


def test_the_masked_loss_compares_known_pixels_only():
    batch = tiny.pictures(holes=True)
    batch["observed"] = batch["observed"] + 7 * (1 - batch["mask"])  # whatever holes hold, it is not looked at
    (state, after), (row,) = walk(pixels(), batch, 1)
    x, m = np.asarray(state.params["pixels"][0]), batch["mask"]
    assert row["loss"] == pytest.approx(np.mean((x * m - batch["observed"] * m) ** 2), rel=1e-5)
    assert row["psnr_observed"] == pytest.approx(decibel(row["loss"]), rel=1e-5)
    moved = np.asarray(after.params["pixels"][0]) != x
    np.testing.assert_array_equal(moved, np.broadcast_to(m > 0, moved.shape))


def test_super_resolution_compares_after_the_papers_lanczos_filter():
    batch = tiny.pictures(factor=4)
    (state, _), (row,) = walk(pixels(factor=4), batch, 1)
    t = (np.arange(16) - 7.5) / 4
    tap = np.sinc(t) * np.sinc(t / 2)
    tap /= tap.sum()
    np.testing.assert_allclose(tap[:8], [-.001065, -.009752, -.020384, -.014878, .024594, .098658, .183115, .239711],
                               atol=1e-6)  # the authors' filter
    x = np.asarray(state.params["pixels"])[0, 0]
    padded = np.pad(x, ((6, 6), (6, 6), (0, 0)), mode="edge")
    low = np.zeros((4, 4, 3))
    for i in range(4):
        for j in range(4):
            low[i, j] = np.einsum("hwc,h,w->c", padded[4 * i : 4 * i + 16, 4 * j : 4 * j + 16], tap, tap)
    assert row["loss"] == pytest.approx(np.mean((low - batch["observed"][0]) ** 2), rel=1e-4)


def test_total_variation_is_added_to_the_loss_alone():
    batch = tiny.pictures()
    (state, _), (row,) = walk(pixels(tv_weight=0.01), batch, 1)
    x = state.params["pixels"][0, 0]
    fit = np.mean((np.asarray(x) - batch["observed"][0]) ** 2)
    assert row["loss"] == pytest.approx(fit + 0.01 * float(total_variation(x)), rel=1e-5)
    assert row["psnr_observed"] == pytest.approx(decibel(fit), rel=1e-5)


def test_flash_takes_the_guide_as_input():
    task = tiny.make(Echo(), input_kind="image", input_channels=3, reg_noise_std=0.0, ema_decay=0.0)
    batch = tiny.pictures(n=2)
    batch["guide"] = tiny.pictures(n=2, seed=1)["clean"]
    states, rows = walk(task, batch, 2)
    np.testing.assert_array_equal(states[1].extra["ema"], batch["guide"])
    np.testing.assert_array_equal(states[2].extra["z"][:, 0], batch["guide"])
    assert rows[0]["loss"] == pytest.approx(np.mean((batch["guide"] - batch["observed"]) ** 2), rel=1e-5)
    variables = task.export(states[2])  # and so do the verbs that see no batch
    bias = np.asarray(states[2].params["bias"])[:, None, None, None]
    np.testing.assert_allclose(task.outputs(variables)["last"], np.clip(batch["guide"] + bias, 0, 1), atol=1e-6)
    drawn = task.sample(variables, jax.random.key(0), 1)["samples"][0]
    np.testing.assert_allclose(drawn, np.clip(batch["guide"][0] + bias[0], 0, 1), atol=0.01)


# ---------------------------------------------------------------- one step, its noise, the kept outputs


def test_a_step_is_adams_step_on_the_picture():
    task = tiny.make(optimizer=optax.adam(0.01))
    batch = tiny.pictures()
    state, device, root = tiny.begin(task, batch)
    after, metrics = tiny.step(task, state, device, root)
    params, z = jax.tree.map(lambda x: x[0], (state.params, state.extra["z"]))
    key = rng_lib.per_item(jax.random.fold_in(root, 0), 1)[0]
    noisy = z + jax.random.normal(key, z.shape) / 30

    @functools.partial(jax.jit, compiler_options=tiny.FAST)
    def by_hand(params):
        def loss(p):
            return jnp.mean((task.network.apply({"params": p}, noisy) - device["observed"]) ** 2)

        value, grads = jax.value_and_grad(loss)(params)
        updates, opt_state = optax.adam(0.01).update(grads, optax.adam(0.01).init(params), params)
        return value, optax.apply_updates(params, updates), opt_state

    value, params, opt_state = by_hand(params)
    assert metrics["loss"] == pytest.approx(float(value), rel=1e-5)
    # Adam's first step is lr * sign(gradient): biases before a normalisation have none but rounding noise.
    got = jax.tree.map(lambda x: x[0], (after.params, after.opt_state))
    tiny.close(got[1], opt_state, rtol=1e-3, atol=1e-7)
    flat = [jax.tree.leaves(t) for t in (got[0], params, opt_state[0].mu)]
    for a, b, m in zip(*flat, strict=True):
        clear = np.abs(m) > 1e-7
        np.testing.assert_allclose(np.asarray(a)[clear], np.asarray(b)[clear], atol=2e-5)


def test_noise_is_fresh_for_every_step_and_picture_and_z_stays():
    std = 1 / 30
    task = tiny.make(Echo(), input_channels=3, reg_noise_std=std, ema_decay=0.0, optimizer=optax.sgd(0.0))
    batch = tiny.pictures(n=2, size=32)
    states, _ = walk(task, batch, 3)
    z = np.asarray(states[0].extra["z"])
    noise = np.stack([np.asarray(s.extra["ema"]) - z[:, 0] for s in states[1:]])  # [step, picture, H, W, C]
    np.testing.assert_array_equal(states[-1].extra["z"], z)
    assert 0 <= z.min() and z.max() <= 0.1 and z.std() == pytest.approx(0.1 / 12**0.5, rel=0.05)
    assert noise.std((2, 3, 4)) == pytest.approx(std, rel=0.06) and abs(noise.mean()) < 0.001
    flat = noise.reshape(6, -1)
    assert abs(np.corrcoef(flat) - np.eye(6)).max() < 0.1
    assert abs(np.corrcoef(z.reshape(2, -1))[0, 1]) < 0.1


@pytest.mark.parametrize("warmup", [0, 3])
def test_average_and_best_of_the_outputs(warmup):
    task = pixels(ema_decay=0.8, ema_warmup=warmup)
    batch = tiny.pictures(n=2)
    batch["clean"] = batch["observed"] * 0.5  # the fit passes it on its way from 0
    states, rows = walk(task, batch, 40)
    outputs = [np.asarray(s.params["pixels"][:, 0]) for s in states[:-1]]
    scores = []
    for i, x in enumerate(outputs):
        enters = [max(0.2 / (1 - 0.8 ** (k + 1)), (warmup + 1) / (k + warmup + 1)) for k in range(i + 1)]
        weights = np.array([w * np.prod([1 - v for v in enters[k + 1 :]]) for k, w in enumerate(enters)])
        if not warmup:  # the reference's average
            np.testing.assert_allclose(weights, 0.8 ** np.arange(i, -1, -1.0) * 0.2 / (1 - 0.8 ** (i + 1)), rtol=1e-6)
        ema = np.tensordot(weights, np.stack(outputs[: i + 1]), 1)
        np.testing.assert_allclose(states[i + 1].extra["ema"], ema, rtol=1e-5, atol=1e-6)
        scores.append([decibel(np.mean((a - b) ** 2)) for a, b in zip(x, batch["clean"], strict=True)])
        np.testing.assert_allclose(rows[i]["psnr_each"], scores[-1], rtol=1e-4)
        assert rows[i]["psnr"] == pytest.approx(np.mean(scores[-1]), rel=1e-4)
    best = np.argmax(scores, axis=0)
    assert (best > 3).all() and (best < 36).all()
    kept = states[-1].extra["best"]
    for n in range(2):
        np.testing.assert_array_equal(kept["output"][n], outputs[best[n]][n])
        assert kept["psnr"][n] == pytest.approx(scores[best[n]][n], rel=1e-4)


# ---------------------------------------------------------------- backtracking


def saved_of(state):
    return {k: state.extra["saved"][k] for k in ("params", "opt_state", "ema")}


def live_of(state):
    return {"params": state.params, "opt_state": state.opt_state, "ema": state.extra["ema"]}


@pytest.mark.parametrize("n", [1, 2])
def test_a_collapse_returns_to_the_last_check(n):
    task = pixels(backtrack_every=5, backtrack_drop=5.0)
    states, rows = walk(task, tiny.pictures(n=n), 14, damage={7: lambda x: x + 3.0})
    assert [int(r["backtracked"]) for r in rows] == [0] * 10 + [1] + [0] * 3
    assert rows[10]["psnr_observed"] < rows[5]["psnr_observed"] - 5
    for i in range(6, 14):
        tiny.equal(saved_of(states[i]), live_of(states[5]))  # what the check at step 5 kept, untouched by the bad state
        assert np.mean(states[i].extra["saved"]["psnr"]) == pytest.approx(rows[5]["psnr_observed"])
    tiny.equal(live_of(states[11]), live_of(states[5]))  # step 10 went back, and took no step with the bad gradient
    assert int(states[11].step) == 11
    assert rows[11]["loss"] == pytest.approx(rows[5]["loss"])


def test_only_the_collapsed_picture_goes_back():
    task = pixels(backtrack_every=5)
    hurt = {7: lambda x: x.at[1].add(3.0)}
    states, rows = walk(task, tiny.pictures(n=2), 12, damage=hurt)
    whole, _ = walk(task, tiny.pictures(n=2), 12)
    assert rows[10]["backtracked"] == 0.5
    first = lambda s, i: jax.tree.map(lambda x: x[i], live_of(s))  # noqa: E731
    tiny.equal(first(states[12], 0), first(whole[12], 0))
    tiny.equal(first(states[11], 1), first(states[5], 1))


def test_a_collapse_before_the_first_check_returns_to_the_start():
    states, rows = walk(pixels(backtrack_every=5), tiny.pictures(), 7, damage={2: lambda x: x - 9.0})
    assert np.isfinite(states[1].extra["saved"]["psnr"]).all()
    assert [int(r["backtracked"]) for r in rows] == [0, 0, 0, 0, 0, 1, 0]
    tiny.equal(states[6].params, states[0].params)


def test_a_fall_within_the_limit_or_mended_in_time_is_no_collapse():
    task, batch = pixels(backtrack_every=5, backtrack_drop=5.0), tiny.pictures()
    memory = {}

    def hurt(x):
        memory["x"] = x
        return x + 3.0

    states, rows = walk(task, batch, 12, damage={7: hurt, 9: lambda x: memory["x"]})
    assert sum(r["backtracked"] for r in rows) == 0
    tiny.equal(saved_of(states[11]), live_of(states[10]))
    step10 = states[10].params["pixels"]
    error = decibel(np.mean((np.asarray(step10[:, 0]) - batch["observed"]) ** 2))
    gap = 10 ** (-(error - 4) / 20) - 10 ** (-error / 20)  # lowers the PSNR by at most 4 dB
    _, rows = walk(task, batch, 12, damage={10: lambda x: x - gap})
    assert sum(r["backtracked"] for r in rows) == 0 and rows[10]["psnr_observed"] < rows[9]["psnr_observed"]


def test_nan_is_shown_and_never_kept():
    states, rows = walk(pixels(backtrack_every=5), tiny.pictures(), 12, damage={8: lambda x: x * jnp.nan})
    assert np.isnan([r["loss"] for r in rows[8:]]).all() and sum(r["backtracked"] for r in rows) == 0
    tiny.equal(saved_of(states[12]), live_of(states[5]))


@pytest.mark.parametrize("noise", [0.0, 0.1])
def test_without_noise_a_repeated_collapse_ends(noise):
    """The spike comes back with the restored optimiser; halving the updates gets past it, noise would go elsewhere."""
    spike = optax.chain(optax.adam(0.01), optax.scale_by_schedule(lambda c: jnp.where(c == 7, 400.0, 1.0)))
    task = pixels(backtrack_every=5, optimizer=spike, reg_noise_std=noise)
    batch = tiny.pictures()
    state, device, root = tiny.begin(task, batch)
    state, rows = tiny.many(task, state, device, root, 150)
    back = np.asarray(rows["backtracked"])
    if noise:  # Pixels do not see it: the same steps again and again
        assert back.sum() > 20 and np.isin(np.flatnonzero(back), np.arange(10, 150, 5)).all()
    else:
        assert 1 <= back.sum() <= 8 and back[75:].sum() == 0
        assert int(state.extra["saved"]["returns"][0]) == back.sum()
        assert rows["psnr_observed"][-1] > rows["psnr_observed"][5] + 2


# ---------------------------------------------------------------- early stopping


WINDOW, PATIENCE, STRIDE = 5, 6, 2


@pytest.fixture(scope="module")
def stopped():
    """A fit that settles, then moves again: task, batch, states, metrics, outputs [step, N, H, W, C]."""
    rate = lambda c: 384.0 * jnp.where(c < 15, 0.3 * 0.7**c, 0.02 * (c - 14))  # noqa: E731
    task = pixels(es_window=WINDOW, es_patience=PATIENCE, es_stride=STRIDE, es_ends_run=True, optimizer=optax.sgd(rate))
    batch = tiny.pictures(n=2, clean=False)
    states, rows = walk(task, batch, 30)
    return task, batch, states, rows, np.stack([np.asarray(s.params["pixels"][:, 0]) for s in states[:-1]])


def test_windowed_variance_is_numpys_and_its_minimum_is_kept(stopped):
    _, _, states, rows, outputs = stopped
    sample = outputs[:, :, ::STRIDE, ::STRIDE]
    least, found = np.full(2, np.inf), np.zeros(2, int)
    finished, ends = np.zeros(2, bool), []
    for i in range(len(rows)):
        early = states[i + 1].extra["early"]
        if i < WINDOW - 1:
            assert rows[i]["variance"] == 0 and np.isinf(early["variance"]).all()
            continue
        variance = sample[i - WINDOW + 1 : i + 1].var(axis=0).mean((1, 2, 3))
        assert rows[i]["variance"] == pytest.approx(variance.mean(), rel=1e-3)
        better = (variance < least) & ~finished
        least, found = np.where(better, variance, least), np.where(better, i, found)
        finished |= i - found >= PATIENCE
        np.testing.assert_allclose(early["variance"], least, rtol=1e-3)
        np.testing.assert_array_equal(early["step"], found)
        np.testing.assert_array_equal(early["finished"], finished)
        for n in range(2):
            np.testing.assert_allclose(early["output"][n], states[found[n] + 1].extra["ema"][n], atol=1e-6)
        assert rows[i]["stop"] == finished.all()
        ends.append(finished.all())
    assert WINDOW < found[0] < 20 and ends[-1] and not ends[10]


def test_a_finished_picture_is_frozen(stopped):
    task, batch, states, rows, _ = stopped
    before = next(i for i, r in enumerate(rows) if r["stop"])
    frozen, last = states[before + 1].extra["early"], states[-1]
    kept = ("output", "variance", "step", "finished")
    tiny.equal({k: frozen[k] for k in kept}, {k: last.extra["early"][k] for k in kept})
    still = last  # even if from now on nothing moves, so that the variance is 0
    for _ in range(WINDOW + 1):
        still, row = tiny.step(task, still.replace(params=last.params), batch, jax.random.key(0))
    assert row["variance"] < frozen["variance"].min()
    tiny.equal({k: frozen[k] for k in kept}, {k: still.extra["early"][k] for k in kept})


def test_stop_waits_for_every_picture_and_for_the_option(stopped):
    task, batch, states, _, _ = stopped
    state = states[-1]
    early = {**state.extra["early"], "finished": jnp.array([True, False]), "step": jnp.array([5, 30])}
    _, row = tiny.step(task, state.replace(extra={**state.extra, "early": early}), batch, jax.random.key(0))
    assert row["stop"] == 0
    quiet = pixels(es_window=WINDOW, es_patience=PATIENCE, es_stride=STRIDE, optimizer=task.optimizer)
    _, row = tiny.step(quiet, state, batch, jax.random.key(0))
    assert row["stop"] == 0


def test_the_average_stands_in_until_the_window_is_full(stopped):
    task, _, states, _, _ = stopped
    young, old = (task.outputs(task.export(states[i])) for i in (WINDOW - 1, WINDOW))
    np.testing.assert_array_equal(young["early"], young["ema"])
    assert (old["early"] != old["ema"]).any()
    assert set(old) == {"last", "ema", "early"}  # no clean picture, no best


# ---------------------------------------------------------------- pictures are independent


def test_a_batch_is_its_pictures_one_by_one():
    task = tiny.make(backtrack_every=2, es_window=3)
    batch = tiny.pictures(n=3)
    alone = {k: v[:1] for k, v in batch.items()}
    runs = []
    for b in (batch, alone):
        state, device, root = tiny.begin(task, b)
        runs.append((state, *tiny.many(task, state, device, root, 5)))
    first = lambda s: jax.tree.map(lambda x: x[:1] if x.ndim else x, s)  # noqa: E731
    tiny.close(first(runs[0][0]), runs[1][0], atol=1e-6)  # weights and z: the same draw
    for kept in (lambda e: e["ema"], lambda e: e["best"]["output"], lambda e: e["early"]["output"]):
        np.testing.assert_allclose(kept(runs[0][1].extra)[:1], kept(runs[1][1].extra), atol=1e-4)
    np.testing.assert_allclose(runs[0][2]["psnr_each"][:, 0], runs[1][2]["psnr"], atol=1e-3)
    spread = [np.ptp(np.asarray(x), axis=0).max() for x in jax.tree.leaves(runs[0][0].params) if np.ptp(x) > 0]
    assert min(spread) > 1e-3  # no two pictures start from one network


# ---------------------------------------------------------------- outputs, previews, metrics


@pytest.mark.parametrize("channels", [1, 3])
def test_preview_evaluate_export(channels):
    class Data:
        def batch(self, i):
            return batch

    task = pixels(es_window=3, backtrack_every=5) if channels == 3 else tiny.make(
        Pixels(out_channels=1, low=-0.5, high=1.5), es_window=3)
    batch = tiny.pictures(n=2, channels=channels, holes=True)
    batch["mask"][1] = 1  # one picture has no hole
    states, _ = walk(task, batch, 4)
    variables = task.export(states[-1])
    assert "saved" not in variables["extra"] and "window" not in variables["extra"]["early"]
    images = task.preview(variables, batch, jax.random.key(0))
    assert list(images) == ["observed", "result", "last", "ema", "early", "best", "clean"]
    for image in images.values():
        assert image.shape == (2, tiny.SIZE, tiny.SIZE, channels) and image.dtype == np.float32
        assert image.min() >= 0 and image.max() <= 1
    np.testing.assert_array_equal(images["observed"], batch["observed"] * batch["mask"])
    found = task.evaluate(variables, Data(), jax.random.key(0))
    names = {f"{m}_{o}" for m in ("psnr", "ssim", "psnr_hole") for o in ("last", "ema", "early", "best", "result")}
    each = {f"psnr_{o}/{i}" for o in ("ema", "result") for i in (0, 1)}
    assert set(found) == names | each | {"psnr_input", "psnr_composite"}
    assert all(type(v) is float and np.isfinite(v) for v in found.values())
    last, clean = images["last"].astype(float), batch["clean"]
    each = [decibel(np.mean((a - b) ** 2)) for a, b in zip(last, clean, strict=True)]
    assert found["psnr_last"] == pytest.approx(np.mean(each), rel=1e-5)
    hole = batch["mask"][0, ..., 0] == 0
    assert found["psnr_hole_last"] == pytest.approx(decibel(np.mean((last[0] - clean[0])[hole] ** 2)), rel=1e-5)
    noisy = [decibel(np.mean((o * m - c) ** 2)) for o, m, c in zip(*(batch[k] for k in ("observed", "mask", "clean")),
                                                                  strict=True)]
    assert found["psnr_input"] == pytest.approx(np.mean(noisy), rel=1e-5)
    batch = {k: v for k, v in batch.items() if k != "clean"}
    assert task.evaluate(variables, Data(), None) == {} and "clean" not in task.preview(variables, batch, None)


def test_super_resolution_shows_the_small_picture_enlarged():
    task, batch = pixels(factor=4), tiny.pictures(factor=4)
    states, _ = walk(task, batch, 1)
    shown = task.preview(task.export(states[-1]), batch, None)["observed"]
    np.testing.assert_array_equal(shown[0, ::4, ::4], batch["observed"][0])
    assert shown.shape == batch["clean"].shape


def test_samples_differ_in_the_noise_and_not_in_their_number():
    task = tiny.make(Echo(), input_channels=3)
    states, _ = walk(task, tiny.pictures(n=2), 1)
    variables = jax.tree.map(np.asarray, task.export(states[-1]))
    four = task.sample(variables, jax.random.key(1), 4)["samples"]
    two = task.sample(variables, jax.random.key(1), 2)["samples"]
    assert four.shape == (4, tiny.SIZE, tiny.SIZE, 3) and four.min() >= 0 and four.max() <= 1
    np.testing.assert_array_equal(four[:2], two)
    assert (four[0] != four[1]).mean() > 0.5


# ---------------------------------------------------------------- mistakes


@pytest.mark.parametrize(("make", "batch", "says"), [
    (lambda: tiny.make(tiny.network(out_channels=1)), {}, "draws 1 channels, the pictures have 3"),
    (lambda: tiny.make(Skip(channels_down=(4,), channels_up=(4,), kernel_down=31)), {}, "reflection padding by 15"),
    (lambda: pixels(factor=4), {"factor": 2}, "factor 4 are not 16x16"),
    (lambda: pixels(), {"factor": 4}, "make config.task.factor and config.data.factor agree"),
    (lambda: pixels(input_kind="image"), {}, "needs config.data.guide"),
    (lambda: pixels(input_kind="meshgrid", input_channels=32), {}, "meshgrid has 2 channels"),
    (lambda: pixels(input_kind="clouds"), {}, "unknown input kind 'clouds'"),
    (lambda: tiny.make(DeepDecoder(channels=(8, 8)), input_channels=4), {}, "wants channels\\[0\\] = 8"),
])  # fmt: skip
def test_configs_that_do_not_fit_the_pictures(make, batch, says):
    batch = tiny.pictures(**batch)
    with pytest.raises(UserError, match=says):
        jax.eval_shape(lambda k: make().init(k, tiny.spec(batch)), jax.random.key(0))


def test_side_branches_take_sizes_that_do_not_divide():
    """Barbara padded to 514 x 514, in the paper: the maps are cropped to the side branches and come out right."""
    batch = tiny.pictures(size=16)
    odd = {k: np.pad(v, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="reflect") for k, v in batch.items()}
    scales = {"channels_down": (4, 4), "channels_up": (4, 4)}
    state = jax.eval_shape(lambda k: tiny.make(tiny.network(**scales)).init(k, tiny.spec(odd)), jax.random.key(0))
    assert state.extra["ema"].shape == (1, 18, 18, 3)
    assert state.extra["z"].shape == (1, 1, 18, 18, 4)


@pytest.mark.parametrize(("kwargs", "says"), [
    ({"ema_decay": 1.0}, "ema_decay must be in"), ({"ema_decay": -0.1}, "ema_decay must be in"),
    ({"ema_decay": float("nan")}, "ema_decay must be in"),
    ({"reg_noise_std": -1.0}, "reg_noise_std must be at least 0, got -1.0"),
    ({"reg_noise_std": float("nan")}, "reg_noise_std must be at least 0"),
    ({"factor": 0}, "factor must be at least 1"), ({"tv_weight": -1.0}, "tv_weight"),
    ({"backtrack_every": -1}, "backtrack_every"), ({"backtrack_drop": -1.0}, "backtrack_drop"),
    ({"es_window": -1}, "es_window"), ({"es_window": 1}, "at least 2 outputs"),
    ({"es_window": 5, "es_stride": 0}, "es_stride"), ({"es_window": 5, "es_patience": 0}, "es_patience"),
    ({"es_ends_run": True}, "set es_window"), ({"input_channels": 0}, "input_channels"),
    ({"input_scale": -1.0}, "input_scale"), ({"net": nn.Dense(3)}, "Dense is no network for Deep Image Prior"),
])  # fmt: skip
def test_values_out_of_range(kwargs, says):
    with pytest.raises(UserError, match=says):
        tiny.make(**kwargs)
