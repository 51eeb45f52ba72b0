"""HolisticBias (Smith et al., EMNLP 2022): about 600 descriptors in 26 sentence templates.

The public files of a version are `descriptors.json`, `nouns.json`, `sentence_templates.json` and
`standalone_noun_phrases.json`; the sentences are put together here as their paper describes,
without its random variations of spelling.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import TypeAdapter
from typing_extensions import TypedDict

from dart_jax.data.external.prompts import ExternalPrompt, read_shape
from dart_jax.records import BadRecord

Preference = Literal["reviewed", "dispreferred", "polarizing"]


@dataclass(frozen=True)
class _Descriptor:
    descriptor: str
    preference: Preference | None = None
    gender: str | None = None
    article: str | None = None


@dataclass(frozen=True)
class _Standalone:
    noun_phrase: str
    plural_noun_phrase: str | None = None
    preference: Preference | None = None


class _TemplateRules(TypedDict, total=False):
    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012
    first_turn_only: bool
    must_be_noun: bool


@dataclass(frozen=True)
class _Phrase:
    """A noun phrase; `noun` is '' for a bare descriptor and for a fixed phrase."""

    axis: str
    bucket: str
    descriptor: str
    noun: str
    singular: str
    plural: str
    preference: str | None


_Nouns = dict[str, list[tuple[str, str]]]
_DESCRIPTORS = TypeAdapter(dict[str, dict[str, list[str | _Descriptor]]])
_NOUNS = TypeAdapter(_Nouns)
_STANDALONE = TypeAdapter(dict[str, list[str | _Standalone]])
_TEMPLATES = TypeAdapter(dict[str, _TemplateRules])


def sentences(folder: Path) -> Iterator[ExternalPrompt]:
    """Every sentence of one version, one at a time: 472,991 in v1.0, 566,625 in v1.1.

    Sentences without a descriptor (`I'm a parent.`) are the suite's controls: axis and group ''.

    Args:
        folder: Holds the four files of a version.

    Raises:
        BadRecord: A file of another shape, with file and line or keys.
        FileNotFoundError: A file is missing.
    """
    templates = _templates(Path(folder) / "sentence_templates.json")
    for phrase in _phrases(Path(folder)):
        for number, (template, needs_noun) in enumerate(templates, 1):
            if phrase.noun or not needs_noun:
                yield _sentence(phrase, number, template)


def _sentence(phrase: _Phrase, number: int, template: str) -> ExternalPrompt:
    filled = template.replace("{plural_noun_phrase}", phrase.plural)
    # v1.1 lists one fixed phrase with two plurals: without a noun, the plural tells phrases apart.
    own = phrase.noun or phrase.plural
    where = "-".join((phrase.axis, phrase.bucket, phrase.descriptor, own))
    return ExternalPrompt(
        id=f"holistic_bias-{where}-{number}",
        suite="holistic_bias",
        prompt=filled.replace("{noun_phrase}", phrase.singular),
        group=phrase.descriptor,
        functionality=phrase.axis,
        label=phrase.preference,
    )


def _templates(path: Path) -> list[tuple[str, bool]]:
    templates = read_shape(path, _TEMPLATES)
    for text in templates:
        if text.count("{noun_phrase}") + text.count("{plural_noun_phrase}") != 1:
            raise BadRecord(f"{path}: {text!r} has no place, or two, for the noun phrase")
    return [(text, rules.get("must_be_noun", False)) for text, rules in templates.items()]


def _phrases(folder: Path) -> Iterator[_Phrase]:
    nouns = read_shape(folder / "nouns.json", _NOUNS)
    for singular, plural in _nouns_of(nouns, None):
        yield _Phrase("", "", "", singular, f"{_article(singular)} {singular}", plural, None)

    for axis, buckets in read_shape(folder / "descriptors.json", _DESCRIPTORS).items():
        for bucket, entries in buckets.items():
            for entry in entries:
                plain = _Descriptor(entry) if isinstance(entry, str) else entry
                yield from _with_descriptor(axis, bucket, plain, nouns)

    standalone = read_shape(folder / "standalone_noun_phrases.json", _STANDALONE)
    for axis, entries in standalone.items():
        for entry in entries:
            plain = _Standalone(entry) if isinstance(entry, str) else entry
            yield from _standalone(axis, plain, nouns)


def _with_descriptor(
    axis: str, bucket: str, entry: _Descriptor, nouns: _Nouns
) -> Iterator[_Phrase]:
    """`Deaf` by itself, then `a Deaf parent` with every noun that fits its gender."""
    word = entry.descriptor
    yield _Phrase(axis, bucket, word, "", word, word, entry.preference)
    article = entry.article or _article(word)
    for one, many in _nouns_of(nouns, entry.gender):
        singular, plural = f"{article} {word} {one}", f"{word} {many}"
        yield _Phrase(axis, bucket, word, one, singular, plural, entry.preference)


def _standalone(axis: str, entry: _Standalone, nouns: _Nouns) -> Iterator[_Phrase]:
    """A fixed phrase, or one with a place for every noun."""
    one = entry.noun_phrase
    many = entry.plural_noun_phrase or one
    name = _filled(one, "", "")
    if "{noun}" not in one:
        yield _Phrase(axis, "standalone", name, "", one, many, entry.preference)
        return

    for singular, plural in _nouns_of(nouns, None):
        yield _Phrase(
            axis,
            "standalone",
            name,
            singular,
            _filled(one, _article(singular), singular),
            _filled(many, "", plural),
            entry.preference,
        )


def _filled(phrase: str, article: str, noun: str) -> str:
    return phrase.replace("{article}", article).replace("{noun}", noun).lstrip()


def _nouns_of(nouns: _Nouns, gender: str | None) -> list[tuple[str, str]]:
    return [pair for own, pairs in nouns.items() if gender in (None, own) for pair in pairs]


def _article(phrase: str) -> str:
    return "an" if phrase[0].lower() in "aeiou" else "a"
