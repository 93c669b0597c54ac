"""Several independent pictures in one program."""

import jax
from jax.sharding import PartitionSpec


def per_picture(fn, mapped, shared=()):
    """`fn(*slices, *shared)` for each picture's slices of `mapped` (leading axis N), each picture for itself.

    One picture runs unbatched (a batched kernel would become a grouped convolution); several run under `vmap` or, on a
    CPU, which has all its cores in use with one picture, one after another in a loop. Each device of the mesh's `data`
    axis takes its own share. What depends on `shared` alone stays unbatched: a `lax.cond` on it skips the work of the
    branch not taken.
    """
    n = jax.tree.leaves(mapped)[0].shape[0]
    mesh = jax.sharding.get_abstract_mesh()
    shards = mesh.shape["data"] if "data" in mesh.shape else 1

    def local(mapped, shared):
        if jax.tree.leaves(mapped)[0].shape[0] == 1:
            out = fn(*jax.tree.map(lambda x: x[0], mapped), *shared)
            return jax.tree.map(lambda x: x[None], out)
        if jax.default_backend() == "cpu":
            return jax.lax.map(lambda slices: fn(*slices, *shared), mapped)
        return jax.vmap(lambda *slices: fn(*slices, *shared))(*mapped)

    if shards > 1 and n % shards == 0:
        split, whole = PartitionSpec("data"), PartitionSpec()
        return jax.shard_map(local, in_specs=(split, whole), out_specs=split, check_vma=False)(mapped, shared)
    return local(mapped, shared)
