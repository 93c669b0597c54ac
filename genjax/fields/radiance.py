"""NeRF's network, with GRAF's codes where they are wanted: colour and density of points seen from a direction.

Letters: p[...,R,S,3] points, S on each of R rays, d[...,R,3] directions, z_s, z_a[...,Z] codes. Sources: Mildenhall et
al. 2020 (NeRF, arXiv:2003.08934) figure 7; Schwarz et al. 2020 (GRAF, 2007.02442) section 3.2.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn

from genjax.fields.encoding import octaves, unit
from genjax.nn.layers import Dense


class RadianceField(nn.Module):
    """Points and directions to colours in [0,1] and densities.

    Attributes:
      hidden: width.
      layers: of the density's part.
      skips: layers behind which the input comes in again.
      octaves, view_octaves: of the encodings, which include points and directions themselves.
      view_directions: whether colours depend on d.
      dtype: of the arithmetic; encodings, densities and colours are float32.
    """

    hidden: int = 256
    layers: int = 8
    skips: tuple[int, ...] = (4,)
    octaves: int = 10
    view_octaves: int = 4
    view_directions: bool = True
    dtype: str = "float32"

    @nn.compact
    def __call__(self, p: jax.Array, d: jax.Array, z_s: jax.Array | None = None,
                 z_a: jax.Array | None = None) -> tuple[jax.Array, jax.Array]:
        """(colours [...,R,S,3], densities before the relu [...,R,S]); codes are put beside the encodings."""
        def dense(n, name):
            return Dense(n, dtype=self.dtype, name=name)

        def beside(x, z):
            if z is None:
                return x
            return jnp.concatenate([x, jnp.broadcast_to(z[..., None, None, :], (*x.shape[:-1], z.shape[-1]))], -1)

        x = beside(octaves(p, self.octaves, pi=False, include_input=True), z_s)
        h = x
        for i in range(self.layers):
            h = nn.relu(dense(self.hidden, f"layer_{i}")(h))
            if i in self.skips:
                h = jnp.concatenate([x.astype(h.dtype), h], -1)
        sigma = dense(1, "sigma")(h)[..., 0].astype(jnp.float32)
        h = dense(self.hidden, "feature")(h)
        if self.view_directions:
            d = unit(d)
            v = octaves(d, self.view_octaves, pi=False, include_input=True)[..., None, :]
            v = beside(jnp.broadcast_to(v, (*p.shape[:-1], v.shape[-1])), z_a)
            h = jnp.concatenate([h, v.astype(h.dtype)], -1)
        h = nn.relu(dense(self.hidden // 2, "view")(h))
        return nn.sigmoid(dense(3, "rgb")(h).astype(jnp.float32)), sigma
