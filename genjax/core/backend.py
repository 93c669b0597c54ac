"""Process-wide jax settings, made once before the first computation."""

import contextlib
import os
import sys
import threading
from pathlib import Path

from genjax.errors import UserError
from genjax.viz import waiting

# jax announces when each of these begins, and for how long it went on when it ends.
COMPILING = ("/jax/core/compile/jaxpr_trace_duration", "/jax/core/compile/jaxpr_to_mlir_module_duration",
             "/jax/core/compile/backend_compile_duration")
ALARM = 60.0  # seconds into a compilation; XLA's alarm comes after 120
FATAL = 3
DETERMINISTIC = "--xla_gpu_deterministic_ops=true"


def cache_folder() -> Path:
    """Where compiled programs are kept between processes: $GENJAX_CACHE, else ~/.cache/genjax."""
    return Path(os.environ.get("GENJAX_CACHE") or Path.home() / ".cache" / "genjax")


def deterministic() -> None:
    """Lets XLA choose no kernel whose result depends on timing, on GPUs; noted in the environment, so in every report
    and snapshot. XLA reads it when the backend starts: it must come before `start`, and before
    `genjax.core.distributed.start`, which asks the backend who this process is."""
    flags = os.environ.get("XLA_FLAGS", "")
    if DETERMINISTIC not in flags.split():
        os.environ["XLA_FLAGS"] = f"{flags} {DETERMINISTIC}".strip()


def huge_pages() -> None:
    """Starts this process again with huge pages for large arrays, where Linux gives them to who asks: on a CPU, steps
    took 10 to 20 % less time. The C library reads its settings only when a process starts; GLIBC_TUNABLES=
    glibc.malloc.hugetlb=0 leaves them as they are."""
    settings, offered = os.environ.get("GLIBC_TUNABLES", ""), Path("/sys/kernel/mm/transparent_hugepage/enabled")
    if "glibc.malloc.hugetlb" in settings or sys.gettrace() is not None:  # decided before, or under a debugger
        return
    with contextlib.suppress(OSError):  # another system, or one that lets no process start: as it was
        if "[madvise]" in offered.read_text() and sys.executable:
            os.environ["GLIBC_TUNABLES"] = f"{settings}:glibc.malloc.hugetlb=1".lstrip(":")
            os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def leave_devices() -> None:
    """This process only looks, or starts others: whatever it computes, on the host; the devices, whose memory a
    backend takes when it starts, are the runs'. The environment, which those inherit, stays."""
    import jax

    jax.config.update("jax_platforms", "cpu")


def show_compiling() -> None:
    """Whatever compiles from now on shows that it does (`genjax.viz.waiting`), and XLA no longer prints its alarm "Very
    slow compile? If you want to file a bug, ..." after two minutes. The alarm is logged as an error and has no switch
    of its own: from a compilation's second minute to its end, XLA prints fatal errors alone. One that fails raises all
    the same. TF_CPP_MIN_LOG_LEVEL=0 prints everything, the alarm too."""
    import jax

    if not _listening:
        _listening.append(True)
        jax.monitoring.register_scalar_listener(_compilation_begins)
        jax.monitoring.register_event_duration_secs_listener(_compilation_ends)


_listening: list[bool] = []
_compiling: dict[int, list[waiting.Wait]] = {}  # by thread: one may begin within another


def _compilation_begins(event: str, value: float, **_) -> None:
    if event in COMPILING:
        wait = waiting.begin("compiling", long=(ALARM, lambda: _log_from(FATAL)))
        _compiling.setdefault(threading.get_ident(), []).append(wait)


def _compilation_ends(event: str, seconds: float, **_) -> None:
    if event in COMPILING and (mine := _compiling.get(threading.get_ident())):
        wait = mine.pop()
        waiting.end(wait)
        if wait.long is None:  # it was called
            _log_from(int(os.environ.get("TF_CPP_MIN_LOG_LEVEL") or 1))  # 1 is jax's own choice


def _log_from(severity: int) -> None:
    """The least severe messages that XLA's C++ code prints from now on: 0 information, ... 2 errors, 3 fatal ones."""
    if os.environ.get("TF_CPP_MIN_LOG_LEVEL") != "0":
        with contextlib.suppress(ImportError, AttributeError):  # a jaxlib without it shows its alarm
            from jaxlib.utils import absl_set_min_log_level

            absl_set_min_log_level(severity)


def start() -> None:
    """Turns the persistent compilation cache on and checks that the asked-for backend is there.

    Raises:
      UserError: JAX_PLATFORMS names a backend that cannot be initialised.
    """
    import jax

    if not jax.config.jax_compilation_cache_dir:
        folder = cache_folder() / "xla"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            jax.config.update("jax_compilation_cache_dir", str(folder))
        except OSError:
            pass  # an unwritable home only costs compile time
    show_compiling()
    try:
        jax.devices()
    except RuntimeError as e:
        reason = str(e).split("\n")[0]
        raise UserError(f"no accelerator for JAX_PLATFORMS={os.environ.get('JAX_PLATFORMS', '')!r}: {reason};"
                        " unset it, or install the extra requirements-gpu.txt") from None
