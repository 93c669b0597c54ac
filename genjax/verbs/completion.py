"""`launch.py completion`: tab completion for a shell."""

import argparse

TEXT = ("print a script for tab completion of verbs, options, configs and figures; `launch.py completion bash >"
        " ~/.genjax-completion`, and `source ~/.genjax-completion` in ~/.bashrc")
LOOKS = True
UNFINISHED = ("KEY", "OPTION")  # `--config.KEY` stands for many

# Words of `python launch.py ...` and `./launch.py ...`; any other command of python's keeps the shell's own completion.
_SCRIPT = """\
_genjax() {
  local words i=1 verb here="${COMP_WORDS[COMP_CWORD]}" before="${COMP_WORDS[COMP_CWORD-1]}"
  COMPREPLY=()
  case "${COMP_WORDS[0]}" in *launch.py) ;; *)
    case "${COMP_WORDS[1]}" in *launch.py) i=2 ;; *) return ;; esac ;;
  esac
  [ "$COMP_CWORD" -lt "$i" ] && return
  verb="${COMP_WORDS[i]}"
  [ "$here" = "=" ] && here=""
  [ "$before" = "=" ] && before="${COMP_WORDS[COMP_CWORD-2]}"
  if [ "$COMP_CWORD" -eq "$i" ]; then words="@VERBS@"
  elif [ "$before" = --config ] || [ "$verb" = show ] || [ "$verb" = diff ]; then words="@CONFIGS@"
  elif [ "$verb" = reproduce ] && [ "$COMP_CWORD" -eq "$((i + 1))" ]; then words="@FIGURES@"
  elif [ "$verb" = bench ] && [ "$COMP_CWORD" -eq "$((i + 1))" ]; then words="@BENCHMARKS@"
  fi
  case "$here" in -*) case "$verb" in
@FLAGS@
  esac ;; esac
  COMPREPLY=($(compgen -W "$words" -- "$here"))
}
complete -o bashdefault -o default -F _genjax python python3 launch.py ./launch.py
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what the verb takes."""
    parser.add_argument("shell", choices=("bash", "zsh"))


def run(args: argparse.Namespace, overrides: list[str]) -> int:
    """Prints the script."""
    from genjax.core import config, inspect
    from genjax.verbs import VERBS, command_line

    parsers = command_line.make_parser()._subparsers._group_actions[0].choices
    flags = {name: " ".join(f for f in command_line.flags_of(sub) if not f.endswith(UNFINISHED))
             for name, sub in parsers.items()}
    words = {"VERBS": ["help", *VERBS], "CONFIGS": config.list_configs(), "FIGURES": inspect.figures(),
             "BENCHMARKS": inspect.benchmarks()}
    script = _SCRIPT.replace("@FLAGS@", "\n".join(f'    {name}) words="{text}" ;;' for name, text in flags.items()))
    for key, names in words.items():
        script = script.replace(f"@{key}@", " ".join(names))
    if args.shell == "zsh":
        print("autoload -U +X compinit && compinit; autoload -U +X bashcompinit && bashcompinit")
    print(script, end="")
    return 0
