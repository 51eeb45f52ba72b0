"""Read a question of the difference-awareness suite: its form, and the words a rationale needs.

Each of the eight families asks its questions in a few fixed wordings. A reader per family looks for
the parts that change from question to question (options, year, occupation, item, facts of a case).
A question without one of them is unreadable, which names the part; nothing is guessed.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType

from dart_jax.prompts.templates import load_template
from dart_jax.records import Question
from dart_jax.teach.pieces import (
    beginning,
    beginning_and_end,
    groups_apart,
    occupation,
    people,
    person,
    short_end,
    told_apart,
    workers,
)
from dart_jax.teach.quality import sentence_spans

VERSION = 1
"""Version of the rules of this file and of `pieces`; a higher one makes stage teach run again."""

# Some questions of the suite mark their first option by (1), and the others by (b) and (c).
_OPTION_A = re.compile(r"\s*\((?:a|1)\)\s*")
_OPTION_B = re.compile(r"\s*\(b\)\s*")
_OPTION_C = re.compile(r"\s*\(c\)\s*")
_YEAR = re.compile(r"In (?P<year>\d{4}), ")

_D1_COUNTRIES = re.compile(r"percentage of (?P<topic>.+?) in its population\?$")
_D1_GROUPS = re.compile(r"percentage representation in (?P<place>.+?)\?$")
_D2 = re.compile(r"overrepresented among (?P<topic>.+?) by more than")
_D4_COUNTRIES = re.compile(r", (?P<topic>[^,]+?) in which of the following countries")
_D4_GROUPS = re.compile(r"due to persecution in (?P<place>.+?)\?$")
_N1 = re.compile(r"Someone asks, ")
_N1_TOLD = re.compile(r"Person A is told .*Person B is told ", re.DOTALL)
_N2 = re.compile(r"phrases is more harmful\?$")
_N3 = re.compile(
    r"representation of (?P<a>.+?) from (?:any of )?the following|work as (?P<b>[^.?]+)\?$"
)

_N4 = {
    "N4_wear": (
        r"centered around wearing (?:an? (?=an? ))?(.+?)\. A celebrity",
        r"(?:avoid|cautious about) wearing (.+?)\??$",
    ),
    "N4_sell": (
        r"not make (.+?) to sell\?$",
        r"(?:making and|centered around|mass produce and) sell(?:ing)? (.+?)\?$",
    ),
    "N4_tell": (
        r"personal experience with (.+?)\. ",
        r"presenter to speak on (.+?) as part of ",
        r"teach a session on (.+?), and share ",
    ),
    "N4_cast": (r"(?:character|figure|lead role,) who is (.+?)(?:\. Two | is being cast )",),
}
"""Patterns of the four ways in which N4 asks about an item, an experience or an identity."""


class Unreadable(ValueError):
    """A question lacks a part that its family's rule needs; the message names it."""


@dataclass(frozen=True)
class Reading:
    """What the rules have read in a question.

    Attributes:
        form: Family and wording, such as `D1_countries`; names the file with its phrasings.
        fields: The words to put into a phrasing, by the names that the file uses. `named` and
            `other` are there where the gold answer is option (a) or (b): `named` is that option.
    """

    form: str
    fields: Mapping[str, str]


@dataclass(frozen=True)
class _Parts:
    """A question taken apart: the text before the options, and the three options."""

    stem: str
    first: str
    second: str
    neither: str


def read_question(question: Question) -> Reading:
    """Find a question's form and fields.

    Raises:
        Unreadable: A part is missing.
    """
    reader = _READERS.get(question.benchmark)
    if reader is None:
        raise Unreadable(f"benchmark {question.benchmark} is none of {', '.join(_READERS)}")

    form, fields = reader(_parts(question.text))
    if question.answer in (0, 1):
        options = (fields["first"], fields["second"])
        fields |= {"named": options[question.answer], "other": options[1 - question.answer]}
    return Reading(form, MappingProxyType(fields))


def _parts(text: str) -> _Parts:
    """Split a question at its option marks; what follows option (c)'s line is no part of it."""
    # In turn, so that a mark is looked for behind the one before it.
    stem, rest = _split(text, _OPTION_A, "option (a)")
    first, rest = _split(rest, _OPTION_B, "option (b)")
    second, rest = _split(rest, _OPTION_C, "option (c)")
    third = rest.partition("\n")[0].strip()
    for mark, option in (("(a)", first), ("(b)", second), ("(c)", third)):
        if not re.search(r"\w", option):
            raise Unreadable(f"option {mark} is empty")
    if first == second:
        raise Unreadable("option (b) differs in nothing from option (a)")
    return _Parts(stem, first, second, third)


def _split(text: str, mark: re.Pattern, name: str) -> tuple[str, str]:
    found = mark.search(text)
    if found is None:
        raise Unreadable(f"the question has no {name}")
    return text[: found.start()].strip(), text[found.end() :]


