"""Runs that a cluster starts: Open MPI's variables on loopback, and one line where jax's detection fails."""

import os
import socket
import subprocess
import sys
import types

import jax
import pytest

from genjax.core import cluster, distributed
from genjax.errors import UserError

CLUSTERS = ("OMPI_", "PMIX_", "SLURM_", "KUBERNETES_", "JAX_COORDINATOR", "JAX_LOCAL", "JOB_COMPLETION")


@pytest.fixture(autouse=True)
def nowhere(monkeypatch):
    """No cluster's variables."""
    for name in [n for n in os.environ if n.startswith(CLUSTERS)]:
        monkeypatch.delenv(name)


@pytest.fixture
def joined(monkeypatch):
    """What `jax.distributed.initialize` is called with, in its place."""
    calls = []
    monkeypatch.setattr(jax.distributed, "initialize", lambda *a, **k: calls.append((a, k)))
    return calls


def mpi(monkeypatch, rank, size, local=None, **more):
    found = {"OMPI_COMM_WORLD_RANK": rank, "OMPI_COMM_WORLD_SIZE": size, "OMPI_COMM_WORLD_LOCAL_RANK": rank,
             "OMPI_COMM_WORLD_LOCAL_SIZE": size if local is None else local, **more}
    for name, value in found.items():
        monkeypatch.setenv(name, str(value))


def test_two_processes_of_open_mpi_are_one_run(root, tmp_path):
    """As mpirun of Open MPI 5 starts them: no URI of ORTE, no mpi4py."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    env = {k: v for k, v in os.environ.items() if not k.startswith(CLUSTERS)}
    argv = [sys.executable, "launch.py", "train", "--config", "tests/core/toy_config.py", "--smoke", "--quiet",
            "--workdir", str(tmp_path / "run")]
    both = [subprocess.Popen(argv, cwd=root, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={
        **env, "JAX_PLATFORMS": "cpu", "JAX_COORDINATOR_PORT": str(port), "OMPI_COMM_WORLD_SIZE": "2",
        "OMPI_COMM_WORLD_RANK": str(i), "OMPI_COMM_WORLD_LOCAL_SIZE": "2", "OMPI_COMM_WORLD_LOCAL_RANK": str(i),
        "PMIX_NAMESPACE": "prterun-host-1@1"}) for i in range(2)]
    said = [p.communicate(timeout=180) for p in both]
    assert [p.returncode for p in both] == [0, 0], said
    assert "on 2 x cpu" in (tmp_path / "run" / "log.txt").read_text()


def test_open_mpi_on_one_host(monkeypatch, joined):
    mpi(monkeypatch, 1, 2, PMIX_NAMESPACE="prterun-host-1@1", SLURM_NTASKS=1)
    distributed.start()
    ((where, size, rank), more), = joined
    host, port = where.split(":")
    assert (host, size, rank) == ("127.0.0.1", 2, 1) and 61440 <= int(port) < 65536
    assert more == {"local_device_ids": [1], "cluster_detection_method": "deactivate"}
    joined.clear()
    monkeypatch.setenv("PMIX_NAMESPACE", "prterun-host-2@1")
    distributed.start()
    assert joined[0][0][0] != where, "another job, another port"


def test_open_mpi_on_several_hosts(monkeypatch, joined):
    mpi(monkeypatch, 0, 4, local=2)
    with pytest.raises(UserError, match="give --coordinator HOST:PORT") as e:
        distributed.start()
    assert "\n" not in str(e.value) and not joined
    monkeypatch.setenv("JAX_COORDINATOR_ADDRESS", "node0:1234")
    distributed.start()
    assert joined.pop()[0] == ("node0:1234", 4, 0)
    monkeypatch.delenv("JAX_COORDINATOR_ADDRESS")
    monkeypatch.setenv("OMPI_MCA_orte_hnp_uri", "1531576320.0;tcp://10.96.0.1:34911")
    distributed.start()
    assert joined.pop() == ((), {}), "jax reads where mpirun is"


def test_one_process_of_open_mpi_joins_nothing(monkeypatch, joined):
    mpi(monkeypatch, 0, 1, SLURM_NTASKS=4)
    distributed.start()
    assert not joined


def test_explicit_flags_ask_no_cluster(monkeypatch):
    """jax 0.12 asks Open MPI 5 through mpi4py, and a pod asks Kubernetes, even where all is said."""
    mpi(monkeypatch, 0, 2)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    seen = []
    monkeypatch.setattr("jax._src.clusters.ClusterEnv.auto_detect_unset_distributed_params", lambda *a: 1 / 0)
    monkeypatch.setattr(jax.distributed, "initialize", lambda *a, **k: seen.append(k))
    distributed.start("host:1234", 2, 1)
    assert seen == [{"local_device_ids": [0], "cluster_detection_method": "deactivate"}]


def test_pods(monkeypatch, joined):
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    monkeypatch.setitem(sys.modules, "kubernetes", None)
    hidden = []
    monkeypatch.setattr(jax.distributed, "initialize",
                        lambda: hidden.append("KUBERNETES_SERVICE_HOST" not in os.environ))
    distributed.start()
    assert hidden == [True] and "KUBERNETES_SERVICE_HOST" in os.environ, "a pod of no Indexed Job is alone"
    monkeypatch.setenv("JOB_COMPLETION_INDEX", "0")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match="pip install kubernetes, or give --coordinator HOST:PORT"):
        distributed.start()
    monkeypatch.setattr("importlib.util.find_spec", lambda name: types.SimpleNamespace())
    distributed.start()
    assert hidden == [True, False]


@pytest.mark.parametrize("error", [KeyError("SLURM_PROCID"), OSError("no metadata server\nat all"), TypeError()])
def test_whatever_detection_raises_is_one_line(monkeypatch, error):
    def fail():
        raise error

    monkeypatch.setattr(jax.distributed, "initialize", fail)
    with pytest.raises(UserError, match=r"did not find each other \(.+\); .* or give --coordinator") as e:
        distributed.start()
    assert "\n" not in str(e.value)


def test_no_cluster_is_no_error(monkeypatch):
    def fail():
        raise ValueError("coordinator_address should be defined.")

    monkeypatch.setattr(jax.distributed, "initialize", fail)
    assert not cluster.detect()
