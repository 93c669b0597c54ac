"""NeRF's network, with GRAF's codes where they are wanted: colour and density of points seen from a direction.

Letters: p[...,R,S,3] points, S on each of R rays, d[...,R,3] directions, z_s, z_a[...,Z] codes. Sources: Mildenhall et
al. 2020 (NeRF, arXiv:2003.08934) figure 7; Schwarz et al. 2020 (GRAF, 2007.02442) section 3.2.

The papers put directions and codes beside what each point has and multiply it all. Here each part is multiplied by its
own rows of the kernel and the products are added: those of directions once per ray, those of codes once per code.
"""

from typing import Literal

import jax
import jax.numpy as jnp
from flax import linen as nn

from genjax.errors import UserError, at_least
from genjax.fields.encoding import Dtype, octaves, unit
from genjax.nn import init
from genjax.nn.layers import rows_times

Start = Literal["torch", "glorot"]


class Beside(nn.Module):
    """`Dense` of its inputs [...,C_i] put side by side, with its parameters: kernel [sum C_i,Co], bias [Co].

    Attributes:
      features: Co.
      dtype: of the arithmetic.
      start: see `RadianceField`.
    """

    features: int
    dtype: str = "float32"
    start: Start = "torch"

    @nn.compact
    def __call__(self, *parts: jax.Array) -> jax.Array:
        """[...,Co], of the parts' common shape; those with 1 in it are multiplied once."""
        widths = [x.shape[-1] for x in parts]
        first = (init.torch_kernel, init.torch_bias(sum(widths))) if self.start == "torch" else (
            nn.initializers.glorot_uniform(), nn.initializers.zeros)
        kernel = self.param("kernel", first[0], (sum(widths), self.features)).astype(self.dtype)
        bias = self.param("bias", first[1], (self.features,)).astype(self.dtype)
        rows, y = 0, bias
        for x, n in zip(parts, widths, strict=True):
            y = y + rows_times(x.astype(self.dtype), kernel[rows:rows + n])
            rows += n
        return y


class RadianceField(nn.Module):
    """Points and directions to colours in [0,1] and densities.

    Attributes:
      hidden: width.
      layers: of the density's part.
      skips: layers behind which the input comes in again.
      octaves, view_octaves: of the encodings, which include points and directions themselves.
      view_directions: whether colours depend on d; on z_a they do anyhow.
      dtype: of the arithmetic; encodings, densities and colours are float32.
      start: initial weights: "torch", PyTorch's (GRAF), or "glorot", with biases 0 (the NeRF authors' Keras): three
        times the variance, which a few minutes of training are long enough to feel.

    Raises:
      UserError: a width below 2, no layers, a negative number of octaves, skips that no layer has.
    """

    hidden: int = 256
    layers: int = 8
    skips: tuple[int, ...] = (4,)
    octaves: int = 10
    view_octaves: int = 4
    view_directions: bool = True
    dtype: Dtype = "float32"
    start: Start = "torch"

    def __post_init__(self):
        at_least(self, hidden=2, layers=1, octaves=0, view_octaves=0)
        if bad := [i for i in self.skips if not 0 <= i < self.layers]:
            raise UserError(f"skips={tuple(self.skips)}: {bad[0]} is not one of the layers 0 to {self.layers - 1} that"
                            f" layers={self.layers} has; set skips too")
        super().__post_init__()

    @nn.compact
    def __call__(self, p: jax.Array, d: jax.Array, z_s: jax.Array | None = None,
                 z_a: jax.Array | None = None) -> tuple[jax.Array, jax.Array]:
        """(colours [...,R,S,3], densities before the relu [...,R,S]); codes are put beside the encodings."""
        def beside(n, name, *parts):
            return Beside(n, self.dtype, self.start, name=name)(*(x for x in parts if x is not None))

        def per_point(z):
            return None if z is None else z[..., None, None, :]

        x = octaves(p, self.octaves, pi=False, include_input=True), per_point(z_s)
        h = x
        for i in range(self.layers):
            h = (nn.relu(beside(self.hidden, f"layer_{i}", *h)),)
            if i in self.skips:
                h = (*x, *h)
        sigma = beside(1, "sigma", *h)[..., 0].astype(jnp.float32)
        h = (beside(self.hidden, "feature", *h),)
        if self.view_directions:
            h = (*h, octaves(unit(d), self.view_octaves, pi=False, include_input=True)[..., None, :])
        h = (*h, per_point(z_a))
        h = nn.relu(beside(self.hidden // 2, "view", *h))
        return nn.sigmoid(beside(3, "rgb", h).astype(jnp.float32)), sigma
