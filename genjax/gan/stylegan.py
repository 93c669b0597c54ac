"""StyleGAN's generator (Karras et al. 2019, arXiv:1812.04948), with the switches of its table 1.

Letters: z[N,z_dim] latents, y[N] labels, w[N,w_dim], ws[N,L,w_dim] one w per layer, x[N,r,r,C] pictures in [-1,1],
h[N,r,r,F] maps; R, r, alpha and nf as in `genjax.gan.progressive`, whose discriminator (`blur=True, head="switch"`) it
trains against. L = 2 log2(R) - 2: two layers per size.

The collection "buffers" is state and not learned: `w_avg`, the running average of w, and `noise_const`, one fixed noise
picture per layer. Parameters at 1024 with the defaults: 26 219 627, at 256: 26 086 229.
"""

import math
from typing import Literal

import jax
import jax.numpy as jnp
from flax import linen as nn

from genjax.errors import UserError, unknown
from genjax.gan.progressive import BLUR, BOX, as_float, check_size, fade, nf, one_hot, sizes, upscale
from genjax.gan.stylegan2 import mix_styles, mixing_cutoff
from genjax.nn.equalized import SQRT2, EqualConv, EqualDense, finish, pixel_norm
from genjax.ops.upfirdn import filter2d

Noise = Literal["random", "const", "none"]


def instance_norm(x: jax.Array, eps: float = 1e-8) -> jax.Array:
    """Every map [H,W] to mean 0 and variance 1, in x's dtype; computed in at least float32."""
    v = as_float(x)
    v = v - v.mean((1, 2), keepdims=True)
    return (v * jax.lax.rsqrt(jnp.square(v).mean((1, 2), keepdims=True) + eps)).astype(x.dtype)


class Mapping(nn.Module):
    """z, y -> w: on the sphere, then fully connected layers with a hundredth of the learning rate; 0 layers: z itself.

    A label has an embedding of z's length, appended to z before the normalisation.
    """

    w_dim: int = 512
    layers: int = 8
    classes: int = 0
    lr_multiplier: float = 0.01

    @nn.compact
    def __call__(self, z: jax.Array, labels: jax.Array | None = None) -> jax.Array:
        """w [N,w_dim]; with no layers [N,z_dim]."""
        x = as_float(z)
        if self.classes:
            embed = self.param("embed", nn.initializers.normal(1.0), (self.classes, z.shape[1]))
            x = jnp.concatenate([x, one_hot(labels, self.classes) @ embed], -1)
        x = pixel_norm(x)
        for i in range(self.layers):
            x = EqualDense(self.w_dim, gain=SQRT2, lr_multiplier=self.lr_multiplier, act="leaky_relu", name=f"fc{i}")(x)
        return x


class Epilogue(nn.Module):
    """What ends every layer: noise, bias, leaky ReLU, normalisation, style. Attributes as in `Synthesis`."""

    styles: bool = True
    noise: bool = True
    pixel_norm: bool = False
    instance_norm: bool = True

    @nn.compact
    def __call__(self, h: jax.Array, w: jax.Array, noise: Noise = "random") -> jax.Array:
        n, r, _, c = h.shape
        if self.noise:
            const = self.variable("buffers", "noise_const", lambda: jax.random.normal(self.make_rng("params"), (r, r)))
            weight = self.param("noise_weight", nn.initializers.zeros, (c,))
            if noise != "none":
                key = None if noise == "const" else self.make_rng("params" if self.is_initializing() else "noise")
                picture = const.value[None] if key is None else jax.random.normal(key, (n, r, r))
                h = h + picture[..., None].astype(h.dtype) * weight.astype(h.dtype)
        h = finish(h, self.param("bias", nn.initializers.zeros, (c,)), "leaky_relu")
        h = pixel_norm(h) if self.pixel_norm else h
        h = instance_norm(h) if self.instance_norm else h
        if self.styles:
            style = EqualDense(2 * c, name="style")(w).astype(h.dtype)[:, None, None]
            h = h * (style[..., :c] + 1) + style[..., c:]
        return h


