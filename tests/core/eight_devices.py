"""Run by test_sharding.py in a process of its own with eight fake CPU devices; prints what it found as JSON.

jax fixes the number of devices when it is first used, so the other tests' process cannot do this.
"""

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import jax  # noqa: E402
import numpy as np  # noqa: E402

from genjax.core import config as config_lib  # noqa: E402
from genjax.core import sharding as sh  # noqa: E402
from genjax.core.checkpoint import Checkpoints, digest, read_arrays  # noqa: E402
from genjax.core.experiment import Programs  # noqa: E402
from genjax.core.plan import plan  # noqa: E402
from genjax.errors import UserError  # noqa: E402
from genjax.nn.sharding import BATCH, constrain  # noqa: E402

STEPS = 20
MESHES = {"1": (1, 1, 1), "8": (8, 1, 1), "4x2": (4, 2, 1), "2x2x2": (2, 2, 2)}
RULES = ("'first/kernel -> shard_dim(1, tensor)','second/kernel -> fsdp(min_size=64)','.* -> replicate'")


def programs(mesh: tuple[int, int, int], extra: tuple[str, ...] = ()) -> Programs:
    """The toy on a mesh: the first layer split over `tensor`, the second over `fsdp`."""
    sizes = [f"mesh.{axis}={n}" for axis, n in zip(sh.AXES, mesh, strict=True)]
    config = config_lib.load("tests/core/toy_config.py", [*sizes, f"sharding={RULES}", *extra])
    return Programs(config_lib.build(config))


def go_on(p: Programs, state, steps: int) -> tuple:
    """`steps` steps from `state`; the losses as floats."""
    losses = []
    for i in range(int(state.step), int(state.step) + steps):
        state, metrics = p.step(state, p.put(i, 1))
        losses.append(float(metrics["loss"][0]))
    return state, losses


def constrained() -> dict:
    """The shards of an activation laid out over rows and channels; where a dimension does not divide; a typo."""
    out = {}
    with jax.set_mesh(sh.MeshSpec(2, 2, 2).build()):
        split = jax.jit(lambda x: constrain(x, BATCH, "tensor"))
        out["2x2x2"] = split(np.zeros((8, 32))).sharding.shard_shape((8, 32))
        out["odd"] = split(np.zeros((7, 31))).shape
        try:
            constrain(np.zeros((8, 32)), BATCH, "tenser")
        except UserError as e:
            out["unknown"] = str(e)
    return out


def main(folder: Path) -> dict:
    """Every check; the findings are plain JSON."""
    found = {"devices": len(jax.devices()), "losses": {}, "bytes": {}, "shards": {}, "restored": {}, "split_bytes": {}}
    for name, mesh in MESHES.items():
        p = programs(mesh)
        state = p.init()
        found["shards"][name] = {k: [s.data.shape for s in x.addressable_shards][0]
                                 for k, x in (("first", state.params["first"]["kernel"]),
                                              ("second", state.params["second"]["kernel"]),
                                              ("adam_second", state.opt_state[0].mu["second"]["kernel"]),
                                              ("ema_first", state.ema["first"]["kernel"]))}
        found["bytes"][name] = sh.bytes_per_device(p.abstract.params)
        held = [sum(s.data.nbytes for x in jax.tree.leaves(state.params) for s in x.addressable_shards
                    if s.device == jax.devices()[0])]
        found["split_bytes"][name] = held[0]
        state, found["losses"][name] = go_on(p, state, STEPS)
        specs = jax.tree.map(lambda x, s: x.sharding.is_equivalent_to(s.sharding, x.ndim), state, p.abstract)
        found.setdefault("kept", {})[name] = all(jax.tree.leaves(specs))
        if name == "4x2":
            saver = Checkpoints(folder / "checkpoints")
            saver.save(state)
            saver.close()
            found["digest"] = digest(jax.device_get(state))
            found["digest_of_files"] = digest(read_arrays(folder / "checkpoints", STEPS))
            _, found["losses"]["4x2, 40 steps"] = go_on(p, state, STEPS)
    for name, mesh in (("8", (8, 1, 1)), ("4", (2, 2, 1)), ("1", (1, 1, 1))):
        p = programs(mesh)
        saver = Checkpoints(folder / "checkpoints")
        state = saver.restore(p.abstract)
        saver.close()
        same = digest(jax.device_get(state)) == found["digest"]
        placed = jax.tree.leaves(jax.tree.map(lambda x, s: x.sharding == s.sharding, state, p.abstract))
        found["restored"][name] = {"same": same, "placed": all(placed), "losses": go_on(p, state, STEPS)[1]}
    calls = programs((4, 2, 1), ("train.steps_per_call=5",))
    state = calls.init()
    losses = []
    for first in range(0, STEPS, 5):
        state, metrics = calls.step(state, calls.put(first, 5), 5)
        losses += np.asarray(metrics["loss"]).tolist()
    found["losses"]["4x2, 5 per call"] = losses
    planned = plan(config_lib.load("tests/core/toy_config.py", ["mesh.data=2", "mesh.fsdp=4", f"sharding={RULES}"]))
    found["plan"] = {"mesh": planned["mesh"], "rows": {r["path"]: r["bytes_per_device"] for r in planned["shardings"]}}
    rest = sh.MeshSpec(data=-1, tensor=2).build()
    found["rest"] = {k: int(v) for k, v in rest.shape.items()}
    # without dropout a batch in parts is the batch
    state, found["losses"]["micro"] = go_on(*(lambda q: (q, q.init()))(programs((2, 2, 1), (
        "task.micro_batches=2", "task.keep_rate=1"))), STEPS)
    _, found["losses"]["whole"] = go_on(*(lambda q: (q, q.init()))(programs((1, 1, 1), ("task.keep_rate=1",))), STEPS)
    found["constrained"] = constrained()
    # whole arrays never exist: the compiled init's outputs are shards
    p = programs((2, 2, 2))
    with jax.set_mesh(p.mesh):
        init = jax.jit(p._init, out_shardings=p.state_sharding).lower(p._key("init")).compile()
    found["born"] = {sh.path_str(k): list(s.shard_shape(x.shape)) for (k, s), x in zip(
        jax.tree_util.tree_flatten_with_path(init.output_shardings)[0], jax.tree.leaves(p.abstract), strict=True)}
    return found


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]))))
