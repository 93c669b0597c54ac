"""The ops under jit over eight fake CPU devices, in a process of its own (XLA_FLAGS is read at import)."""

import os
import subprocess
import sys

SCRIPT = """
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import AxisType, NamedSharding
from genjax.ops.conv import conv2d, conv_transpose2d
from genjax.ops.norm import batch_norm_leaky_relu
from genjax.ops.resample import upsample2x

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
one = jax.jit(jax.value_and_grad(loss))(params, jnp.asarray(x))
with jax.set_mesh(mesh):
    spread = {k: put(v, *([None] * (v.ndim - 1)), "fsdp") for k, v in params.items()}
    many = jax.jit(jax.value_and_grad(loss))(spread, put(x, "data"))
    rows = jax.jit(jax.value_and_grad(loss))(spread, put(x, "data", "fsdp"))
for other in (many, rows):
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other)):
        a, b = np.asarray(a), np.asarray(b)
        assert np.abs(a - b).max() <= 2e-5 * max(np.abs(a).max(), 1e-3), (np.abs(a - b).max(), np.abs(a).max())

# independent networks on their own devices
xs, ws = rand(8, 1, 6, 6, 2), rand(8, 3, 3, 2, 2)
f = jax.jit(jax.vmap(jax.grad(lambda w, x: jnp.sum(conv2d(x, w) ** 2))))
np.testing.assert_allclose(f(put(ws, ("data", "fsdp")), put(xs, ("data", "fsdp"))), f(ws, xs), atol=1e-4)
print("OK")
"""


def test_sharded_equals_one_device(root):
    flags = "--xla_force_host_platform_device_count=8"
    env = dict(os.environ, JAX_PLATFORMS="cpu", XLA_FLAGS=flags, PYTHONPATH=str(root))
    out = subprocess.run([sys.executable, "-c", SCRIPT], env=env, capture_output=True, text=True, timeout=300)
    assert out.returncode == 0 and out.stdout.strip().endswith("OK"), out.stderr[-3000:]
