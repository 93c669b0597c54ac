"""Random streams: every key of a run is derived from the seed by name, then by step: nothing of them is stored."""

import zlib

import jax

from genjax.errors import UserError


def stream(seed: int, name: str) -> jax.Array:
    """The root key of the stream `name` ("init", "train", "preview", "eval", "sample") of a run."""
    return jax.random.fold_in(jax.random.key(seed), zlib.crc32(name.encode()))


def check_seed(seed: int, where: str) -> None:
    """Refuses what is no seed; `where` is the key or flag that set it."""
    if not 0 <= seed < 2**32:
        raise UserError(f"{where} must be from 0 to {2**32 - 1}, got {seed}")


def per_item(rng: jax.Array, n: int) -> jax.Array:
    """`n` keys, the i-th a function of `rng` and i alone: item i is the same in a batch of any size."""
    return jax.vmap(lambda i: jax.random.fold_in(rng, i))(jax.numpy.arange(n))
