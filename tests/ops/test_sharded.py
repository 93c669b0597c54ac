"""The ops under jit over eight fake CPU devices, in a process of its own (XLA_FLAGS is read at import)."""

import os
import subprocess
import sys
from pathlib import Path

SCRIPT = """
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import AxisType, NamedSharding
from genjax.ops.conv import conv2d, conv_transpose2d
from genjax.ops.norm import batch_norm_leaky_relu
from genjax.ops.resample import upsample2x
from test_every_op import CASES, TOLERANCE, both, draw

assert jax.device_count() == 8
mesh = jax.make_mesh((4, 2), ("data", "fsdp"), axis_types=(AxisType.Auto,) * 2)
r = np.random.default_rng(0)
def rand(*s): return np.asarray(r.standard_normal(s), np.float32)
x = rand(8, 32, 32, 32)
params = dict(a=0.1 * rand(3, 3, 32, 32), b=0.1 * rand(3, 3, 32, 32), c=0.1 * rand(4, 4, 32, 8), s=rand(32), o=rand(32))

def loss(p, x):
    y = conv2d(x, p["a"], pad_mode="reflect")
    y = batch_norm_leaky_relu(y, p["s"], p["o"])
    y = conv2d(y, p["b"], stride=2)
    return jnp.mean(conv_transpose2d(upsample2x(y), p["c"]) ** 2)

def put(v, *spec): return jax.device_put(v, NamedSharding(mesh, jax.P(*spec)))
def jit(f): return jax.jit(f, compiler_options={"xla_backend_optimization_level": 0})  # compiles faster
step = jit(jax.value_and_grad(loss))
one = step(params, jnp.asarray(x))
with jax.set_mesh(mesh):
    spread = {k: put(v, *([None] * (v.ndim - 1)), "fsdp") for k, v in params.items()}
    many = step(spread, put(x, "data"))
    rows = step(spread, put(x, "data", "fsdp"))
for other in (many, rows):
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other)):
        a, b = np.asarray(a), np.asarray(b)
        assert np.abs(a - b).max() <= 1e-5 * max(np.abs(a).max(), 1e-3), (np.abs(a - b).max(), np.abs(a).max())

# independent networks, spread over the devices (a CPU's loop over them gathers: genjax.dip.batching avoids it)
xs, ws = rand(8, 1, 6, 6, 2), rand(8, 3, 3, 2, 2)
f = jit(jax.vmap(jax.grad(lambda w, x: jnp.sum(conv2d(x, w) ** 2))))
want = f(ws, xs)
assert np.abs(f(put(ws, ("data", "fsdp")), put(xs, ("data", "fsdp"))) - want).max() <= TOLERANCE * np.std(want)

# every case of test_every_op.py in one program: the batch over "data", then its rows over "fsdp" too
drawn = {name: draw(case, 8) for name, case in CASES.items()}
every = jit(lambda drawn: {name: both(CASES[name])(*v) for name, v in drawn.items()})
one = every(drawn)
for rows in (None, "fsdp"):
    with jax.set_mesh(mesh):
        kernel = lambda k: put(k, *[None] * (k.ndim - 1), "fsdp" if k.shape[-1] % 2 == 0 else None)
        image = lambda v: put(v, "data", rows if v.shape[1] % 2 == 0 else None)
        many = every({n: ([image(a[0]), *map(kernel, a[1:])], image(dy)) for n, (a, dy) in drawn.items()})
    for name, got in many.items():
        for g, w in zip(got, one[name]):
            assert np.abs(np.asarray(g) - w).max() <= TOLERANCE * np.std(w), (name, rows)
        for g in got[:2]:
            assert g.sharding.shard_shape(g.shape)[0] == 2, (name, rows, g.sharding)
print("OK")
"""


def test_sharded_equals_one_device(root):
    flags = "--xla_force_host_platform_device_count=8"
    path = f"{root}{os.pathsep}{Path(__file__).parent}"
    env = dict(os.environ, JAX_PLATFORMS="cpu", XLA_FLAGS=flags, PYTHONPATH=path)
    out = subprocess.run([sys.executable, "-c", SCRIPT], env=env, capture_output=True, text=True, timeout=300)
    assert out.returncode == 0 and out.stdout.strip().endswith("OK"), out.stderr[-3000:]
