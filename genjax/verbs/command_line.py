"""The command line of `launch.py`: a verb, its arguments, and `--config.KEY=VALUE` and `--control.OPTION=VALUE`."""

import argparse

from genjax.errors import UserError, unknown
from genjax.verbs import VERBS


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
    if rest and not rest[0].startswith("-") and rest[0] not in VERBS:
        raise unknown("verb", rest[0], VERBS)
    args, extra = parser.parse_known_args(rest)
    if extra:
        sub = parser._subparsers._group_actions[0].choices[args.verb]
        flags = [s for a in sub._actions for s in a.option_strings if s.startswith("--")]
        raise unknown(f"argument of {args.verb}:", extra[0].split("=")[0], flags)
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
