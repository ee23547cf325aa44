"""Print a script by which your shell completes commands, flags, their values and file names.

  bash:  source <(registry-status completion bash)          in ~/.bashrc
  zsh:   source <(registry-status completion zsh)           in ~/.zshrc, after compinit
  fish:  registry-status completion fish | source           in ~/.config/fish/config.fish

Exit status: 0 printed, 2 wrong use.
"""

import argparse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from registry_status.config import NotReady, Settings
from registry_status.model import InstanceStatus

SHELLS = ("bash", "zsh", "fish")
PROGRAM = "registry-status"
VALUES: Mapping[str, tuple[str, ...]] = {
    "BOOL": ("true", "false"),
    "STATUS": tuple(status for status in InstanceStatus if status is not InstanceStatus.UP),
}
"""What may follow a flag, by the word that its help has for it."""
NAMED: Mapping[str, tuple[str, ...]] = {"not_ready_status": tuple(NotReady)}
FILES = ("FILE",)


@dataclass(frozen=True, slots=True)
class Flag:
    """A flag of a command."""

    names: tuple[str, ...]
    text: str
    takes_value: bool
    values: tuple[str, ...] = ()
    files: bool = False


@dataclass(frozen=True, slots=True)
class Words:
    """What may follow a command."""

    name: str
    text: str
    flags: tuple[Flag, ...]
    values: tuple[str, ...]
    """What a word without dashes may be."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which shell."""
    parser.add_argument("shell", choices=SHELLS, help="Your shell.")


def run(arguments: argparse.Namespace) -> int:
    """Print the script."""
    from registry_status.cli import COMMANDS, build_parser  # noqa: PLC0415 - it imports this module

    commands = tuple(_commands(build_parser(COMMANDS)[0], COMMANDS))
    print({"bash": _bash, "zsh": _zsh, "fish": _fish}[arguments.shell](commands), end="")
    return 0


def _commands(parser: argparse.ArgumentParser, texts: Mapping[str, str]) -> Iterator[Words]:
    """Read the parsers; argparse has no public way to do so."""
    (subparsers,) = (action for action in parser._actions if isinstance(action, argparse._SubParsersAction))  # noqa: SLF001 - no public way
    for name, subparser in subparsers.choices.items():
        actions: Sequence[argparse.Action] = subparser._actions  # noqa: SLF001 - no public way
        values = tuple(str(choice) for action in actions if not action.option_strings for choice in action.choices or ())
        yield Words(name, texts[name], tuple(_flag(action) for action in actions if action.option_strings), values)


def _flag(action: argparse.Action) -> Flag:
    metavar = str(action.metavar or "")
    choices = tuple(str(choice) for choice in action.choices or ()) or NAMED.get(action.dest) or VALUES.get(metavar, ())
    choices = choices or _enum_of(action.dest)
    return Flag(
        names=tuple(action.option_strings),
        text=" ".join((action.help or "").replace("%(default)s", str(action.default)).replace("%%", "%").split()),
        takes_value=action.nargs != 0,
        values=choices,
        files=metavar in FILES,
    )


def _enum_of(setting: str) -> tuple[str, ...]:
    """Return the words of a setting that is one of several."""
    kind = type(getattr(Settings(), setting, None))
    return tuple(str(word) for word in getattr(kind, "__members__", {}).values())


def _bash(commands: Sequence[Words]) -> str:
    flags = "\n".join(
        f"    {one.name}) flags={_quoted(' '.join(_names(one)))} words={_quoted(' '.join(one.values))} ;;" for one in commands
    )
    values = "\n".join(
        f"    {'|'.join(f'{one.name}:{name}' for name in flag.names)}) {_bash_reply(flag)} return ;;"
        for one in commands
        for flag in one.flags
        if flag.takes_value
    )
    return f"""\
# bash completion of {PROGRAM}, made by `{PROGRAM} completion bash`
_registry_status() {{
  local current="${{COMP_WORDS[COMP_CWORD]}}" previous="${{COMP_WORDS[COMP_CWORD - 1]}}" command="" flags="" words="" word
  COMPREPLY=()
  for word in "${{COMP_WORDS[@]:1:COMP_CWORD-1}}"; do
    if [[ $word != -* ]]; then command=$word; break; fi
  done
  if [[ -z $command ]]; then
    COMPREPLY=($(compgen -W "{" ".join(one.name for one in commands)} --help --version" -- "$current"))
    return
  fi
  case "$command:$previous" in
{values}
  esac
  case "$command" in
{flags}
  esac
  if [[ $current == -* || -z $words ]]; then words=$flags; fi
  COMPREPLY=($(compgen -W "$words" -- "$current"))
}}
complete -F _registry_status {PROGRAM}
"""


def _bash_reply(flag: Flag) -> str:
    if flag.files:
        return 'compopt -o filenames 2>/dev/null; COMPREPLY=($(compgen -f -- "$current"));'
    return f'COMPREPLY=($(compgen -W {_quoted(" ".join(flag.values))} -- "$current"));'


def _zsh(commands: Sequence[Words]) -> str:
    listed = "\n".join(f"    {_quoted(f'{one.name}:{one.text}')}" for one in commands)
    cases = "\n".join(
        f"    {one.name}) _arguments -s {' '.join([*map(_zsh_flag, one.flags), _zsh_words(one)])} ;;" for one in commands
    )
    return f"""\
#compdef {PROGRAM}
# zsh completion of {PROGRAM}, made by `{PROGRAM} completion zsh`
_registry_status() {{
  local -a commands=(
{listed}
  )
  if (( CURRENT == 2 )); then
    _describe command commands
    return
  fi
  local command=$words[2]
  shift words
  (( CURRENT-- ))
  case $command in
{cases}
  esac
}}
compdef _registry_status {PROGRAM}
"""


def _zsh_flag(flag: Flag) -> str:
    text = flag.text.translate({ord(sign): f"\\{sign}" for sign in "[]:"})
    action = "_files" if flag.files else f"({' '.join(flag.values)})" if flag.values else ""
    value = f":value:{action}" if flag.takes_value else ""
    return " ".join(_quoted(f"*{name}[{text}]{value}") for name in flag.names)


def _zsh_words(one: Words) -> str:
    return _quoted(f":word:({' '.join(one.values)})") if one.values else ""


def _fish(commands: Sequence[Words]) -> str:
    lines = [f"# fish completion of {PROGRAM}, made by `{PROGRAM} completion fish`", f"complete -c {PROGRAM} -f"]
    lines += [f"complete -c {PROGRAM} -n __fish_use_subcommand -a {one.name} -d {_fish_text(one.text)}" for one in commands]
    for one in commands:
        here = f"complete -c {PROGRAM} -n '__fish_seen_subcommand_from {one.name}'"
        if one.values:
            lines.append(f"{here} -a {_fish_text(' '.join(one.values))}")
        lines += [f"{here} {_fish_flag(flag)}" for flag in one.flags]
    return "\n".join(lines) + "\n"


def _fish_flag(flag: Flag) -> str:
    names = " ".join(f"-l {name[2:]}" if name.startswith("--") else f"-s {name[1:]}" for name in flag.names)
    value = " -r -F" if flag.files else " -x" if flag.takes_value else ""
    if flag.values:
        value += f" -a {_fish_text(' '.join(flag.values))}"
    return f"{names}{value} -d {_fish_text(flag.text)}"


def _names(one: Words) -> Iterator[str]:
    return (name for flag in one.flags for name in flag.names)


def _quoted(text: str) -> str:
    """For bash and zsh."""
    return "'" + text.replace("'", "'\\''") + "'"


def _fish_text(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
