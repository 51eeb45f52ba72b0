"""Command lines whose errors are one sentence, with what may have been meant."""

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
        """The command's own options, and the `--section.field value` arguments beside them.

        A name without a section is no setting, but a mistaken option.

        Args:
            settings: Names of all settings, such as sft.epochs.
        """
        own, rest = self.parse_known_args(args)
        for argument in rest:
            name = argument.partition("=")[0]
            if name.startswith("--") and "." not in name:
                self._refuse(name, [*self._options(), *settings])
        return own, rest

    def error(self, message: str) -> NoReturn:
        """End with status 2 and the message; of an unknown option, with the nearest known one."""
        unknown = re.fullmatch(r"unrecognized arguments: (\S+).*", message, re.DOTALL)
        if unknown:
            self._refuse(unknown[1].partition("=")[0], self._options())
        self._end(message)

    def _refuse(self, name: str, known: Iterable[str]) -> NoReturn:
        self._end(f"unknown argument {name}{did_you_mean(name, known)}")

    def _end(self, message: str) -> NoReturn:
        self.exit(2, f"error: {message}\n({self.prog} --help lists the options)\n")

    def _options(self) -> Iterable[str]:
        """Option names, those of commands below included."""
        for action in self._actions:
            yield from action.option_strings
            if isinstance(action, argparse._SubParsersAction):
                for command in action.choices.values():
                    yield from command._options()


def join_negative_numbers(args: Sequence[str]) -> list[str]:
    """`--rate -1e-4` as `--rate=-1e-4`; argparse takes the number for an option of its own."""
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
    """`; did you mean sft.epochs?`, or '' where nothing known is near.

    A field's name without its section finds every section that has it.
    """
    wanted, dashes = name.lstrip("-"), "--" if name.startswith("--") else ""
    names = [other.lstrip("-") for other in known]
    near = _of_any_section(wanted, names)
    options = [other for other in names if "." not in other] if near else names
    near = [*_nearest(wanted, options), *near]
    return f"; did you mean {' or '.join(dashes + other for other in near)}?" if near else ""


def _of_any_section(field: str, names: Sequence[str]) -> list[str]:
    plain = field.replace("-", "_")
    return [name for name in names if name.endswith(f".{plain}")]


def _nearest(wanted: str, names: Sequence[str]) -> list[str]:
    """The name most like the wanted one; of a section that exists, the field most like it."""
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
    """An argparse type: a number within the range that an annotation of `settings` declares."""
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
