"""GIRAFFE's feature field: density and feature of points, given a code for shape and one for appearance.

Letters: p[...,R,S,3] points, S on each of R rays; d[...,R,3] the rays' directions; z_s, z_a[...,Z] codes; H hidden
width, M features. Source: Niemeyer and Geiger 2021 (arXiv:2011.12100) section 3.1 and the authors' decoder.

What does not change along a ray is computed once per ray (the direction's part) or once per code, and the last linear
layer is applied to the ray's weighted sum and not to each sample: it is linear, so this is the same number at a small
part of the cost. That is why a field gives `hidden` and `head` apart.
"""

from typing import Literal

import jax
import jax.numpy as jnp
from flax import linen as nn

from genjax.errors import UserError, at_least
from genjax.fields.encoding import Dtype, gaussian, gaussian_directions, octaves, unit
from genjax.nn import init
from genjax.nn.layers import Dense

Encoding = Literal["normal", "gauss"]


class FeatureField(nn.Module):
    """The field of objects (the defaults) or of the background (hidden 64, blocks 4, skips (), downscale 12).

    Attributes:
      hidden: H.
      blocks: linear layers of the density's part.
      skips: after which of them the codes and points come in again.
      features: M.
      octaves, view_octaves: of the encodings of points and directions.
      downscale: points, and directions too, are divided by it before they are encoded.
      encoding: "normal", or "gauss" (random directions, as many features).
      view_directions: whether features depend on d.
      dtype: of the arithmetic; parameters, encodings and densities are float32.

    Raises:
      UserError: a width, a number of layers or of octaves below 1, a `downscale` that is not above 0, skips that no
        layer has.
    """

    hidden: int = 128
    blocks: int = 8
    skips: tuple[int, ...] = (4,)
    features: int = 128
    octaves: int = 10
    view_octaves: int = 4
    downscale: float = 2.0
    encoding: Encoding = "normal"
    view_directions: bool = True
    dtype: Dtype = "float32"

    def __post_init__(self):
        at_least(self, hidden=1, blocks=1, features=1, octaves=1, view_octaves=1)
        if not self.downscale > 0:
            raise UserError(f"downscale={self.downscale} must be above 0: points are divided by it")
        if bad := [i for i in self.skips if not 0 < i < self.blocks - 1]:
            raise UserError(f"skips={tuple(self.skips)}: {bad[0]} is not one of the layers 1 to {self.blocks - 2} that"
                            f" blocks={self.blocks} has between the first and the last; set skips too")
        super().__post_init__()

    def setup(self):
        def dense(n):
            return Dense(n, dtype=self.dtype)

        h = self.hidden
        self.fc_in, self.fc_z = dense(h), dense(h)
        self.layers = [dense(h) for _ in range(self.blocks - 1)]
        self.fc_z_skips, self.fc_p_skips = ([dense(h) for _ in self.skips] for _ in range(2))
        self.sigma_out = dense(1)
        self.fc_z_view, self.feat_view = dense(h), dense(h)
        if self.view_directions:
            self.fc_view = dense(h)
        self.feat_kernel = self.param("feat_kernel", init.torch_kernel, (h, self.features))
        self.feat_bias = self.param("feat_bias", init.torch_bias(h), (self.features,))

    def _encode(self, x, n, after=0):
        x = x / self.downscale
        if self.encoding == "gauss":
            return gaussian(x, jnp.asarray(gaussian_directions(n, after=after)))
        return octaves(x, n)

    def hidden_features(self, p: jax.Array, d: jax.Array, z_s: jax.Array,
                        z_a: jax.Array) -> tuple[jax.Array, jax.Array]:
        """(the last hidden layer [...,R,S,H], densities before the relu [...,R,S] float32)."""
        def per_point(z):
            return z[..., None, None, :]

        x = self._encode(p, self.octaves)
        net = nn.relu(self.fc_in(x) + per_point(self.fc_z(z_s)))
        skip = 0
        for i, layer in enumerate(self.layers, 1):
            net = nn.relu(layer(net))
            if i in self.skips:
                net = net + (self.fc_p_skips[skip](x) + per_point(self.fc_z_skips[skip](z_s)))
                skip += 1
        sigma = self.sigma_out(net)[..., 0].astype(jnp.float32)
        net = self.feat_view(net) + per_point(self.fc_z_view(z_a))
        if self.view_directions:
            d = unit(d)
            net = nn.relu(net + self.fc_view(self._encode(d, self.view_octaves, self.octaves))[..., None, :])
        return net, sigma

    def head(self, hidden: jax.Array, total: jax.Array) -> jax.Array:
        """The features [...,M] of a weighted sum of hidden layers [...,H] whose weights sum to `total` [...]."""
        dtype = jnp.dtype(self.dtype)
        return hidden.astype(dtype) @ self.feat_kernel.astype(dtype) + (total[..., None] * self.feat_bias).astype(dtype)

    def __call__(self, p: jax.Array, d: jax.Array, z_s: jax.Array, z_a: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Features [...,R,S,M] and densities (before the relu) [...,R,S] of every point."""
        net, sigma = self.hidden_features(p, d, z_s, z_a)
        return self.head(net, jnp.ones(net.shape[:-1])), sigma
