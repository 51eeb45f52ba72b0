"""Read a command line: options are a function's parameters, and a mistake is one sentence."""

from __future__ import annotations

import inspect
import re
import sys
from argparse import ArgumentTypeError
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NoReturn, TypeVar, get_args, get_origin, get_type_hints

import docstring_parser
from jsonargparse import SUPPRESS, ArgumentParser

from dart_jax.settings import BadSetting, allows, described, takes_list
from dart_jax.suggestions import did_you_mean

Result = TypeVar("Result")
_NEGATIVE = re.compile(r"-(\d[\d_]*\.?\d*|\.\d+)(e[-+]?\d+)?|-inf|-nan", re.IGNORECASE)


def call(
    prog: str,
    command: Callable[..., Result],
    arguments: Sequence[str],
    settings: Mapping[str, Any] | None = None,
) -> Result:
    """Call a function, or make a dataclass, with the options of a command line.

    Args:
        prog: The command as a shell knows it, for --help and messages.
        command: Its parameters are the options, see `CommandParser`. One that is named `settings`
            gets the texts of `--section.field value` by name.
        settings: The names that these may have, with their annotations.

    Raises:
        BadSetting: A mistake on the command line.
        SystemExit: After --help was printed.
    """
    given: dict[str, Any] = {}
    known = settings if "settings" in inspect.signature(command).parameters else None
    if known is not None:
        arguments, given["settings"] = take_settings(arguments, known)
    parser = CommandParser(prog, command, known or ())
    # `nargs` makes lists, where the parameters are annotated as tuples.
    for name, value in parser.parse_args(join_negative_numbers(arguments)).items():
        given[name] = tuple(value) if isinstance(value, list) else value
    return command(**given)


def call_one(
    prog: str,
    commands: Mapping[str, Callable[..., Result]],
    arguments: Sequence[str],
    settings: Mapping[str, Any] | None = None,
) -> Result:
    """Call the command that a command line names first; see `call` and `choose`."""
    first_lines = {}
    for name, command in commands.items():
        first_lines[name] = inspect.getdoc(command).partition("\n")[0]
    name, options = choose(prog, first_lines, arguments)
    return call(f"{prog} {name}", commands[name], options, settings)


def choose(
    prog: str, commands: Mapping[str, str], arguments: Sequence[str]
) -> tuple[str, list[str]]:
    """Take the command's name off a command line; print the list of commands for --help.

    Args:
        commands: Each name with its line in the list.

    Raises:
        BadSetting: No command is named, or one that is not there.
        SystemExit: After the list was printed.
    """
    name, *rest = arguments or [""]
    if name in ("-h", "--help"):
        width = max(map(len, commands))
        lines = [f"    {name.ljust(width)}  {line}" for name, line in commands.items()]
        print(f"usage: {prog} COMMAND [OPTIONS]", "", *lines, "", sep="\n")
        print(f"`{prog} COMMAND --help` explains a command.")
        sys.exit(0)

    if name not in commands:
        problem = f"unknown command {name}{did_you_mean(name, commands)}"
        if not name:
            problem = f"no command; give {', '.join(commands)}"
        raise BadSetting(f"{problem}\n({prog} --help lists the commands)")
    return name, rest


