"""NeRF: a scene as the weights of a network, from photographs with known cameras (Mildenhall et al. 2020, 2003.08934).

Letters: B rays with origins o and directions d [B,3], S coarse and N fine samples on each, t their depths, w their
weights, c colours. Section 5: a coarse network finds where a ray meets something, a fine one is asked there; both are
trained on the squared error of the ray's colour (eq. 6).
"""

import dataclasses
import functools
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from genjax.core.task import LossTask
from genjax.errors import UserError, at_least
from genjax.fields import sampling, volume
from genjax.fields.radiance import RadianceField
from genjax.metrics.image import psnr
from genjax.ops.camera import focal_length, image_plane, look_at, on_sphere, rays
from genjax.viz.grid import image_grid

Density = Literal["relu", "softplus"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Nerf(LossTask):
    """Fits one scene.

    Attributes:
      coarse, fine: the networks; fine None: the coarse one is asked again.
      near, far: depths along the rays between which the scene lies.
      samples: S.
      importance: N, drawn where the coarse weights are; 0 for none.
      union: the fine network is asked at the S coarse depths too (the paper); False: at the N alone, of which some then
        lie everywhere.
      density: "relu" (the paper), or "softplus" of the output less 1, which never stops learning (Barron et al. 2021,
        Mip-NeRF, section 3.1); the last sample then ends after one even step and not at infinity.
      noise: standard deviation of the noise on densities while training.
      background: the colour [grey, 0 to 1] behind everything; below 0 for none (black).
      chunk: rays rendered at once for pictures.
      preview_size: side of the previews, from four sides at half of near and far, towards the origin.
    """

    coarse: nn.Module = RadianceField()
    fine: nn.Module | None = RadianceField()
    near: float = 2.0
    far: float = 6.0
    samples: int = 64
    importance: int = 128
    union: bool = True
    density: Density = "relu"
    noise: float = 0.0
    background: float = 1.0
    chunk: int = 4096
    preview_size: int = 64

    def __post_init__(self):
        super().__post_init__()
        sampling.check(self)
        at_least(self, importance=0, noise=0, chunk=1, preview_size=2)

    def init_variables(self, rng, spec):
        """Both networks' parameters."""
        if "origin" not in spec or "direction" not in spec:
            raise UserError("NeRF is trained on rays; config.data must be a genjax.data.posed.PosedImages")
        p, d = jnp.zeros((1, 2, 3)), jnp.ones((1, 3))
        keys = jax.random.split(rng)
        params = {"coarse": self.coarse.init(keys[0], p, d)["params"]}
        if self.importance and self.fine is not None:
            params["fine"] = self.fine.init(keys[1], p, d)["params"]
        return params, {}

    def _ask(self, params, name, o, d, t, rng):
        """(c [B,3], w [B,S]) of samples at depths t."""
        net, own = (self.fine, params["fine"]) if name == "fine" and "fine" in params else (
            self.coarse, params["coarse"])
        rgb, sigma = net.apply({"params": own}, o[:, None] + t[..., None] * d[:, None], d)
        if rng is not None and self.noise > 0:
            sigma = sigma + self.noise * jax.random.normal(rng, sigma.shape)
        last = 1e10
        if self.density == "softplus":
            sigma, last = nn.softplus(sigma - 1), (self.far - self.near) / t.shape[-1]
        w = volume.weights(sigma, t, jnp.linalg.norm(d, axis=-1), last)
        return volume.colour(w, rgb, max(self.background, 0.0)), w

    def render(self, params: Any, o: jax.Array, d: jax.Array, rng: jax.Array | None = None) -> dict[str, jax.Array]:
        """What rays see.

        Args:
          params: of both networks.
          o, d: [B,3].
          rng: jitters samples and densities; None: neither.

        Returns:
          {"coarse": c [B,3] of the coarse network, "rgb": c of the last one, "depth": [B], "alpha": [B]}.
        """
        keys = (None,) * 4 if rng is None else jax.random.split(rng, 4)
        t = sampling.depths(self, o.shape[:1], keys[0])
        coarse, w = self._ask(params, "coarse", o, d, t, keys[1])
        colour = coarse
        if self.importance:
            u = jnp.linspace(0.0, 1.0, self.importance, endpoint=False) + 0.5 / self.importance
            u = jnp.broadcast_to(u, (o.shape[0], self.importance))
            if rng is not None:
                u = jax.random.uniform(keys[2], u.shape)
            more = sampling.importance(u, (t[:, 1:] + t[:, :-1]) / 2, w[:, 1:-1], 1e-5 if self.union else 1e-2)
            t = jnp.sort(jnp.concatenate([t, more], -1) if self.union else more, -1)
            colour, w = self._ask(params, "fine", o, d, t, keys[3])
        return {"coarse": coarse, "rgb": colour, "depth": volume.depth(w, t), "alpha": w.sum(-1)}

    def loss(self, params, extra, batch, rng):
        """Squared errors of both networks' colours (eq. 6), means over rays and channels."""
        out = self.render(params, batch["origin"], batch["direction"], rng)
        fine = jnp.square(out["rgb"] - batch["image"]).mean()
        metrics = {"psnr": -10 * jnp.log10(fine)}
        if not self.importance:
            return fine, (extra, metrics)
        return fine + jnp.square(out["coarse"] - batch["image"]).mean(), (extra, metrics)

    @functools.cached_property
    def _chunk(self):
        return jax.jit(self.render)

    def view(self, variables: dict[str, Any], size: tuple[int, int], eye: Any, rotation: Any, focal: float,
             centre: tuple[float, float] = (0.0, 0.0), stretch: float = 1.0) -> dict[str, np.ndarray]:
        """A picture: {"rgb": [H,W,3] in [0,1], "depth": [H,W], "alpha": [H,W]}, `chunk` rays at a time.

        The camera's `focal`, `centre` and `stretch` are those of `genjax.data.posed_files.Views`.
        """
        h, w = size
        plane = (image_plane(h, w).reshape(-1, 2) - jnp.asarray(centre)) * jnp.asarray([1.0, stretch])
        o, d = (np.asarray(v) for v in rays(plane, focal, jnp.asarray(rotation), jnp.asarray(eye)))
        n = min(self.chunk, h * w)
        parts = []
        for i in range(0, h * w, n):
            at = np.minimum(np.arange(i, i + n), h * w - 1)
            parts.append(jax.tree.map(np.asarray, self._chunk(variables["params"], o[at], d[at])))
        out = {k: np.concatenate([p[k] for p in parts])[:h * w] for k in ("rgb", "depth", "alpha")}
        return {k: np.clip(v.reshape(h, w, *v.shape[1:]), 0, np.inf if k == "depth" else 1) for k, v in out.items()}

    def preview(self, variables, batch, rng):
        """{"turn", "depth"}: the scene from four sides, and its depths (near is bright)."""
        eye = (self.near + self.far) / 2 * on_sphere(jnp.arange(4) / 4, jnp.full(4, 0.25))
        seen = [self.view(variables, (self.preview_size,) * 2, e, r, float(focal_length(40.0)))
                for e, r in zip(np.asarray(eye), np.asarray(look_at(eye)), strict=True)]
        return {"turn": np.stack([v["rgb"] for v in seen]), "depth": np.stack([self._bright(v) for v in seen])}

    def _bright(self, view):
        """Depths [H,W] as a picture [H,W,3]: near is bright, nothing black."""
        near = np.clip((self.far - view["depth"]) / (self.far - self.near), 0, 1)
        return np.repeat((near * view["alpha"])[..., None], 3, -1)

    def _held_out(self, variables, data, most):
        """Pairs of truth and rendering of up to `most` held-out views, evenly chosen."""
        views = data.test[np.unique(np.linspace(0, len(data.test) - 1, most).round().astype(int))]
        return [(x, self.view(variables, x.shape[:2], e, r, views.focal, views.centre, views.stretch))
                for x, e, r in zip(views.images, views.eye, views.rotation, strict=True)]

    def evaluate(self, variables, data, rng):
        """PSNR in dB over the held-out views, the mean over views."""
        found = [float(psnr(a, b["rgb"])) for a, b in self._held_out(variables, data, len(data.test))]
        return {"psnr_test": float(np.mean(found)), "psnr_test_least": float(np.min(found))}

    def results(self, variables, data, rng):
        """{"views"}: held-out pictures over their renderings over the depths (near is bright)."""
        pairs = self._held_out(variables, data, 4)
        depth = [self._bright(b) for _, b in pairs]
        rows = np.stack([*(a for a, _ in pairs), *(b["rgb"] for _, b in pairs), *depth])
        return {"views": image_grid(rows, len(pairs), scale=max(1, 200 // rows.shape[2])) / 255.0}
