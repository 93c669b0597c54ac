"""Meshes and shardings: rules and their mistakes here, real meshes in one process with eight fake devices."""

import json
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AbstractMesh, AxisType, PartitionSpec

from genjax.core import sharding as sh
from genjax.errors import UserError


def mesh(data=1, fsdp=1, tensor=1):
    """A mesh without devices, enough for rules."""
    return AbstractMesh((data, fsdp, tensor), sh.AXES, axis_types=(AxisType.Auto,) * 3)


def spec(rule, shape, **sizes):
    return tuple(sh.parse_rule(f".* -> {rule}")[2](shape, mesh(**sizes)))


# Rules


@pytest.mark.parametrize(("rule", "shape", "want"), [
    ("replicate", (8, 8), ()),
    ("shard_dim(0, data)", (8, 3), ("data", None)),
    ("shard_dim(1, 'tensor')", (8, 4), (None, "tensor")),
    ("shard_dim(-1, tensor)", (3, 3, 4), (None, None, "tensor")),
    ("shard_dim(dim=0, axis=data)", (8,), ("data",)),
    ("shard_dim(0, data)", (7, 3), ()),  # does not divide
    ("shard_dim(2, data)", (8, 8), ()),  # no such dimension
    ("shard_dim(0, data)", (), ()),
    ("fsdp(min_size=1)", (2, 8, 4), (None, "fsdp", None)),
    ("fsdp(min_size=1)", (8, 8), (None, "fsdp")),  # the last of equals: output channels
    ("fsdp(tensor, 1)", (6, 3), ("tensor", None)),
    ("fsdp", (64, 64), (None, "fsdp")),
    ("fsdp", (63, 64), ()),  # below min_size
    ("fsdp(min_size=1)", (3, 5), ()),  # nothing divides
    ("fsdp(min_size=1)", (), ()),
])
def test_rules(rule, shape, want):
    assert spec(rule, shape, data=4, fsdp=4, tensor=2) == want


@pytest.mark.parametrize(("text", "message"), [
    ("kernel", "not of the form"),
    ("-> replicate", "not of the form"),
    (" -> replicate", "not of the form"),
    ("kernel ->", "unknown sharding rule"),
    ("( -> replicate", "bad regex"),
    ("kernel -> replicat", "did you mean 'replicate'"),
    ("kernel -> shard_dim(0)", "missing a required argument: 'axis'"),
    ("kernel -> shard_dim(0, dta)", "'dta'; did you mean 'data'"),
    ("kernel -> shard_dim(data, 0)", "dim must be int, got 'data'"),
    ("kernel -> shard_dim(0.5, data)", "dim must be int"),
    ("kernel -> shard_dim(0, 1)", "axis must be str, got 1"),
    ("kernel -> shard_dim(0, data, 3)", "too many positional"),
    ("kernel -> fsdp(axes=data)", "'axes'"),
    ("kernel -> fsdp(min_size=large)", "min_size must be int"),
    ("kernel -> fsdp(", "never closed|EOF|invalid"),
    ("kernel -> replicate() + 1", "write replicate"),
    ("kernel -> replicate()()", "write replicate"),
    ("kernel -> fsdp(**x)", "sharding rule"),
    ("kernel -> fsdp(*x)", "sharding rule"),
    ("kernel -> shard_dim(0, f(1))", "sharding rule"),
])
def test_mistakes_in_rules_are_one_line_that_quotes_the_rule(text, message):
    with pytest.raises(UserError, match=message) as e:
        sh.parse_rule(text)
    assert "\n" not in str(e.value) and text.strip()[:8] in str(e.value)


TREE = {"params": {"first": {"kernel": jax.ShapeDtypeStruct((8, 4), jnp.float32)},
                   "second": {"bias": jax.ShapeDtypeStruct((4,), jnp.float32)}},
        "step": jax.ShapeDtypeStruct((), jnp.int32)}


@pytest.mark.parametrize(("rules", "message"), [
    (("kernle -> replicate", ".* -> replicate"), "'kernle -> replicate' matches none of the 3 arrays; .*params/"),
    ((".* -> replicate", "kernel -> shard_dim(0, data)"), "'kernel -> .*' is never reached"),
    (("first -> replicate", "second -> replicate", "params -> shard_dim(0, data)", "step -> replicate"),
     "'params -> .*' is never reached"),
    (("params -> replicate",), "no sharding rule matches 'step'"),
    ((), "no sharding rule matches"),
])
def test_rules_that_do_nothing_are_errors(rules, message):
    with pytest.raises(UserError, match=message):
        sh.tree_shardings(TREE, rules, sh.MeshSpec().build())


def test_the_first_match_wins():
    rules = ("kernel -> shard_dim(0, data)", "params -> shard_dim(0, tensor)", ".* -> replicate")
    found = sh.tree_shardings(TREE, rules, sh.MeshSpec().build())
    assert found["params"]["first"]["kernel"].spec == PartitionSpec("data", None)
    assert found["params"]["second"]["bias"].spec == PartitionSpec("tensor")
    assert found["step"].spec == PartitionSpec()


