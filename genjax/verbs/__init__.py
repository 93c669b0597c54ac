"""What `launch.py` can be asked to do: one module per verb.

A verb's module has `TEXT`, what it does (up to the first semicolon: its line in the list of verbs);
`arguments(parser)`, which adds what it takes; and `run(args, overrides) -> exit code`. `LOOKS = True` says that it
needs no device itself. These modules are imported for every command line, so what costs time (jax, the library) is
imported in `run`.
"""

from types import ModuleType

from genjax.verbs import (
    bench,
    completion,
    convert,
    data,
    diff,
    list,
    plan,
    play,
    report,
    reproduce,
    sample,
    show,
    status,
    sweep,
    train,
    verify_resume,
)
from genjax.verbs import eval as evaluate

VERBS: dict[str, ModuleType] = {
    "train": train, "sample": sample, "play": play, "eval": evaluate, "convert": convert, "reproduce": reproduce,
    "data": data, "plan": plan, "verify-resume": verify_resume, "show": show, "diff": diff, "report": report,
    "status": status, "sweep": sweep, "bench": bench, "list": list,
    "completion": completion}
