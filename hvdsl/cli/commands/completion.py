"""`hvdsl completion bash|zsh|fish`: a script that completes commands, options, their words, and shipped specs."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from shlex import quote


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "shell", choices=[*SHELLS], help="the shell to write for; the first line of the script says where to put it"
    )


def run(args: argparse.Namespace) -> int:
    from hvdsl.cli.main import build_parser
    from hvdsl.compiler.assembly.files import shipped

    specs = sorted(path.stem for path in shipped().glob("*.hv"))
    commands = list(commands_of(build_parser()))
    sys.stdout.write(SHELLS[args.shell](commands, specs))
    return 0


@dataclass(frozen=True, slots=True)
class Option:
    """One option of a command: its spellings, and what may follow it."""

    flags: tuple[str, ...]
    choices: tuple[str, ...]
    takes_value: bool
    summary: str


@dataclass(frozen=True, slots=True)
class CommandWords:
    """What may stand after a command (`train`), or a part of one (`viz graph`)."""

    path: str
    summary: str
    parts: tuple[str, ...]  # subcommands
    options: tuple[Option, ...]
    words: tuple[str, ...]  # of positional arguments that are one of several words
    specs: bool  # whether a positional argument may be the name of a shipped spec
    files: bool  # or a file


def commands_of(parser: argparse.ArgumentParser, path: str = "", summary: str = "") -> Iterator[CommandWords]:
    """Yield the words of a parser and of those of its subcommands."""
    parts: dict[str, argparse.ArgumentParser] = {}
    meanings: dict[str, str] = {}
    options: list[Option] = []
    words: list[str] = []
    specs = files = False
    for action in parser._actions:
        choices = tuple(map(str, action.choices or ()))
        if isinstance(action, argparse._SubParsersAction):
            parts = dict(action.choices)
            meanings = {shown.dest: shown.help or "" for shown in action._choices_actions}
        elif action.option_strings:
            help = (action.help or "").replace("%%", "%")
            options.append(Option(tuple(action.option_strings), choices, action.nargs != 0, help))
        else:
            words += choices
            specs = specs or str(action.metavar or action.dest).upper().startswith("SPEC")
            files = files or not choices
    yield CommandWords(path, summary, tuple(parts), tuple(options), tuple(words), specs, files)
    for name, part in parts.items():
        meaning = meanings.get(name) or part.description or ""
        yield from commands_of(part, f"{path} {name}".strip(), meaning.rstrip("."))


def bash(commands: list[CommandWords], specs: list[str]) -> str:
    """Return the script for bash: the command is found first, then what may follow the last word."""
    paths = [command.path for command in commands if command.path]
    lines = [
        '# Completion of hvdsl in bash: put  eval "$(hvdsl completion bash)"  into ~/.bashrc',
        "_hvdsl() {",
        "  local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]} path= words= files= i",
        "  COMPREPLY=()",
        "  for ((i = 1; i < COMP_CWORD; i++)); do",
        '    case "${path:+$path }${COMP_WORDS[i]}" in',
        f"      {'|'.join(quote(path) for path in paths)}) path=${{path:+$path }}${{COMP_WORDS[i]}} ;;",
        "    esac",
        "  done",
        '  case "$path $before" in',
    ]
    for command in commands:
        for option in command.options:
            pattern = "|".join(quote(f"{command.path} {flag}") for flag in option.flags)
            if option.choices:
                chosen = quote(" ".join(option.choices))
                lines.append(f'    {pattern}) COMPREPLY=($(compgen -W {chosen} -- "$word")); return ;;')
            elif option.takes_value:
                lines.append(f"    {pattern}) return ;;")
    lines += ["  esac", '  case "$path" in']
    for command in commands:
        flags = " ".join(flag for option in command.options for flag in option.flags)
        plain = " ".join((*command.parts, *command.words, *(["$specs"] if command.specs else [])))
        files = "files=yes; " if command.files else ""
        lines.append(f"    {quote(command.path)})")
        lines.append(f'      if [[ $word == -* ]]; then words="{flags}"; else {files}words="{plain}"; fi ;;')
    lines += [
        "  esac",
        '  COMPREPLY=($(compgen -W "$words" -- "$word"))',
        "  if [[ -n $files ]]; then",
        '    COMPREPLY+=($(compgen -f -- "$word"))',
        "    type compopt >/dev/null 2>&1 && compopt -o filenames",
        "  fi",
        "}",
        "complete -o default -F _hvdsl hvdsl",
    ]
    lines.insert(2, f'  local specs="{" ".join(specs)}"')
    return "\n".join(lines) + "\n"


def zsh(commands: list[CommandWords], specs: list[str]) -> str:
    """Return the script for zsh, which reads that of bash."""
    head = '# Completion of hvdsl in zsh: put  eval "$(hvdsl completion zsh)"  into ~/.zshrc\n'
    load = "(( $+functions[compdef] )) || { autoload -U +X compinit && compinit; }\n"
    load += "autoload -U +X bashcompinit && bashcompinit\n"
    return head + load + bash(commands, specs).partition("\n")[2]


def fish(commands: list[CommandWords], specs: list[str]) -> str:
    """Return the script for fish, with what each word means."""
    lines = ["# Completion of hvdsl in fish: hvdsl completion fish > ~/.config/fish/completions/hvdsl.fish"]
    summaries = {command.path: command.summary for command in commands}
    for command in commands:
        path = command.path.split()
        if path:
            seen = "; and ".join(f"__fish_seen_subcommand_from {name}" for name in path)
            further = f"; and not __fish_seen_subcommand_from {' '.join(command.parts)}" if command.parts else ""
            condition = seen + further
        else:
            condition = "__fish_use_subcommand"
        line = f"complete -c hvdsl -n {quote(condition)}"
        for part in command.parts:
            summary = summaries[f"{command.path} {part}".strip()]
            lines.append(f"{line} -f -a {quote(part)} -d {quote(summary)}")
        words = [*command.words, *(specs if command.specs else [])]
        if words:
            lines.append(f"{line}{'' if command.files else ' -f'} -a {quote(' '.join(words))}")
        for option in command.options:
            value = " -r" if option.takes_value else ""
            if option.choices:
                value = f" -x -a {quote(' '.join(option.choices))}"
            spelled = " ".join(map(_fish_flag, option.flags))
            lines.append(f"{line} {spelled}{value} -d {quote(option.summary)}")
    return "\n".join(lines) + "\n"


def _fish_flag(flag: str) -> str:
    """Return an option as fish declares it: `--json`, `-o`, and `-O1`, a long one with a single dash."""
    if flag.startswith("--"):
        return f"-l {flag[2:]}"
    return f"-s {flag[1:]}" if len(flag) == 2 else f"-o {flag[1:]}"


SHELLS = {"bash": bash, "zsh": zsh, "fish": fish}