# Meshes


@pytest.mark.parametrize("sizes", [{}, {"data": 1}, {"data": 1, "fsdp": -1}, {"data": 1, "tensor": -1}])
def test_one_device_meshes(sizes):
    built = sh.MeshSpec(**sizes).build(jax.devices()[:1])
    assert dict(built.shape) == {"data": 1, "fsdp": 1, "tensor": 1}
    assert set(built.axis_types) == {AxisType.Auto}


@pytest.mark.parametrize(("sizes", "message"), [
    ({"data": 8}, "asks for 8 devices, 1 are here.*JAX_NUM_CPU_DEVICES"),
    ({"data": 1, "tensor": 2}, "asks for 2 devices"),
    ({"data": 0}, "sizes must be positive"), ({"data": -2}, "sizes must be positive"),
    ({"data": -1, "fsdp": -1}, "one may be -1"), ({"data": -1, "fsdp": 3}, "1 devices do not divide by 3"),
])
def test_mistakes_in_meshes(sizes, message):
    with pytest.raises(UserError, match=message):
        sh.MeshSpec(**sizes).build(jax.devices()[:1])


def test_batches_are_split_over_data_and_fsdp():
    def found(n, constant, **sizes):
        batch = {"x": jax.ShapeDtypeStruct((n, 2), jnp.float32)}
        return tuple(sh.batch_shardings(batch, mesh(**sizes), constant)["x"].spec)

    assert found(8, False, data=2, fsdp=4) == found(8, True, data=2, fsdp=4) == (("data", "fsdp"),)
    assert found(3, False, tensor=2) == (("data", "fsdp"),)
    assert found(3, True, data=2) == ()  # a few pictures to restore: every device has them all
    with pytest.raises(UserError, match="a batch of 12 does not divide over 8 devices.*in config.data or"):
        found(12, False, data=2, fsdp=4)


# Eight devices


@pytest.fixture(scope="module")
def eight(tmp_path_factory, root):
    """What tests/core/eight_devices.py found."""
    env = {**os.environ, "JAX_NUM_CPU_DEVICES": "8", "JAX_PLATFORMS": "cpu"}
    done = subprocess.run([sys.executable, "tests/core/eight_devices.py", str(tmp_path_factory.mktemp("eight"))],
                          cwd=root, env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["devices"] == 8
    return found


@pytest.mark.parametrize("name", ["8", "4x2", "2x2x2", "4x2, 5 per call"])
def test_meshes_give_the_losses_of_one_device(eight, name):
    np.testing.assert_allclose(eight["losses"][name], eight["losses"]["1"], atol=1e-5)
    assert len(set(eight["losses"]["1"])) == 20


def test_state_is_born_sharded_and_stays_so(eight):
    assert eight["shards"]["1"]["first"] == [16, 32] and eight["shards"]["8"]["first"] == [16, 32]
    assert eight["shards"]["2x2x2"]["first"] == [16, 16] and eight["shards"]["2x2x2"]["ema_first"] == [16, 16]
    for name in ("4x2", "2x2x2"):
        assert eight["shards"][name]["second"] == [16, 16] == eight["shards"][name]["adam_second"]
    assert all(eight["kept"].values())
    born = eight["born"]
    assert born["params/first/kernel"] == [16, 16] and born["params/second/kernel"] == [16, 16]
    assert born["opt_state/0/nu/second/kernel"] == [16, 16] and born["ema/first/kernel"] == [16, 16]


def test_fsdp_divides_bytes(eight):
    whole, kernel = 2 * 16 * 32 * 4, 16 * 32 * 4
    assert eight["bytes"] == {"1": whole, "8": whole, "4x2": whole - kernel // 2, "2x2x2": whole // 2}
    assert eight["split_bytes"] == eight["bytes"], "what plan computes is what a device holds"
    assert eight["plan"]["mesh"] == {"data": 2, "fsdp": 4, "tensor": 1}
    assert eight["plan"]["rows"]["params/second/kernel"] == kernel // 4
    assert eight["plan"]["rows"]["opt_state/0/mu/second/kernel"] == kernel // 4


def test_minus_one_takes_the_rest(eight):
    assert eight["rest"] == {"data": 4, "fsdp": 1, "tensor": 2}


@pytest.mark.parametrize("devices", ["8", "4", "1"])
def test_a_checkpoint_of_eight_devices_goes_on_with(eight, devices):
    found = eight["restored"][devices]
    assert found["same"] and found["placed"]
    np.testing.assert_allclose(found["losses"], eight["losses"]["4x2, 40 steps"], atol=1e-5)
    assert eight["digest"] == eight["digest_of_files"]


def test_constrained_activations(eight):
    assert eight["constrained"] == {"2x2x2": [2, 16], "odd": [7, 31],
                                    "unknown": "unknown mesh axis 'tenser'; did you mean 'tensor'?"}


def test_micro_batches_on_a_mesh(eight):
    np.testing.assert_allclose(eight["losses"]["micro"], eight["losses"]["whole"], atol=1e-5)