class Synthesis(nn.Module):
    """ws -> x at size r.

    Attributes:
      resolution, channels, fmap_base, fmap_max, dtype: as in `genjax.gan.progressive.Generator`.
      const_input: start from a learned constant (ones at first) instead of a dense layer on w.
      styles: adaptive instance normalisation: maps are scaled and shifted by a linear function of w.
      noise: one random picture per layer, weighted per map (0 at first).
      pixel_norm, instance_norm: which normalisation follows the activation.
      blur: filter [1,2,1] after every enlargement.
    """

    resolution: int
    channels: int = 3
    fmap_base: int = 8192
    fmap_max: int = 512
    const_input: bool = True
    styles: bool = True
    noise: bool = True
    pixel_norm: bool = False
    instance_norm: bool = True
    blur: bool = True
    dtype: str | None = None

    @nn.compact
    def __call__(self, ws: jax.Array, noise: Noise = "random", *, size: int | None = None,
                 alpha: jax.Array | float = 1.0) -> jax.Array:
        """x [N,r,r,C] float32, about [-1,1]; noise "random" takes rngs={"noise": key}."""
        size = check_size(size, self.resolution)
        if noise not in ("random", "const", "none"):
            raise unknown("noise", noise, ("random", "const", "none"))
        image = h = None
        for i, r in enumerate(sizes(size)):
            width = nf(r, self.fmap_base, self.fmap_max)

            def finished(h, layer, name, r=r):
                end = Epilogue(self.styles, self.noise, self.pixel_norm, self.instance_norm, name=f"b{r}_{name}_end")
                return end(h, ws[:, layer], noise)

            def conv(h, name, width=width, r=r, **kwargs):
                return EqualConv(width, 3, gain=SQRT2, use_bias=False, name=f"b{r}_{name}", **kwargs)(h)

            if r > 4:
                h = conv(h, "conv0", up=2, fir=BOX)
                h = finished(filter2d(h, BLUR) if self.blur else h, 2 * i, "conv0")
            elif self.const_input:
                const = self.param("const", nn.initializers.ones, (4, 4, width))
                h = finished(as_float(jnp.broadcast_to(const, (ws.shape[0], 4, 4, width)), self.dtype), 0, "const")
            else:  # the published order of the units: channel, row, column; the gain is Progressive GAN's
                h = EqualDense(16 * width, gain=SQRT2 / 4, use_bias=False, dtype=self.dtype, name="b4_dense")(ws[:, 0])
                h = finished(h.reshape(-1, width, 4, 4).transpose(0, 2, 3, 1), 0, "dense")
            h = finished(conv(h, "conv1"), 2 * i + 1, "conv1")
            if r in (size, size // 2) or self.is_initializing():
                rgb = as_float(EqualConv(self.channels, 1, name=f"b{r}_torgb")(h))
                image = rgb if image is None or r < size else fade(upscale(image), rgb, alpha)
        return image


class Generator(nn.Module):
    """z -> x: `mapping`, then `synthesis`; both may be called alone (`method="map"`, `method="synthesize"`).

    Table 1 of the paper, from its tuned baseline on: B `mapping_layers=0, const_input=False, styles=False,
    noise=False, pixel_norm=True, instance_norm=False, mixing=0`; C `const_input=False, noise=False, mixing=0`; D
    `noise=False, mixing=0`; E `mixing=0`; F the defaults. A is `genjax.gan.progressive.Generator`.

    Attributes:
      resolution, channels, fmap_base, fmap_max, const_input, styles, noise, pixel_norm, instance_norm, blur, dtype: as
        in `Synthesis`.
      classes: 0: no labels.
      z_dim, w_dim, mapping_layers: of the mapping.
      mixing: the probability that a batch in training takes its last layers' w from other latents.
      w_avg_beta: decay of w_avg.
    """

    resolution: int = 1024
    channels: int = 3
    classes: int = 0
    z_dim: int = 512
    w_dim: int = 512
    mapping_layers: int = 8
    fmap_base: int = 8192
    fmap_max: int = 512
    const_input: bool = True
    styles: bool = True
    noise: bool = True
    pixel_norm: bool = False
    instance_norm: bool = True
    blur: bool = True
    mixing: float = 0.9
    w_avg_beta: float = 0.995
    dtype: str | None = None

    @property
    def num_ws(self) -> int:
        """L."""
        return 2 * len(sizes(self.resolution))

    def setup(self):
        if not 0 <= self.mixing <= 1:
            raise UserError(f"mixing is a probability, got {self.mixing}")
        self.mapping = Mapping(self.w_dim, self.mapping_layers, self.classes)
        self.synthesis = Synthesis(self.resolution, self.channels, self.fmap_base, self.fmap_max, self.const_input,
                                   self.styles, self.noise, self.pixel_norm, self.instance_norm, self.blur, self.dtype)
        width = self.w_dim if self.mapping_layers else self.z_dim * (2 if self.classes else 1)
        self.w_avg = self.variable("buffers", "w_avg", jnp.zeros, (width,))

    def map(self, z: jax.Array, labels: jax.Array | None = None, *, psi: float | jax.Array = 1.0,
            cutoff: int | jax.Array | None = None, update_w_avg: bool = False) -> jax.Array:
        """ws [N,L,w_dim]; its first `cutoff` rows (None: all) are drawn towards w_avg, w_avg + psi (w - w_avg)."""
        w = self.mapping(z, labels)
        if update_w_avg and not self.is_initializing():
            mean = jax.lax.stop_gradient(w).mean(0)
            self.w_avg.value = mean + self.w_avg_beta * (self.w_avg.value - mean)
        ws = jnp.broadcast_to(w[:, None], (w.shape[0], self.num_ws, w.shape[1]))
        if isinstance(psi, (int, float)) and psi == 1:
            return ws
        near = self.w_avg.value + psi * (ws - self.w_avg.value)
        return near if cutoff is None else jnp.where(jnp.arange(self.num_ws)[:, None] < cutoff, near, ws)

    def synthesize(self, ws: jax.Array, noise: Noise = "const", *, size: int | None = None,
                   alpha: jax.Array | float = 1.0) -> jax.Array:
        """x [N,r,r,C] float32 for ws [N,L,w_dim]."""
        return self.synthesis(ws, noise, size=size, alpha=alpha)

    def __call__(self, z: jax.Array, labels: jax.Array | None = None, train: bool = True, *, size: int | None = None,
                 alpha: jax.Array | float = 1.0, psi: float | jax.Array = 1.0,
                 cutoff: int | jax.Array | None = None) -> jax.Array:
        """x [N,r,r,C]. In training styles are mixed, w_avg moves (where "buffers" is mutable), noise is random; else
        truncation is that of `map` and noise the fixed pictures."""
        if not train:
            return self.synthesis(self.map(z, labels, psi=psi, cutoff=cutoff), "const", size=size, alpha=alpha)
        ws = self.map(z, labels, update_w_avg=True)
        if self.mixing > 0:
            layers = 2 * int(math.log2(check_size(size, self.resolution))) - 2
            place, other = jax.random.split(self.make_rng("params" if self.is_initializing() else "noise"))
            others = self.map(jax.random.normal(other, z.shape, z.dtype), labels)
            ws = mix_styles(ws, others, mixing_cutoff(place, layers, self.mixing))
        return self.synthesis(ws, "random", size=size, alpha=alpha)
