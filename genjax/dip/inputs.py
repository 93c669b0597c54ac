"""The fixed inputs z of Deep Image Prior's networks, as pure functions of a key. All are [1,H,W,C] float32."""

from typing import Literal

import jax
import jax.numpy as jnp

from genjax.errors import UserError, unknown


def noise(
    key: jax.Array, height: int, width: int, channels: int = 32, *,
    distribution: Literal["uniform", "normal"] = "uniform", scale: float = 0.1,
) -> jax.Array:  # fmt: skip
    """Noise z [1,height,width,channels]: scale * U(0,1), or scale * N(0,1).

    Source: paper, section 3 (U(0, 1/10), 32 channels). The published code calls `scale` "var"; it multiplies.
    """
    shape = (1, height, width, channels)
    if distribution == "uniform":
        return jax.random.uniform(key, shape, maxval=scale)
    if distribution == "normal":
        return scale * jax.random.normal(key, shape)
    raise unknown("distribution", distribution, ["uniform", "normal"])


def meshgrid(height: int, width: int) -> jax.Array:
    """Coordinates z [1,height,width,2] in [0,1]: channel 0 grows with the column, channel 1 with the row."""
    if height < 2 or width < 2:
        raise UserError(f"a meshgrid needs at least 2x2 pixels, got {height}x{width}")
    y, x = jnp.meshgrid(jnp.linspace(0, 1, height), jnp.linspace(0, 1, width), indexing="ij")
    return jnp.stack((x, y), axis=-1)[None]


def guide(image: jax.Array) -> jax.Array:
    """A picture [H,W,C] as the input z [1,H,W,C]: the flash photograph of flash/no-flash reconstruction."""
    if image.ndim != 3:
        raise UserError(f"a guide is one picture [H,W,C], got shape {tuple(image.shape)}")
    return jnp.asarray(image, jnp.float32)[None]


def framed(image: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """An input [1,h,w,C] as the middle of one of `shape` [1,H,W,C], H >= h and W >= w, reflected around itself."""
    before = [(n - m) // 2 for n, m in zip(shape, image.shape, strict=True)]
    after = [n - m - b for n, m, b in zip(shape, image.shape, before, strict=True)]
    return jnp.pad(image, list(zip(before, after, strict=True)), mode="reflect")


def make_input(
    kind: Literal["noise", "normal", "meshgrid", "image"], key: jax.Array, height: int, width: int, channels: int = 32,
    *, scale: float = 0.1, image: jax.Array | None = None,
) -> jax.Array:  # fmt: skip
    """The input z [1,height,width,C] of the kind a config names.

    Args:
      kind: "noise" (uniform), "normal", "meshgrid" (then channels must be 2) or "image" (channels is the
      image's).
      key: typed key; only the noises use it.
      height, width: size of z in pixels (the picture's over the network's `reduction`).
      channels: channels of a noise.
      scale: factor on a noise.
      image: [height,width,C] in [0,1], for "image".

    Raises:
      UserError: unknown kind, channels other than 2 for a meshgrid, no image or one of another size.
    """
    if kind in ("noise", "normal"):
        distribution = "uniform" if kind == "noise" else "normal"
        return noise(key, height, width, channels, distribution=distribution, scale=scale)
    if kind == "meshgrid":
        if channels != 2:
            raise UserError(f"a meshgrid has 2 channels, not {channels}; set the input's channels to 2")
        return meshgrid(height, width)
    if kind != "image":
        raise unknown("input kind", kind, ["noise", "normal", "meshgrid", "image"])
    if image is None:
        raise UserError("input kind 'image' needs a guide image; name one in the task, or use 'noise'")
    z = guide(image)
    if z.shape[1:3] != (height, width):
        raise UserError(f"the guide image is {z.shape[1]}x{z.shape[2]}, the input {height}x{width}; resize the guide")
    return z
