"""Errors a user can cause: one clear line that names the fix; `launch.py` prints it and exits with code 2."""

import difflib
from collections.abc import Iterable

_SHOWN = 12  # names in a message; more is no line that anybody reads
# Names of one thing in papers and other code; the first is genjax's own.
SYNONYMS = (
    ("learning_rate", "lr", "step_size", "learningrate", "alpha"),
    ("batch_size", "batch", "bs", "batchsize", "minibatch", "minibatch_size"),
    ("steps", "epochs", "iterations", "iters", "n_iter", "niter", "num_iter", "num_iterations", "n_iters", "max_iter",
     "max_steps", "num_steps", "n_steps", "train_steps", "num_epochs", "n_epochs"),
    ("weight_decay", "wd"), ("b1", "beta1"), ("b2", "beta2"), ("seed", "random_seed", "manual_seed"),
    ("ema_decay", "ema", "ema_beta", "ema_rate"), ("latent_dim", "z_dim", "nz", "latent_size", "latents"),
    ("image_size", "resolution", "res", "size", "img_size", "imsize", "imgsize"),
    ("source", "dataset", "data_path", "dataroot"), ("classes", "num_classes", "n_classes", "c_dim"),
    ("save_every", "save_interval", "save_freq", "checkpoint_every", "snap"), ("log_every", "log_interval", "log_freq"),
    ("preview_every", "sample_every", "sample_interval", "sample_freq"), ("eval_every", "eval_interval", "eval_freq"),
    ("r1_gamma", "gamma", "r1"), ("workdir", "outdir", "out_dir", "output_dir", "logdir", "log_dir", "save_dir"),
)


class UserError(ValueError):
    """Something the user can mend. The message is one line that says what is wrong and what to do.

    Everything else that escapes is a bug of ours and keeps its traceback.
    """

    def __init__(self, message: str):
        super().__init__(" ".join(str(message).split()))


def nearest(name: str, valid: Iterable[str]) -> str | None:
    """The valid name that is another word for `name` or closest to it in spelling, never itself; None when none is."""
    valid = [v for v in valid if v != name]
    found = synonyms(name, valid) or difflib.get_close_matches(name, valid, n=1, cutoff=0.5)
    return found[0] if found else None


def synonyms(name: str, valid: Iterable[str]) -> list[str]:
    """The valid names that mean the same as `name` in the field's usage, genjax's own first."""
    name, valid = name.lower().replace("-", "_"), list(valid)
    return [v for group in SYNONYMS if name in group for word in group for v in valid if v == word != name]


def key_of(name: str, keys: Iterable[str]) -> list[str]:
    """The dotted keys, at most 3, whose last part is `name`, else another word for it: "lr" is
    optimizer.learning_rate."""
    ends: dict[str, list[str]] = {}
    for key in keys:
        ends.setdefault(key.rpartition(".")[2], []).append(key)
    same = [name] if name in ends else synonyms(name, ends)[:1]
    return sorted((key for end in same for key in ends[end]), key=lambda key: key.count("."))[:3]


def unknown(kind: str, name: str, valid: Iterable[str]) -> UserError:
    """The error for a name that is not one of `valid`.

    Args:
      kind: what the name was meant to be, e.g. "config key", "source".
      name: what the user wrote.
      valid: the names that exist.

    Returns:
      A `UserError` that names the nearest valid name, or lists them (many: the first) when none is near.
    """
    valid = sorted(str(v) for v in valid if v != name)
    near = nearest(name, valid)
    shown = valid if len(valid) <= _SHOWN else [*valid[:_SHOWN], f"and {len(valid) - _SHOWN} more"]
    hint = f"did you mean {near!r}?" if near else "valid: " + (", ".join(shown) or "none")
    return UserError(f"unknown {kind} {name!r}; {hint}")


def at_least(of: object, **least: float) -> None:
    """Refuses attributes of `of`, or entries of its tuples, below the given numbers (NaN too)."""
    for what, number in least.items():
        value = getattr(of, what)
        entries = value if isinstance(value, (tuple, list)) else (value,)
        if not all(v >= number for v in entries):
            raise UserError(f"{what} must be at least {number}{' each' if entries is value else ''}, got {value}")
