"""Command-line parsers whose errors are one sentence that suggests the nearest known name."""

from __future__ import annotations

import argparse
import difflib
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NoReturn

from dart_jax.settings import allows, described


class CommandParser(argparse.ArgumentParser):
    """An ArgumentParser that answers a mistake with a sentence instead of its usage.

    Options may not be abbreviated; a negative number in any notation is a value.
    """

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **{"allow_abbrev": False, **kwargs})

    def parse_known_args(self, args=None, namespace=None):
        """See argparse."""
        given = sys.argv[1:] if args is None else args
        return super().parse_known_args(join_negative_numbers(given), namespace)

    def parse_with_settings(
        self, args: Sequence[str] | None, settings: Iterable[str]
    ) -> tuple[argparse.Namespace, list[str]]:
        """Separate the command's options from `--section.field value` arguments.

        An unknown name without a section cannot be a setting and is refused as a mistaken option.

        Args:
            settings: Names of all settings, such as sft.epochs.
        """
        options, arguments = self.parse_known_args(args)
        for argument in arguments:
            name = argument.partition("=")[0]
            if name.startswith("--") and "." not in name:
                self._refuse(name, [*self._options(), *settings])
        return options, arguments

    def error(self, message: str) -> NoReturn:
        """Exit with status 2 and the message; for an unknown option, suggest the nearest one."""
        unknown = re.fullmatch(r"unrecognized arguments: (\S+).*", message, re.DOTALL)
        if unknown:
            self._refuse(unknown[1].partition("=")[0], self._options())
        self._end(message)

    def _refuse(self, name: str, known: Iterable[str]) -> NoReturn:
        self._end(f"unknown argument {name}{did_you_mean(name, known)}")

    def _end(self, message: str) -> NoReturn:
        self.exit(2, f"error: {message}\n({self.prog} --help lists the options)\n")

    def _options(self) -> Iterable[str]:
        """Yield all option names, subcommands' included."""
        for action in self._actions:
            yield from action.option_strings
            if isinstance(action, argparse._SubParsersAction):
                for command in action.choices.values():
                    yield from command._options()


def join_negative_numbers(args: Sequence[str]) -> list[str]:
    """Join `--rate -1e-4` to `--rate=-1e-4`, whose number argparse would take for an option."""
    joined: list[str] = []
    for argument in args:
        before = joined[-1] if joined else ""
        if _is_negative(argument) and before.startswith("--") and "=" not in before:
            joined[-1] = f"{before}={argument}"
        else:
            joined.append(argument)
    return joined


def _is_negative(text: str) -> bool:
    return re.fullmatch(r"-(\d[\d_]*\.?\d*|\.\d+)(e[-+]?\d+)?|-inf|-nan", text, re.I) is not None


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Suggest the nearest known names: `; did you mean sft.epochs?`, or '' where none is near.

    For a field's name without its section, every section that has the field is suggested.
    """
    wanted, dashes = name.lstrip("-"), "--" if name.startswith("--") else ""
    names = [known_name.lstrip("-") for known_name in known]
    with_section = _of_any_section(wanted, names)
    # Where sections have the field, only the command's own options can be meant otherwise.
    candidates = [option for option in names if "." not in option] if with_section else names

    near = [*_nearest(wanted, candidates), *with_section]
    return f"; did you mean {' or '.join(dashes + option for option in near)}?" if near else ""


def _of_any_section(field: str, names: Sequence[str]) -> list[str]:
    plain = field.replace("-", "_")
    return [name for name in names if name.endswith(f".{plain}")]


def _nearest(wanted: str, names: Sequence[str]) -> list[str]:
    """The name most like the wanted one; where its section exists, the field of that section."""
    section, dot, field = wanted.rpartition(".")
    fields = [name.removeprefix(f"{section}.") for name in names if name.startswith(f"{section}.")]
    if not dot or not fields:
        return difflib.get_close_matches(wanted, names, n=1)
    near = difflib.get_close_matches(field, fields, n=1) or _with_word_like(field, fields)
    return [f"{section}.{name}" for name in near]


def _with_word_like(wanted: str, fields: Sequence[str]) -> list[str]:
    """The field with the word most like the wanted one: `normaliser` finds loss_normalization."""
    field_of = {word: field for field in fields for word in field.split("_")}
    return [field_of[word] for word in difflib.get_close_matches(wanted, field_of, n=1)]


def value_of(hint: Any) -> Callable[[str], Any]:
    """Make an argparse type of an annotation of `settings`: a number within the declared range."""
    number = float if described(hint).startswith("a number") else int

    def read(text: str) -> Any:
        try:
            value = number(text)
        except ValueError:
            value = None
        if not allows(hint, value):
            raise argparse.ArgumentTypeError(f"{text}; give {described(hint)}")
        return value

    return read