class CommandParser(ArgumentParser):
    """A parser of jsonargparse whose errors are one sentence, with options as shells know them.

    The options are the parameters of a function or dataclass: its annotations have the ranges, its
    docstring the help. In names a dash stands for an underscore; a bool is a flag, a tuple takes
    several words, and parameters before `*` are given without their name. No option may be
    abbreviated.
    """

    def __init__(
        self,
        prog: str,
        command: Callable[..., Any] | None = None,
        settings: Iterable[str] = (),
        **kwargs: Any,
    ):
        """Add the options of `command`; an error may suggest one of the `settings`, too."""
        self._settings = settings
        super().__init__(prog=prog, allow_abbrev=False, **kwargs)
        if command is not None:
            self.description = re.split(r"\n\n(?:Args|Attributes):", inspect.getdoc(command))[0]
            self._add_options(command)

    def _add_options(self, command: Callable[..., Any]) -> None:
        hints, helps = get_type_hints(command, include_extras=True), _helps(command)
        for name, parameter in inspect.signature(command).parameters.items():
            if name == "settings":
                continue
            text, option = helps[name], _as_option(hints[name], parameter.default)
            if parameter.kind is parameter.KEYWORD_ONLY:
                name = f"--{name.replace('_', '-')}"
                option["required"] = parameter.default is parameter.empty
            self.add_argument(name, help=text, **option)

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Raise BadSetting with the message; for an unknown option, suggest the nearest one."""
        what, _, words = message.partition(": ")
        if what == "unrecognized arguments":
            message = self._unknown(words.split()[0].partition("=")[0])
        elif what == "the following arguments are required":
            # jsonargparse names them as they are stored, with underscores and without dashes.
            names = {action.dest: action.option_strings for action in self._actions}
            spelled = [(names[word] or [word])[-1] for word in words.split(", ")]
            message = f"{what}: {', '.join(spelled)}"
        message = re.sub("ignored explicit argument '(.*)'", r"takes no value, not \1", message)
        raise BadSetting(f"{message}\n({self.prog} --help lists the options)") from ex

    def _unknown(self, word: str) -> str:
        if not word.startswith("-"):
            return f"unexpected argument {word}"
        names = [*self._settings]
        for action in self._actions:
            names += [name for name in action.option_strings if "." not in name]
        return f"unknown argument {word}{did_you_mean(word, names)}"


def _helps(command: Callable[..., Any]) -> dict[str, str]:
    """Each parameter's text in the docstring; a dataclass has those of its bases, too."""
    helps: dict[str, str] = {}
    # Reversed, so that a class's own texts replace those of its bases.
    for documented in reversed(inspect.getmro(command)) if inspect.isclass(command) else [command]:
        for parameter in docstring_parser.parse(documented.__doc__ or "").params:
            helps[parameter.arg_name] = parameter.description
    return helps


def _as_option(hint: Any, default: Any) -> dict[str, Any]:
    """Translate an annotation into what `add_argument` takes."""
    if hint is bool:
        return {"action": "store_true", "default": SUPPRESS}
    option: dict[str, Any] = {}
    if type(None) in get_args(hint):
        hint = get_args(hint)[0]
    if takes_list(hint):
        hint, option["nargs"] = get_args(hint)[0], "+"
    if get_origin(hint) is Literal:
        option["choices"] = get_args(hint)
    elif hint is not str:
        option["type"] = Word(hint)

    # A default of None says nothing, and the function has it anyway.
    default = list(default) if isinstance(default, tuple) else default
    unsaid = default is None or default is inspect.Parameter.empty
    option["default"] = SUPPRESS if unsaid else default
    return option


@dataclass(frozen=True, repr=False)
class Word:
    """Read a word as a value of an annotated type; --help shows it as what may be given."""

    hint: Any

    def __call__(self, word: Any) -> Any:
        """Convert and check a word, or a value: jsonargparse checks what was read once more."""
        kind = get_args(self.hint)[0] if get_origin(self.hint) is Annotated else self.hint
        try:
            value = kind(word)
        except ValueError:
            # `_as_option` took None out of the annotation, so that it is refused below.
            value = None
        if not allows(self.hint, value):
            raise ArgumentTypeError(f"{word}; give {described(self.hint)}")
        return value

    def __repr__(self) -> str:
        return described(self.hint)


def take_settings(
    arguments: Sequence[str], known: Mapping[str, Any]
) -> tuple[list[str], dict[str, str]]:
    """Take `--section.field value` and `--section.field=value` out of a command line.

    Args:
        known: All settings and sections by name, with their annotations.

    Returns:
        The other words, and the settings' texts by name; of one that is given twice, the last.

    Raises:
        BadSetting: There is no such setting, or it is given without a value.
    """
    others: list[str] = []
    settings: dict[str, str] = {}
    remaining = list(arguments)
    while remaining:
        word = remaining.pop(0)
        name, equals, value = word.removeprefix("--").partition("=")
        # No option has a dot: a name with one is a setting, if a misspelt one.
        if not word.startswith("--") or not ("." in name or name in known):
            others.append(word)
            continue

        if name not in known:
            near = did_you_mean(f"--{name}", [f"--{setting}" for setting in known])
            raise BadSetting(f"there is no setting --{name}{near}")
        if not equals:
            # One dash alone may begin a negative number.
            if not remaining or remaining[0].startswith("--"):
                raise BadSetting(f"--{name} has no value; give {described(known[name])}")
            value = remaining.pop(0)
        settings[name] = value
    return others, settings


def join_negative_numbers(words: Sequence[str]) -> list[str]:
    """Join `--rate -1e-4` to `--rate=-1e-4`, whose number argparse would take for an option."""
    joined: list[str] = []
    for word in words:
        before = joined[-1] if joined else ""
        if _NEGATIVE.fullmatch(word) and before.startswith("--") and "=" not in before:
            joined[-1] = f"{before}={word}"
        else:
            joined.append(word)
    return joined