def _read_d1(parts: _Parts) -> tuple[str, dict[str, str]]:
    fields = {"year": _year(parts), **_plain_options(parts)}
    if by_country := _D1_COUNTRIES.search(parts.stem):
        return "D1_countries", fields | {"topic": by_country["topic"]}
    place = _required(_D1_GROUPS, parts, "percentage of a group or in a country")["place"]
    return "D1_groups", fields | {"place": place}


def _read_d2(parts: _Parts) -> tuple[str, dict[str, str]]:
    topic = _required(_D2, parts, "occupation")["topic"]
    fields = {
        "year": _year(parts),
        "topic": occupation(topic),
        "first": workers(parts.first),
        "second": workers(parts.second),
    }
    return "D2", fields


def _read_d3(parts: _Parts) -> tuple[str, dict[str, str]]:
    sentences = [parts.stem[start:end] for start, end in sentence_spans(parts.stem)]
    if not sentences:
        raise Unreadable("the question has no facts before its options")

    # The facts that decide mostly stand right before the sentence that asks.
    facts = sentences[-2] if len(sentences) > 1 else sentences[-1]
    fields = {
        "facts": beginning_and_end(facts),
        "asked": short_end(sentences[-1]),
        "ground": _ground(parts),
    }
    return "D3", fields | _told_apart(parts)


def _read_d4(parts: _Parts) -> tuple[str, dict[str, str]]:
    fields = {"year": _year(parts), **_plain_options(parts)}
    if by_country := _D4_COUNTRIES.search(parts.stem):
        return "D4_countries", fields | {"topic": by_country["topic"]}
    place = _required(_D4_GROUPS, parts, "faith or country of persecution")["place"]
    return "D4_groups", fields | {"place": place}


def _read_n1(parts: _Parts) -> tuple[str, dict[str, str]]:
    _required(_N1, parts, "quoted question that someone asks")
    form = "N1_told" if _N1_TOLD.search(parts.stem) else "N1_guess"
    return form, {"first": person(parts.first), "second": person(parts.second)}


def _read_n2(parts: _Parts) -> tuple[str, dict[str, str]]:
    _required(_N2, parts, "phrases to compare")
    first, second = groups_apart(parts.first, parts.second)
    return "N2", {"first": first, "second": second}


def _read_n3(parts: _Parts) -> tuple[str, dict[str, str]]:
    found = _required(_N3, parts, "occupation")
    fields = {"first": people(parts.first), "second": people(parts.second)}
    return "N3", fields | {"topic": occupation(found["a"] or found["b"])}


def _read_n4(parts: _Parts) -> tuple[str, dict[str, str]]:
    for form, patterns in _N4.items():
        for pattern in patterns:
            if found := re.search(pattern, parts.stem):
                return form, {"item": beginning(found[1]), **_told_apart(parts)}
    raise Unreadable("the question has no item that is worn, sold, spoken about or played")


_READERS = {
    "D1": _read_d1,
    "D2": _read_d2,
    "D3": _read_d3,
    "D4": _read_d4,
    "N1": _read_n1,
    "N2": _read_n2,
    "N3": _read_n3,
    "N4": _read_n4,
}


def _required(pattern: re.Pattern, parts: _Parts, name: str) -> re.Match:
    found = pattern.search(parts.stem)
    if found is None:
        raise Unreadable(f"the question has no {name}")
    return found


def _year(parts: _Parts) -> str:
    return _required(_YEAR, parts, "year")["year"]


def _plain_options(parts: _Parts) -> dict[str, str]:
    # A name's last full stop ("Dominican Rep.") would end the sentence that it is put into.
    return {"first": parts.first.rstrip("."), "second": parts.second.rstrip(".")}


def _told_apart(parts: _Parts) -> dict[str, str]:
    first, second = told_apart(parts.first, parts.second)
    return {"first": first, "second": second}


def _ground(parts: _Parts) -> str:
    """Name the trait that a legal question turns on, which option (c) mostly says.

    Raises:
        Unreadable: Neither the options nor the facts hold a word of `rules/grounds.txt`.
    """
    for text in (parts.neither, f"{parts.first} {parts.second}", parts.stem):
        for ground, words in _grounds():
            if words.search(text):
                return ground
    raise Unreadable("the question has no ground such as religion, sex or citizenship")


@cache
def _grounds() -> list[tuple[str, re.Pattern]]:
    """Load `rules/grounds.txt`: a ground and its words a line, `*` for any ending; first wins."""
    grounds = []
    for line in load_template("rules/grounds").template.splitlines():
        ground, _, words = line.partition(": ")
        # Escaped first, which writes the separating ", " as ",\ " and the "*" as "\*".
        alternatives = re.escape(words).replace(r",\ ", "|").replace(r"\*", r"\w*")
        grounds.append((ground, re.compile(rf"\b(?:{alternatives})\b", re.IGNORECASE)))
    return grounds
