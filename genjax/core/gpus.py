"""Which GPUs of this machine each of several processes started here gets: left alone, every one would take them all.

They are counted without jax, whose backend would take memory on each.
"""

import functools
import importlib.util
import os
import pkgutil
import re
import subprocess

from genjax.errors import UserError


def shares(slots: int, flags: str) -> tuple[str, ...]:
    """CUDA_VISIBLE_DEVICES for each of `slots` processes that run at once, in equal shares; empty where nothing is to
    be shared out: one process, or no GPU.

    Args:
      slots: how many processes.
      flags: what the user asked for them with, for the error.

    Raises:
      UserError: fewer GPUs than processes.
    """
    found = visible() if slots > 1 else []
    if not found:
        return ()
    if slots > len(found):
        raise UserError(f"{flags}: {slots} processes at once, and {len(found)} GPU{'s' * (len(found) > 1)} here; start"
                        f" at most {len(found)}, or set JAX_PLATFORMS=cpu")
    each = len(found) // slots
    return tuple(",".join(found[i * each:(i + 1) * each]) for i in range(slots))


def visible() -> list[str]:
    """The NVIDIA GPUs that jax would use in this environment, as CUDA_VISIBLE_DEVICES names them."""
    platforms = os.environ.get("JAX_PLATFORMS", "")
    if not (set(platforms.split(",")) & {"cuda", "gpu"} if platforms else _plugin()):
        return []
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    if given is None:
        return list(_listed(os.environ.get("PATH", "")))
    names = [n.strip() for n in given.split(",")]
    return names[:next((i for i, n in enumerate(names) if n in ("", "-1")), len(names))]  # as CUDA reads it


def _plugin() -> bool:
    """Whether jax's plugin for CUDA is installed."""
    spec = importlib.util.find_spec("jax_plugins")
    return spec is not None and any("cuda" in m.name for m in pkgutil.iter_modules(spec.submodule_search_locations))


@functools.cache
def _listed(path: str) -> tuple[str, ...]:
    """The ids of what `nvidia-smi -L` lists: GPUs, or where there are some, their MIG parts."""
    try:
        said = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=60, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return ()
    found = re.findall(r"UUID: ((?:GPU|MIG)-[^)\s]+)", said)
    return tuple([i for i in found if i.startswith("MIG")] or found)
