"""Phrases of a plain text file, looked for in the words of a sentence.

The file defines names for alternatives and lists phrases under headings:

    cannot = cannot | can not | am unable to
    [decline]
    i <cannot> (really | just)? help*
    not something ... (help | do)

A line that begins with a blank goes on with the one before it, `#` begins a comment. In a phrase
`word` is itself, `word*` also with any ending, `<name>` one of the alternatives, `(a | b)` one of
these, `..` up to three words, `...` up to eight, `^` and `$` the sentence's ends; what ends in `?`
may be missing. Brackets hold no others.
"""

import re
from collections.abc import Mapping
from pathlib import Path

_PART = re.compile(r"(?:<(?P<name>[^>]+)>|\((?P<choice>[^)]+)\))(?P<maybe>\??)|(?P<word>\S+)")
_BETWEEN = re.compile(r"\|(?![^(]*\))")  # not one within a bracket
_GAPS = {"..": r"(?:\w+ ){0,3}?", "...": r"(?:\w+ ){0,8}?", "^": r"(?<=^ )", "$": r"$"}
_CONTRACTIONS = (
    (re.compile(r"\bcan't\b"), "cannot"),
    (re.compile(r"\bcan not\b"), "cannot"),
    (re.compile(r"\bwon't\b"), "will not"),
    (re.compile(r"n't\b"), " not"),
    (re.compile(r"'m\b"), " am"),
    (re.compile(r"'re\b"), " are"),
    (re.compile(r"'ll\b"), " will"),
    (re.compile(r"'ve\b"), " have"),
    (re.compile(r"'d\b"), " would"),
    (re.compile(r"\blet's\b"), "let us"),
    (re.compile(r"\b(it|that|this|there|here|what|he|she|who)'s\b"), r"\1 is"),
    (re.compile(r"'s?\b"), ""),
)


def words_of(sentence: str) -> str:
    """Lower-case words, each followed by one blank, after one blank; contractions are written out.

    Example:
        `words_of("I'm sorry, but I can't!")` is `" i am sorry but i cannot "`.
    """
    text = sentence.lower().replace("\u2019", "'").replace("\u2018", "'")
    for contraction, full in _CONTRACTIONS:
        text = contraction.sub(full, text)
    return " " + "".join(f"{word} " for word in re.findall(r"\w+", text))


def load_phrases(path: Path) -> dict[str, re.Pattern]:
    """By heading, what finds any of its phrases in the result of `words_of`.

    Raises:
        ValueError: A line that is no definition, heading or phrase, or an unknown name; the
            message names file and line.
    """
    names: dict[str, str] = {}
    found: dict[str, list[str]] = {}
    phrases: list[str] | None = None
    for number, line in _lines(path):
        where = f"{path}:{number}"
        if line.startswith("["):
            phrases = found.setdefault(line.strip("[]"), [])
        elif phrases is None:
            name, separator, alternatives = line.partition("=")
            if not separator:
                raise ValueError(f"{where}: neither `name = a | b` nor a [heading]: {line}")
            names[name.strip()] = _alternatives(alternatives, names, where)
        else:
            phrases.append(_pattern(line, names, where))
    return {
        heading: re.compile(r"(?<= )(?:" + "|".join(patterns) + ")")
        for heading, patterns in found.items()
    }


def _lines(path: Path) -> list[tuple[int, str]]:
    """Lines with their numbers: continued ones joined, comments and empty ones left out."""
    joined: list[tuple[int, str]] = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        text = line.partition("#")[0].rstrip()
        if text[:1].isspace() and text.strip():
            joined[-1] = (joined[-1][0], f"{joined[-1][1]} {text.strip()}")
        elif text:
            joined.append((number, text))
    return joined


def _alternatives(text: str, names: Mapping[str, str], where: str) -> str:
    parts = [_pattern(part, names, where) for part in _BETWEEN.split(text)]
    return f"(?:{'|'.join(parts)})"


def _pattern(phrase: str, names: Mapping[str, str], where: str) -> str:
    pieces = []
    for part in _PART.finditer(phrase):
        word = part["word"]
        if part["name"]:
            if part["name"] not in names:
                raise ValueError(f"{where}: <{part['name']}> is not defined above")
            pieces.append(names[part["name"]] + part["maybe"])
        elif part["choice"]:
            pieces.append(_alternatives(part["choice"], names, where) + part["maybe"])
        elif word in _GAPS:
            pieces.append(_GAPS[word])
        elif word.endswith("*"):
            pieces.append(re.escape(word[:-1]) + r"\w* ")
        elif word.endswith("?"):
            pieces.append(f"(?:{re.escape(word[:-1])} )?")
        else:
            pieces.append(re.escape(word) + " ")
    return "".join(pieces)
