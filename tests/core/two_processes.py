"""What one of two processes meets, both must agree on: run as `two_processes.py FOLDER PORT PROCESS`, prints JSON."""

import json
import logging
import shutil
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from genjax.core import distributed
from genjax.core.checkpoint import Checkpoints
from genjax.core.task import TrainState
from genjax.errors import UserError


def state_of(mesh, step):
    """w [2,4000], a row in each process, and a replicated b."""
    w = np.random.default_rng(step).normal(size=(2, 4000)).astype(np.float32)
    put = distributed.place
    return TrainState(put(np.int32(step), NamedSharding(mesh, PartitionSpec())),
                      {"w": put(w, NamedSharding(mesh, PartitionSpec("data"))),
                       "b": put(np.arange(3000.0, dtype=np.float32), NamedSharding(mesh, PartitionSpec()))})


def largest(folder, process):
    """The file with that process's part of the newest checkpoint."""
    files = (folder / "2" / "state" / f"ocdbt.process_{process}" / "d").iterdir()
    return max(files, key=lambda p: p.stat().st_size)


def flip(folder):
    """Eight bytes in process 1's part."""
    file = largest(folder, 1)
    data = bytearray(file.read_bytes())
    at = len(data) // 2
    data[at:at + 8] = bytes(255 - b for b in data[at:at + 8])
    file.write_bytes(data)


def truncate(folder):
    """Half of process 1's part."""
    file = largest(folder, 1)
    file.write_bytes(file.read_bytes()[:file.stat().st_size // 2])


def forget(folder):
    """The digests of process 1's part."""
    (folder / "2" / "meta" / "shards.1").unlink()


DAMAGE = {"none": lambda folder: None, "flip": flip, "truncate": truncate, "forget": forget,
          "files": lambda folder: None,
          "all": lambda folder: [shutil.rmtree(folder / str(step) / "state") for step in (1, 2)]}


def restored(folder, mesh, name):
    """What a process gets: the step and its own part's sum, or the error."""
    saver = Checkpoints(folder)
    if name == "files" and jax.process_index() == 1:
        def read(step, abstract):
            raise OSError(24, "Too many open files")
        saver._read = read
    like = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), state_of(mesh, 0))
    try:
        state = saver.restore(like)
    except UserError as e:
        return str(e)
    finally:
        saver.close()
    part = state.params["w"].addressable_shards[0].data
    right = np.random.default_rng(int(state.step)).normal(size=(2, 4000)).astype(np.float32)[jax.process_index()]
    return [int(state.step), bool(jnp.array_equal(part[0], right))]


def main(folder, port, process):
    """Saves, damages copies and restores them; then what process 0 tells."""
    jax.distributed.initialize(f"127.0.0.1:{port}", 2, process)
    logging.getLogger("absl").setLevel(logging.CRITICAL)
    mesh = jax.make_mesh((2,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    out = {}
    saver = Checkpoints(folder / "saved" / "checkpoints")
    for step in (1, 2):
        saver.save(state_of(mesh, step))
    saver.close()
    for name, damage in DAMAGE.items():
        here = folder / name / "checkpoints"
        if process == 0:
            shutil.copytree(folder / "saved" / "checkpoints", here)
            damage(here)
        distributed.barrier(name)
        out[name] = restored(here, mesh, name)

    def fails(error):
        raise error

    for name, call in {"value": lambda: ["done", {"step": 3, "path": "ä" * 300}],
                       "os": lambda: fails(OSError(28, "No space left on device", "log.txt")),
                       "user": lambda: fails(UserError("mend it")), "bug": lambda: fails(KeyError("x"))}.items():
        try:
            out[name] = distributed.from_main(call)
        except Exception as e:
            out[name] = f"{type(e).__name__}: {e}"
    out["votes"] = distributed.votes(5 + process).tolist()
    print(json.dumps(out), flush=True)
    distributed.barrier("over")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
