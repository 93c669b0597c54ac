"""Deep Image Prior as a task: a network with random weights is fitted to one degraded picture.

Source: Ulyanov, Vedaldi and Lempitsky, Deep Image Prior, CVPR 2018 (arXiv:1711.10925); early stopping: Wang et al.,
Early Stopping for Deep Image Prior, 2021 (arXiv:2112.06074), section 2.

Letters: N pictures, each with a network of its own (every leaf of the state has a leading axis N, split over the mesh's
`data` axis); H, W, C of a picture; z the fixed input of a network. All pictures are float32 in [0,1]. A network that
cannot draw H x W draws the next larger size that it can, of which the picture is the middle; the rest is left alone.
Batches hold `observed` [N,h,w,C], `mask` [N,H,W,1] (1 = known) and, when known, `clean` [N,H,W,C]; `guide` [N,H,W,C]
is the input of flash/no-flash.
"""

import dataclasses
import functools
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn

from genjax.core import rng as rng_lib
from genjax.core.task import TaskBase, TrainState, rematerialised
from genjax.dip import forward, inputs, result
from genjax.dip.batching import per_picture
from genjax.dip.networks import centre_crop
from genjax.errors import UserError, at_least
from genjax.losses.regularisers import total_variation
from genjax.metrics.image import psnr, ssim


