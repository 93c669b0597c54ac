"""Where activations lie on the mesh: named axes, checked, and nothing at all without a mesh.

Shardings of parameters and batches usually decide those of everything between; where they do not, or XLA chooses to
gather, `constrain` says what is meant.
"""

import math

import jax
from jax.sharding import PartitionSpec

from genjax.errors import unknown

BATCH = ("data", "fsdp")  # a batch is split over both: fsdp is data parallelism that also splits the state


def constrain(x: jax.Array, *axes: str | tuple[str, ...] | None) -> jax.Array:
    """`x`, laid out over the mesh axes `axes`, one entry per leading dimension (None: not split; missing: None).

    Without a mesh (`jax.set_mesh`), or where a dimension does not divide by its axes, that part is left to XLA.

    Example: `constrain(h, BATCH, None, None, "tensor")` splits feature maps [B,H,W,C] by rows and channels.

    Raises:
      UserError: an axis that the mesh lacks (linen's own constraint ignores a misspelt one).
    """
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty:
        return x
    spec = []
    for size, axis in zip(x.shape, axes, strict=False):
        names = () if axis is None else (axis,) if isinstance(axis, str) else axis
        for name in names:
            if name not in mesh.shape:
                raise unknown("mesh axis", name, mesh.shape)
        fits = names and size % math.prod(mesh.shape[n] for n in names) == 0
        spec.append(tuple(names) if fits else PartitionSpec.UNCONSTRAINED if names else None)
    return jax.lax.with_sharding_constraint(x, PartitionSpec(*spec))
