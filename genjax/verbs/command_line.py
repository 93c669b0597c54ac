"""The command line of `launch.py`: a verb, its arguments, and `--config.KEY=VALUE` and `--control.OPTION=VALUE`."""

import argparse
import re

from genjax.errors import UserError, nearest, synonyms, unknown
from genjax.verbs import VERBS

# Keys that most configs have and that users of other programs look for among the options.
KEYS = ("seed", "image", "train.steps", "train.log_every", "train.save_every", "train.preview_every",
        "train.eval_every", "train.keep", "data.source", "data.batch_size", "data.image_size",
        "optimizer.learning_rate", "optimizer.weight_decay", "task.ema_decay", "task.latent_dim")


class Parser(argparse.ArgumentParser):
    """argparse whose errors are one line, like every other mistake of the user."""

    def error(self, message: str):
        raise UserError(f"{message}; python {self.prog} --help explains")


def make_parser(description: str | None = None) -> argparse.ArgumentParser:
    """The parser, with one subparser per verb."""
    parser = Parser(prog="launch.py", description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    for name, verb in VERBS.items():
        verb.arguments(verbs.add_parser(name, help=verb.TEXT.split(";")[0], description=verb.TEXT, allow_abbrev=False))
    return parser


def flags_of(parser: argparse.ArgumentParser) -> list[str]:
    """The long options of a verb's parser."""
    return [s for a in parser._actions for s in a.option_strings if s.startswith("--")]


def _override_meant(extra: list[str]) -> str | None:
    """The `--config.KEY=VALUE` that unknown words were meant to be (`--steps 5`, `--data.seed=1`, `seed=1`); None where
    they say no key of a config."""
    name, eq, value = extra[0].partition("=")
    bare = name.lstrip("-")
    if not eq and len(extra) > 1 and not extra[1].startswith("-"):
        value = extra[1]
    known = {key.rpartition(".")[2]: key for key in KEYS}
    end = bare.replace("-", "_")
    end = end if end in known else next(iter(synonyms(bare, known)), None)
    written = re.fullmatch(r"[a-z_]\w*(\.\w+)*", bare) and (eq if bare == name else "." in bare)
    if "epoch" in bare and value:
        value = f"'{value} epochs'"  # a length in the unit that was meant
    key = known[end] if end and (eq or bare != name) else bare if written else None
    return key and f"--config.{key}={value or 'VALUE'}"


def parse(argv: list[str], description: str | None = None) -> tuple[argparse.Namespace, list[str]]:
    """Arguments and the list of `key=value` overrides.

    Args:
      argv: the words after `launch.py`.
      description: what `--help` says first.

    Raises:
      UserError: unknown verbs and arguments, missing ones, values that cannot be.
    """
    dotted, rest, words = {"--config.": [], "--control.": []}, [], iter(argv)
    for word in words:
        prefix = next((p for p in dotted if word.startswith(p)), None)
        if prefix is None:
            rest.append(word)
            continue
        item = word[len(prefix):]
        if "=" not in item:
            value = next(words, None)
            if value is None:
                raise UserError(f"{word} has no value: write {word}=VALUE")
            item = f"{item}={value}"
        dotted[prefix].append(item)
    overrides, options = dotted.values()
    parser = make_parser(description)
    if rest[:1] == ["help"]:  # `help train` is `train --help`
        rest = [*rest[1:2], "--help"]
    if rest and not rest[0].startswith("-") and rest[0] not in VERBS:
        raise unknown("verb", rest[0], VERBS)
    subs = parser._subparsers._group_actions[0].choices
    flags = {name: flags_of(sub) for name, sub in subs.items()}
    if rest and "--config" in flags.get(rest[0], ()) and not any(w.split("=")[0] == "--config" for w in rest):
        if rest[-1] == "help":
            raise UserError(f"unknown argument of {rest[0]}: 'help'; did you mean --help?")
        names = [w.split("=")[0] for w in rest[1:] if w.startswith("-")]
        if strange := [n for n in names if n not in (*flags[rest[0]], "-h") and nearest(n, flags[rest[0]])]:
            raise unknown(f"argument of {rest[0]}:", strange[0], flags[rest[0]])
        if rest[0] != "show" and len(rest) > 1 and not rest[1].startswith("-"):
            raise UserError(f"{rest[0]} takes its config by name: write --config {rest[1]}")
    args, extra = parser.parse_known_args(rest)
    if extra:
        if "--config.KEY" in flags[args.verb] and (meant := _override_meant(extra)):
            raise UserError(f"unknown argument of {args.verb}: {extra[0]!r}; did you mean {meant}?")
        if extra[0] in ("help", "-help"):
            raise UserError(f"unknown argument of {args.verb}: {extra[0]!r}; did you mean --help?")
        word = extra[0].split("=")[0]
        if len(word) == 3 and any(word[1:] in a.option_strings for a in subs[args.verb]._actions):
            raise UserError(f"unknown argument of {args.verb}: {word!r}; did you mean '{word[1:]}'?")
        other = synonyms(word.lstrip("-"), [f.lstrip("-") for f in flags[args.verb]])
        raise unknown(f"argument of {args.verb}:", word, [f"--{other[0]}"] if other else flags[args.verb])
    if overrides and not hasattr(args, "_overrides"):
        raise UserError(f"{args.verb} takes no --config.KEY overrides")
    if options and not getattr(args, "control", None):
        raise UserError(f"--control.{options[0]} belongs to a control: sample RUN --control NAME")
    if getattr(args, "control", None) and args.classes is not None:
        raise UserError("--classes is for samples; a control of a run with classes has --control.label")
    args.control_options = options
    if hasattr(args, "on"):
        from genjax.core import launchers

        launchers.options(args)  # its mistakes come before anything starts
    args.argv = argv
    return args, overrides