@dataclasses.dataclass(frozen=True, kw_only=True)
class DeepImagePrior(TaskBase):
    """Fits network(z) to the observed pictures; the structure of the network is the only prior.

    Attributes:
      network: maps z [1,h,w,c] to a picture [1,H,W,C] (`genjax.dip.networks`).
      optimizer: usually "@optimizer".
      input_kind: fixed input z: uniform or normal noise, a meshgrid (2 channels), or the `guide` picture.
      input_channels: channels of z.
      input_scale: factor on the noise.
      reg_noise_std: standard deviation of the noise added to z anew at every step.
      factor: the forward model: 1 compares the output under the mask, above 1 after downsampling by this factor.
      kernel: the forward model's downsampling filter.
      tv_weight: weight of total variation on the output (the TV baseline).
      ema_decay: decay d of the average over outputs (not weights), its weights d^k divided by their sum.
      ema_warmup: w, which shortens the average in short runs: the output of step i (from 0) enters with a weight of at
        least (w + 1) / (i + w + 1), so that the average reaches back over about a w-th of the steps so far until it
        reaches back over 1 / (1 - d) of them. 0 for none: then a run of some 1 / (1 - d) steps averages over all of it.
        The configs set 10; runs from before it was a key have none, and go on without.
      backtrack_every: steps between checks for collapse (at steps 0, k, 2k, ...), 0 for none. At a check whose PSNR to
        the observation fell by more than `backtrack_drop` dB since the last, weights, optimiser and average of outputs
        go back to that check, and the bad gradient is not used (the reference restores nothing on a CPU, and steps
        with the bad gradient). Without noise on z the same steps would end in the same collapse: then every return
        also halves the updates from there on. The authors check in two notebooks alone: in restoration.ipynb every 50
        steps, in denoising.ipynb at every step but each hundredth, against the step before. Here every task checks: a
        fit that does not collapse is the same with and without.
      backtrack_drop: in dB.
      es_window: outputs in the window of the running variance, 0 for no early stopping. The average over outputs where
        the variance is smallest is kept as `early`, without knowing the clean picture (the paper keeps the output).
      es_patience: steps without a smaller variance after which a picture counts as finished.
      es_stride: pixels are taken every so many rows and columns for the variance.
      es_ends_run: stop the run when all pictures are finished.
      remat: compute cheap intermediate results again instead of keeping them (see `core.task.rematerialised`).
    """

    network: nn.Module
    optimizer: optax.GradientTransformation
    input_kind: Literal["noise", "normal", "meshgrid", "image"] = "noise"
    input_channels: int = 32
    input_scale: float = 0.1
    reg_noise_std: float = 1.0 / 30.0
    factor: int = 1
    kernel: forward.Kernel = "lanczos2"
    tv_weight: float = 0.0
    ema_decay: float = 0.99
    ema_warmup: int = 0
    backtrack_every: int = 50
    backtrack_drop: float = 5.0
    es_window: int = 0
    es_patience: int = 1000
    es_stride: int = 4
    es_ends_run: bool = False
    remat: bool = False

    def __post_init__(self):
        lacks = [a for a in ("multiple", "reduction", "out_channels") if not hasattr(self.network, a)]
        if lacks:
            raise UserError(f"{type(self.network).__name__} is no network for Deep Image Prior: it lacks"
                            f" {', '.join(lacks)}; take one of genjax.dip.networks or genjax.dip.other_networks")
        at_least(self, input_channels=1, input_scale=0, reg_noise_std=0, factor=1, tv_weight=0, ema_warmup=0,
                 backtrack_every=0, backtrack_drop=0, es_window=0, es_patience=1, es_stride=1)
        if not 0 <= self.ema_decay < 1:
            raise UserError(f"ema_decay must be in [0,1), got {self.ema_decay}")
        if self.es_window == 1:
            raise UserError("es_window 1: a variance needs at least 2 outputs (0 turns early stopping off)")
        if self.es_ends_run and not self.es_window:
            raise UserError("es_ends_run needs early stopping: set es_window, e.g. to 100")

    def copies(self, spec) -> int:
        """How many independent networks the state holds, one per picture; `plan` counts the parameters of one."""
        return spec["mask"].shape[0]

    def init(self, rng, spec):
        """N independent networks, inputs and optimisers; picture i's are a function of `rng` and i alone."""
        n, height, width, _ = spec["mask"].shape
        channels = spec["observed"].shape[-1]
        self._check(spec)
        canvas = self._canvas(spec)

        def one(key):
            key_z, key_w = jax.random.split(key)
            z = self._input(key_z, spec, *canvas)
            params = self.network.init(key_w, z)["params"]
            opt_state = self.optimizer.init(params)
            blank = jnp.zeros((height, width, channels))
            extra = {"z": z, "ema": blank}
            if "clean" in spec:
                extra["best"] = {"output": blank, "psnr": jnp.float32(-jnp.inf)}
            if self.backtrack_every:
                extra["saved"] = {"params": jax.tree.map(jnp.array, params),
                                  "opt_state": jax.tree.map(jnp.array, opt_state), "ema": blank,
                                  "psnr": jnp.float32(-jnp.inf), "returns": jnp.int32(0)}
            if self.es_window:
                sample = blank[:: self.es_stride, :: self.es_stride]
                extra["early"] = {"window": jnp.zeros((self.es_window, *sample.shape)), "output": blank,
                                  "variance": jnp.float32(jnp.inf), "step": jnp.int32(0),
                                  "finished": jnp.bool_(False)}
            return params, opt_state, extra

        params, opt_state, extra = jax.vmap(one)(rng_lib.per_item(rng, n))
        return TrainState(jnp.zeros((), jnp.int32), params, {}, opt_state, extra)

    def _check(self, spec):
        height, width = spec["mask"].shape[1:3]
        if self.input_kind == "image" and "guide" not in spec:
            raise UserError("input_kind 'image' needs config.data.guide, the picture that is the input")
        h, w = spec["observed"].shape[1:3]
        if (h * self.factor, w * self.factor) != (height, width):
            raise UserError(f"observed pictures of {h}x{w} times factor {self.factor} are not {height}x{width};"
                            " make config.task.factor and config.data.factor agree")
        out = spec["observed"].shape[-1]
        if self.network.out_channels != out:
            raise UserError(f"the network draws {self.network.out_channels} channels, the pictures have {out};"
                            " make config.task.network.out_channels and config.data.channels agree")

    def _input(self, key, spec, height, width):
        """z [1,h,w,C] of one picture drawn at this size; zeros where it is the guide, which every step takes from the
        batch."""
        side = self.network.reduction
        guide = jnp.zeros((height, width, spec["guide"].shape[-1])) if self.input_kind == "image" else None
        return inputs.make_input(self.input_kind, key, height // side, width // side, self.input_channels,
                                 scale=self.input_scale, image=guide)

    def _canvas(self, spec):
        """The size the network draws: the pictures' own, or from the next multiples of its `multiple` on the first that
        it can draw (side branches crop to fit; maps of a pixel or two have nothing to be padded with by reflection)."""
        size, side = spec["mask"].shape[1:3], self.network.multiple
        up = tuple(-(-n // side) * side for n in size)
        if size == up and min(size) >= 3 * side:
            return size
        error = UserError(f"this network draws no pictures of {size[0]}x{size[1]}, nor of a size a little larger; give"
                          " it fewer scales, or take larger pictures")
        for tried in (size, *((up[0] + k * side, up[1] + k * side) for k in range(4))):
            try:
                z = jax.eval_shape(lambda k, tried=tried: self._input(k, spec, *tried), jax.random.key(0))
                drawn = jax.eval_shape(lambda x: self.network.init_with_output(jax.random.key(0), x)[0], z)
            except UserError as e:
                error = e
            except (TypeError, ValueError):  # maps that do not fit together
                pass
            else:
                if drawn.shape[1:3] == tried:
                    return tried
        raise error

    def _loss(self, params, z, batch):
        output = centre_crop(self.network.apply({"params": params}, z), *batch["mask"].shape[:2])[0]
        error = forward.observe(output, self.factor, self.kernel) - batch["observed"]
        if self.factor == 1:
            error = error * batch["mask"]
        loss = jnp.mean(error**2)
        total = loss + self.tv_weight * total_variation(output) if self.tv_weight else loss
        return total, (output, loss)

    def _one(self, params, opt_state, extra, batch, key, step):
        """One step of one picture."""
        z = inputs.framed(batch["guide"][None], extra["z"].shape) if self.input_kind == "image" else extra["z"]
        noisy = z + self.reg_noise_std * jax.random.normal(key, z.shape) if self.reg_noise_std else z
        (loss, (output, fit)), grads = jax.value_and_grad(rematerialised(self._loss, self.remat), has_aux=True)(
            params, noisy, batch)
        updates, new_opt = self.optimizer.update(grads, opt_state, params)
        if self.backtrack_every and not self.reg_noise_std:
            shrink = jnp.exp2(-extra["saved"]["returns"].astype(jnp.float32))
            updates = jax.tree.map(lambda u: u * shrink, updates)
        # Weights (1-d) d^k over the outputs so far, divided by their sum: from step 1/(1-d) on the reference's average,
        # before without the reference's clinging to the first output; and no less than the warm-up's.
        i = step.astype(jnp.float32)
        weight = jnp.maximum((1 - self.ema_decay) / (1 - self.ema_decay ** (i + 1)),
                             (self.ema_warmup + 1) / (i + self.ema_warmup + 1))
        ema = extra["ema"] + (output - extra["ema"]) * weight
        now = {"params": optax.apply_updates(params, updates), "opt_state": new_opt, "ema": ema}
        new = {**extra, "z": z}
        metrics = {"loss": loss, "psnr_observed": _decibel(fit)}
        if "clean" in batch:
            metrics["psnr"] = psnr(output, batch["clean"])
            metrics["psnr_ema"] = psnr(ema, batch["clean"])
            better = metrics["psnr"] > extra["best"]["psnr"]
            new["best"] = _pick(better, {"output": output, "psnr": metrics["psnr"]}, extra["best"])
        if self.backtrack_every:
            before = {"params": params, "opt_state": opt_state, "ema": extra["ema"]}
            now, new["saved"], back = self._backtrack(before, now, extra["saved"], metrics["psnr_observed"], step)
            metrics["backtracked"] = back.astype(jnp.float32)
        new["ema"] = now["ema"]
        if self.es_window:
            new["early"], metrics["variance"], finished = self._early(extra["early"], output, new["ema"], step)
            metrics["stop"] = finished.astype(jnp.float32)
        return now["params"], now["opt_state"], new, metrics

    def _backtrack(self, before, now, saved, quality, step):
        """`(state to go on with, state to return to, whether it returned)`; quality is that of the state `before`."""

        def check():
            least = saved["psnr"] - self.backtrack_drop
            good, bad = quality >= least, quality < least  # NaN is neither: the loop ends the run
            kept = _pick(good, {**before, "psnr": quality}, {k: saved[k] for k in (*before, "psnr")})
            return _pick(bad, {k: saved[k] for k in now}, now), {**kept, "returns": saved["returns"] + bad}, bad

        return jax.lax.cond(step % self.backtrack_every == 0, check, lambda: (now, saved, jnp.bool_(False)))

    def _early(self, early, output, average, step):
        """Windowed moving variance of the outputs; its minimum marks the average to keep."""
        sample = output[:: self.es_stride, :: self.es_stride]
        window = jax.lax.dynamic_update_index_in_dim(early["window"], sample, step % self.es_window, 0)
        variance = jnp.mean(jnp.var(window, axis=0))
        full = step >= self.es_window - 1
        # Once finished a picture stays finished: what it keeps is frozen from then on.
        better = full & (variance < early["variance"]) & ~early["finished"]
        found = jnp.where(better, step, early["step"])
        finished = early["finished"] | (full & (step - found >= self.es_patience))
        kept = _pick(better, {"output": average, "variance": variance}, {k: early[k] for k in ("output", "variance")})
        new = {**kept, "window": window, "step": found, "finished": finished}
        return new, jnp.where(full, variance, jnp.inf), finished

    def step(self, state, batch, rng):
        """One step of every picture."""
        n = batch["mask"].shape[0]
        mapped = (state.params, state.opt_state, state.extra, dict(batch), rng_lib.per_item(rng, n))
        params, opt_state, extra, metrics = per_picture(self._one, mapped, (state.step,))
        stop = {}
        if self.es_window:
            stop = {"stop": metrics.pop("stop").min() * float(self.es_ends_run)}
            metrics["variance"] = jnp.where(jnp.isfinite(metrics["variance"]), metrics["variance"], 0.0)
        out = {k: v.mean() for k, v in metrics.items()}
        if n > 1:
            out |= {f"{k}_each": v for k, v in metrics.items() if k.startswith("psnr")}
        return TrainState(state.step + 1, params, {}, opt_state, extra), {**out, **stop}

    def export(self, state):
        """Networks, inputs and the kept outputs, without what only training needs."""
        extra = {k: v for k, v in state.extra.items() if k != "saved"}
        if "early" in extra:
            extra["early"] = {k: v for k, v in extra["early"].items() if k != "window"}
        return {"params": state.params, "extra": extra}

    @functools.cached_property
    def _outputs(self):
        def draw(params, z):
            return per_picture(lambda p, x: self.network.apply({"params": p}, x)[0], (params, z))

        # It runs a few times in a whole run: on the CPU optimising it would take longer than it ever runs.
        fast = {"xla_backend_optimization_level": 0} if jax.default_backend() == "cpu" else None
        return jax.jit(draw, compiler_options=fast)

    def _draw(self, params, z, like):
        """The networks' outputs for these inputs, cut to the middle [N,H,W,C] that is the pictures `like`."""
        return np.asarray(centre_crop(self._outputs(params, z), *like.shape[1:3]))

    def outputs(self, variables: dict[str, Any]) -> dict[str, np.ndarray]:
        """The restored pictures, each [N,H,W,C] in [0,1]: `last` = network(z) without noise, `ema`, the average over
        outputs, and where kept `early`, that average where early stopping chose it without the clean picture, and
        `best`, the output nearest to the clean picture (an upper bound, not a result)."""
        extra = variables["extra"]
        found = {"last": self._draw(variables["params"], extra["z"], extra["ema"]), "ema": extra["ema"]}
        if "early" in extra:
            # Before the window has filled once there is no choice yet.
            chosen = np.isfinite(extra["early"]["variance"])[:, None, None, None]
            found["early"] = np.where(chosen, extra["early"]["output"], found["ema"])
        if "best" in extra:
            found["best"] = extra["best"]["output"]
        return {k: np.clip(np.asarray(v), 0, 1) for k, v in found.items()}

    def sample(self, variables, rng, n, cond=None):
        """The outputs for `n` fresh draws of the input noise of the first picture: how much the fit depends on z."""
        params = jax.tree.map(lambda x: jnp.asarray(x)[:1], variables["params"])
        z = jnp.asarray(variables["extra"]["z"])[:1]
        std = max(self.reg_noise_std, 1e-3)
        drawn = [self._draw(params, z + std * jax.random.normal(k, z.shape), variables["extra"]["ema"])[0]
                 for k in rng_lib.per_item(rng, n)]
        return {"samples": np.clip(np.stack(drawn), 0, 1)}

    def preview(self, variables, batch, rng):
        """Observed pictures, the results, the other restored ones, and the clean ones where known."""
        batch = {k: np.asarray(v) for k, v in batch.items()}
        observed = batch["observed"]
        if self.factor > 1:
            observed = observed.repeat(self.factor, 1).repeat(self.factor, 2)
        images = {"observed": observed * batch["mask"], **self._with_result(variables, batch)}
        if "clean" in batch:
            images["clean"] = batch["clean"]
        return images

    def results(self, variables, data, rng):
        """The restored pictures one by one, NAME_OUTPUT -> [H,W,C] in [0,1], for the names of `data` and the `outputs`.

        `result`, of several pictures NAME_result, is the one to take: chosen from them without the truth (see
        `genjax.dip.result`). Where pictures have holes `composite` is one more: the observation with its holes filled
        from `ema`.
        """
        batch, names = data.batch(0), _names(data, data.batch(0))
        kept = self._kept(variables, batch)
        chosen = self._results(variables, kept, batch)
        found = {n: image for n, (image, _) in zip(result.names(names), chosen, strict=True)}
        return found | {f"{name}_{k}": images[i] for i, name in enumerate(names) for k, images in kept.items()}

    def remarks(self, variables, data):
        """What each result is, and where the truth is known how it stands against the other outputs."""
        batch = data.batch(0)
        kept, clean = self._kept(variables, batch), batch.get("clean")
        return tuple(result.remark(name, image, text, {k: v[i] for k, v in kept.items() if k != "best"},
                                   None if clean is None else clean[i])
                     for i, (name, (image, text)) in enumerate(zip(
                         result.names(_names(data, batch)), self._results(variables, kept, batch), strict=True)))

    def _kept(self, variables, batch):
        """The `outputs`, and where pictures have holes the `composite`."""
        holes = self.factor == 1 and (batch["mask"] < 1).any()
        return self.outputs(variables) | ({"composite": self.composite(variables, batch)} if holes else {})

    def _with_result(self, variables, batch):
        """The `outputs`, and before them what `result` chooses from them."""
        kept = self.outputs(variables)
        return {"result": np.stack([image for image, _ in self._results(variables, kept, batch)]), **kept}

    def _results(self, variables, kept, batch):
        """`(picture, what it is)` for each picture, from the `outputs`."""
        ended = np.broadcast_to(variables["extra"].get("early", {}).get("finished", False), len(batch["mask"]))
        return [result.choose(kept["ema"][i], kept["last"][i], np.clip(batch["observed"][i], 0, 1), batch["mask"][i],
                              factor=self.factor, kernel=self.kernel, early=kept["early"][i] if ended[i] else None)
                for i in range(len(ended))]

    @staticmethod
    def composite(variables, batch):
        """The observed pictures with their holes filled from `ema`, [N,H,W,C] in [0,1]."""
        filled = np.clip(np.asarray(variables["extra"]["ema"]), 0, 1)
        return np.where(batch["mask"] > 0, np.clip(batch["observed"], 0, 1), filled)

    def evaluate(self, variables, data, rng):
        """PSNR and SSIM of the result and, after it, of every kept output, averaged over the pictures, and with several
        `psnr_ema/NAME` and `psnr_result/NAME` of each.

        Nothing when no clean picture is known; no SSIM below the 11 x 11 pixels of its window.
        """
        batch = data.batch(0)
        if "clean" not in batch:
            return {}
        clean, mask = batch["clean"], batch["mask"]
        found, kept = {}, self._with_result(variables, batch)
        for name, images in kept.items():
            found[f"psnr_{name}"] = np.mean([psnr(a, b) for a, b in zip(images, clean, strict=True)])
            if min(clean.shape[1:3]) >= 11:
                found[f"ssim_{name}"] = np.mean([ssim(a, b) for a, b in zip(images, clean, strict=True)])
            if name in ("ema", "result") and len(images) > 1:
                found |= {f"psnr_{name}/{n}": psnr(a, b)
                          for n, a, b in zip(_names(data, batch), images, clean, strict=True)}
            holes = [psnr(a, b, mask=1 - m) for a, b, m in zip(images, clean, mask, strict=True) if (m < 1).any()]
            if holes:
                found[f"psnr_hole_{name}"] = np.mean(holes)
        if self.factor == 1:
            pictures = {"input": batch["observed"] * mask}
            if (mask < 1).any():  # what is known is kept, only the holes are the network's
                pictures["composite"] = self.composite(variables, batch)
            for name, images in pictures.items():
                found[f"psnr_{name}"] = np.mean([psnr(a, b) for a, b in zip(images, clean, strict=True)])
        return {k: float(v) for k, v in found.items()}


def _names(data, batch):
    """One name per picture: those of the data set, or their numbers."""
    return getattr(data, "names", None) or [str(i) for i in range(len(batch["mask"]))]


def _pick(flag, a, b):
    """Tree a where flag, else tree b."""
    return jax.tree.map(lambda x, y: jnp.where(flag, x, y), a, b)


def _decibel(mse):
    return -10.0 * jnp.log10(jnp.maximum(mse, 1e-12))
