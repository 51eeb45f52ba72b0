"""Short pieces of a question's text, in the form that they take within a sentence.

No piece is as long as a quote that the quality control refuses.
"""

import re

from dart_jax.prompts.templates import load_template
from dart_jax.teach.quality import QUOTE_CHARACTERS

# Room for the words around a piece, as they may be those of the question, too.
_LENGTH = QUOTE_CHARACTERS - 3

# A case takes several pieces, and a rationale is to stay within 100 tokens.
_SHORT = 28

_WORD = re.compile(r"[\w'-]+")
_ARTICLE = re.compile(r"(?:the|a|an|my)\b", re.IGNORECASE)

# A piece that is cut beside one of these reads as broken off.
# fmt: off
_UNFINISHED = {
    "a", "an", "and", "are", "as", "at", "be", "been", "but", "by", "for", "from", "has", "have",
    "her", "his", "if", "in", "is", "its", "not", "of", "on", "or", "so", "such", "that", "the",
    "their", "this", "to", "was", "were", "when", "which", "who", "whose", "with",
}
# fmt: on


def beginning(text: str) -> str:
    """Cut a text after the last word that fits, and not after an "of".

    >>> beginning("A man who attempted to join the military, but was disqualified")
    'A man who attempted to join'
    """
    return _first(_words(text), _LENGTH)


def told_apart(first: str, second: str) -> tuple[str, str]:
    """Cut two texts after their first words; where these are the same, go on where they differ.

    >>> same = "The parents of her child were at that time "
    >>> told_apart(same + "married", same + "apart")
    ('The parents: married', 'The parents: apart')
    """
    beginnings = beginning(first), beginning(second)
    if beginnings[0] != beginnings[1]:
        return beginnings

    first_words, second_words = _words(first), _words(second)
    alike = 0
    while alike < len(first_words) and first_words[: alike + 1] == second_words[: alike + 1]:
        alike += 1

    start = _first(first_words[:alike], _SHORT // 2)
    return (
        f"{start}: {_first(first_words[alike:], _SHORT)}",
        f"{start}: {_first(second_words[alike:], _SHORT)}",
    )


def short_end(sentence: str) -> str:
    """Cut a sentence before its last few words.

    >>> short_end("To which of these groups could the prison restrict its search?")
    'prison restrict its search'
    """
    return _last(_words(sentence), _SHORT)


def beginning_and_end(sentence: str) -> str:
    """Quote a sentence's first and its last few words.

    >>> beginning_and_end("A women's prison is hiring a guard to watch inmates while they shower.")
    '"A women\\'s prison is hiring" and "inmates while they shower"'
    """
    words = _words(sentence)
    first = _first(words, _SHORT)
    # The end is taken from what is left, so that no word is quoted twice.
    rest = words[len(first.split()) :]
    return f'"{first}" and "{_last(rest, _SHORT)}"' if rest else f'"{first}"'


def workers(option: str) -> str:
    """Make `White`, `men` or `not Hispanic/Latino` the name of people who work."""
    if option in ("men", "women"):
        return option
    negated = option.removeprefix("not ")
    return f"{option} workers" if negated == option else f"workers who are not {negated}"


def people(option: str) -> str:
    """Make `Not Hispanics/Latinos` a name of people; others are one."""
    negated = option.removeprefix("Not ")
    return option if negated == option else f"people who are not {negated}"


def person(option: str) -> str:
    """Write an option such as `The welder`, `welder` or `Ruth` as it stands within a sentence."""
    name = beginning(option)
    article = _ARTICLE.match(name)
    if article:
        return article[0].lower() + name[article.end() :]
    return f"the {name}" if name[0].islower() else name


def occupation(name: str) -> str:
    """Shorten an occupation, and join its parts by "or", so that it is no quote.

    >>> occupation("secretaries and administrative assistants (except legal, and medical)")
    'secretaries or administrative assistants'
    """
    name = re.sub(r"\s*\(.*?\)|,? (?:except|including) .*", "", name)
    parts = [part for part in re.split(r",? and |, ", name) if part]
    return " or ".join(_last(part.split(), _LENGTH) for part in parts)


def groups_apart(first: str, second: str) -> tuple[str, str]:
    """Name each of two phrases by its mark and the first group that only it names.

    A group that is none of `prompts/text/rules/groups.txt` may be a slur, and is not repeated.

    >>> groups_apart("What do you call a white detective?", "What do you call a thief?")
    ('"white" in (a)', 'the group in (b)')
    """
    neutral = set(load_template("rules/groups").template.split())
    first_groups = [word for word in _WORD.findall(first) if word.casefold() in neutral]
    second_groups = [word for word in _WORD.findall(second) if word.casefold() in neutral]
    return _named(first_groups, second_groups, "(a)"), _named(second_groups, first_groups, "(b)")


def _named(words: list[str], others: list[str], mark: str) -> str:
    alone = [word for word in words if word not in others]
    return f'"{alone[0]}" in {mark}' if alone else f"the group in {mark}"


def _words(text: str) -> list[str]:
    # A quotation mark would end the quotation that the piece is put into.
    return text.replace('"', "").rstrip(".?!,;: ").split()


def _first(words: list[str], length: int) -> str:
    kept: list[str] = []
    for word in words:
        if kept and len(" ".join([*kept, word])) > length:
            break
        kept.append(word)

    is_cut = len(kept) < len(words)
    # A text that is whole may end in "of" or "with", and keeps it.
    while is_cut and len(kept) > 1 and kept[-1].casefold() in _UNFINISHED:
        kept.pop()
    return " ".join(kept).rstrip(".,;:")


def _last(words: list[str], length: int) -> str:
    kept: list[str] = []
    for word in reversed(words):
        if kept and len(" ".join([word, *kept])) > length:
            break
        kept.insert(0, word)

    is_cut = len(kept) < len(words)
    while is_cut and len(kept) > 1 and kept[0].casefold() in _UNFINISHED:
        kept.pop(0)
    return " ".join(kept)
