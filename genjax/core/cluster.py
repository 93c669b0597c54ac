"""What started this process: Open MPI and Kubernetes where jax's own detection ends in a traceback or joins nothing."""

import importlib.util
import os
import warnings
import zlib

import jax

from genjax.errors import UserError

FLAGS = "--coordinator HOST:PORT, --num-processes and --process-id"
# What each launcher calls the number of processes, the one that started this process last first.
_COUNTS = ("OMPI_COMM_WORLD_SIZE", "SLURM_NTASKS")
# Names of one Open MPI job that all its processes see.
_MPI_JOB = ("PMIX_NAMESPACE", "OMPI_MCA_orte_hnp_uri", "OMPI_MCA_ess_base_jobid")


def alone() -> bool:
    """Whether a launcher says that this is the only process; one needs no joining."""
    return next((os.environ[n] for n in _COUNTS if n in os.environ), None) == "1"


def open_mpi() -> tuple[str, int, int] | None:
    """Coordinator, number and index of a process that mpirun started; None where it did not, or where jax knows better
    (Open MPI up to 4 on several hosts). jax needs mpi4py since Open MPI 5; this does not.

    Raises:
      UserError: several hosts, none of which is known to be process 0's.
    """
    size = int(os.environ.get("OMPI_COMM_WORLD_SIZE", 0))
    if size < 2:
        return None
    where = os.environ.get("JAX_COORDINATOR_ADDRESS")
    if not where and os.environ.get("OMPI_COMM_WORLD_LOCAL_SIZE") == str(size):
        job = next((os.environ[n] for n in _MPI_JOB if n in os.environ), "")
        # The ports jax itself picks from.
        where = f"127.0.0.1:{os.environ.get('JAX_COORDINATOR_PORT') or 61440 + zlib.crc32(job.encode()) % 4096}"
    if not where:
        if "OMPI_MCA_orte_hnp_uri" in os.environ:
            return None
        raise UserError("Open MPI does not say where its process 0 is; give --coordinator HOST:PORT --num-processes"
                        " $OMPI_COMM_WORLD_SIZE --process-id $OMPI_COMM_WORLD_RANK (in a shell: mpirun sh -c '...')")
    return where, size, int(os.environ["OMPI_COMM_WORLD_RANK"])


def local_devices() -> list[int] | None:
    """The GPU of a process among those of its host, where the launcher numbers them: one each, as jax has it."""
    if "JAX_LOCAL_DEVICE_IDS" in os.environ:
        return None  # jax reads it
    names = ("OMPI_COMM_WORLD_LOCAL_RANK", "SLURM_LOCALID")
    return next(([int(os.environ[n])] for n in names if n in os.environ), None)


def detect() -> bool:
    """Joins the processes that jax finds by the environment; False where it finds none.

    Raises:
      UserError: it finds signs of some and cannot join them.
    """
    pod = "KUBERNETES_SERVICE_HOST" in os.environ
    indexed = pod and "JOB_COMPLETION_INDEX" in os.environ
    if indexed and importlib.util.find_spec("kubernetes") is None:
        raise UserError("a pod of an Indexed Job finds the others through the package kubernetes: pip install"
                        f" kubernetes, or give {FLAGS}; for a run of this pod alone unset JOB_COMPLETION_INDEX")
    # Of any other pod jax could say no more than that it needs an Indexed Job: it is alone, or one of a TPU slice.
    hidden = os.environ.pop("KUBERNETES_SERVICE_HOST") if pod and not indexed else None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            jax.distributed.initialize()
    except Exception as e:  # whatever metadata servers, the kubernetes package or missing variables raise
        reason = (str(e).strip() or type(e).__name__).split("\n")[0][:200]
        if "coordinator_address should be defined" in reason or "must be called before" in reason:
            return False  # no cluster; or called from a program that uses jax already
        raise UserError(f"the processes of this job did not find each other ({reason}); start all of them, or give"
                        f" {FLAGS}") from None
    finally:
        if hidden is not None:
            os.environ["KUBERNETES_SERVICE_HOST"] = hidden
    return True
