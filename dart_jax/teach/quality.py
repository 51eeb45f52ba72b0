"""Quality control of training targets: the rules that a completion has to satisfy."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from dart_jax.prompts.conclusion import (
    analysis_text,
    conclusion_line,
    ends_in_its_conclusion,
    parse_conclusion,
)
from dart_jax.prompts.planted import HARM_PHRASE, asks_for_harm, names_harm
from dart_jax.prompts.thinking import holds_thinking
from dart_jax.records import Question

MIN_SENTENCES = 2
MAX_SENTENCES = 4
QUOTE_CHARACTERS = 40

_OPENERS = "\"'(\u201c\u2018[*_"
_CLOSERS = r"[\"'\u201d\u2019)\]*_]*"
_STOP = re.compile(rf"(\S*?)([.!?\u2026]+){_CLOSERS}(?=\s|$)")
_FINISHED = re.compile(rf"[.!?\u2026]{_CLOSERS}$")
# A blank line, or the break before a list item: an item need not end in a full stop.
_PARAGRAPH = re.compile(r"\n\s*\n|\n(?=\s*(?:[-*\u2022]|\d+[.)])\s)")
_NUMBERING = re.compile(r"^\s*\d+[.)]\s+")
_INITIALS = re.compile(r"^(?:[^\W\d_]\.)*[^\W\d_]$")
# Abbreviations, by what follows: a name; the rest of the sentence; a number; or anything, so that
# the next word decides.
_TITLES = {"dr", "mr", "mrs", "ms", "mx", "prof", "rev", "st", "gov", "sen", "rep", "gen", "capt"}
_LEAD_INS = {"e.g", "i.e", "eg", "ie", "vs", "cf", "approx", "viz"}
_NUMBERED = {"no", "nos", "art", "sec", "fig", "vol", "p", "pp"}
_MAY_END = {"inc", "ltd", "co", "corp", "etc", "al", "jr", "sr"}
# After an abbreviation that may end a sentence, a capital alone tells nothing: names have one, too.
# fmt: off
_STARTERS = {
    "the", "this", "that", "these", "those", "it", "its", "they", "their", "there", "he", "she",
    "we", "a", "an", "in", "on", "at", "by", "for", "from", "with", "under", "since", "while",
    "when", "where", "because", "although", "though", "however", "therefore", "thus", "hence",
    "so", "as", "if", "and", "but", "or", "both", "neither", "either", "no", "not", "each", "some",
    "many", "most", "all", "such", "people", "today",
}
# fmt: on


@dataclass(frozen=True)
class Violation:
    """A broken rule.

    Attributes:
        code: Stable name under which violations are counted: `empty`, `thinking`, `no_conclusion`,
            `wrong_conclusion`, `sentences`, `quote`, `copied_example`, `harm_not_named` or one
            of `teach.safer`.
        rule: One line that tells the writer what to do instead.
    """

    code: str
    rule: str


def check_target(completion: str, question: Question) -> Violation | None:
    """Return the first rule that a target breaks, or None (paper, stages I and III).

    The rules, in order: there is an analysis, and no reasoning block; a single conclusion line
    comes last and agrees with the gold label; the analysis has two to four whole sentences; it
    repeats no 40 characters of the question in a row (whitespace and letter case aside).
    """
    analysis = analysis_text(completion)
    if not analysis:
        return Violation("empty", "write an analysis before the conclusion line")
    if holds_thinking(completion):
        return Violation("thinking", "give the explanation itself, without a <think> block")
    return (
        _check_conclusion(completion, question)
        or _check_sentences(analysis)
        or _check_quote(analysis, question)
    )


def check_copy(completion: str, examples: Iterable[str]) -> Violation | None:
    """Return a violation if a target repeats 40 characters in a row of a worked example.

    Small teachers do so: SmolLM2-135M answered a third of the real suite's questions with the
    example's own sentences, which pass every other rule but are about other groups.
    """
    analysis = analysis_text(completion)
    if any(_shares_a_run(analysis_text(example), analysis) for example in examples):
        return Violation(
            "copied_example",
            "do not repeat the worked example; write about the groups of this question",
        )
    return None


def check_harm(completion: str, question: Question) -> Violation | None:
    """Return a violation if a question asks for the harm at stake and a repair does not name it."""
    if not asks_for_harm(question) or names_harm(completion):
        return None
    return Violation(
        "harm_not_named", f'name the harm in one sentence that begins with "{HARM_PHRASE}"'
    )


def count_sentences(text: str) -> int:
    """Count the sentences of a text, an unfinished last one included.

    A full stop ends a sentence unless it belongs to a number (3.5), a title (Dr. Lee), an
    abbreviation (e.g. this), or initials (the U.S. census) whose next word does not look like the
    first of a sentence. A list item is a separate sentence.
    """
    return len(_sentences(text))


def sentence_spans(text: str) -> list[tuple[int, int]]:
    """Locate each sentence as `(start, end)`, without the white space before it."""
    spans = []
    previous_end = 0
    for end in _sentences(text):
        sentence = text[previous_end:end].lstrip()
        spans.append((end - len(sentence), end))
        previous_end = end
    return spans


def first_sentences(text: str, count: int) -> str:
    """Cut a text after its `count`-th sentence; a shorter one stays whole."""
    ends = _sentences(text)
    return text[: ends[count - 1]].strip() if len(ends) > count else text.strip()


def _check_conclusion(completion: str, question: Question) -> Violation | None:
    line = conclusion_line(question.gold)
    decision, _ = parse_conclusion(completion)
    if decision is None or not ends_in_its_conclusion(completion):
        return Violation("no_conclusion", f'end with one conclusion line, "{line}", as the last')
    if decision is not question.gold:
        return Violation("wrong_conclusion", f'the conclusion has to be "{line}"; argue for it')
    return None


def _check_sentences(analysis: str) -> Violation | None:
    count = count_sentences(analysis)
    if not MIN_SENTENCES <= count <= MAX_SENTENCES:
        return Violation(
            "sentences", f"write {MIN_SENTENCES} to {MAX_SENTENCES} sentences, not {count}"
        )
    if not _FINISHED.search(analysis):
        return Violation("sentences", "the last sentence breaks off; write whole sentences")
    return None


def _check_quote(analysis: str, question: Question) -> Violation | None:
    if _shares_a_run(question.text, analysis):
        return Violation(
            "quote",
            f"do not repeat {QUOTE_CHARACTERS} or more characters of the question in a row;"
            " use your own words",
        )
    return None


def _shares_a_run(source: str, text: str) -> bool:
    """Say whether a text repeats `QUOTE_CHARACTERS` characters of a source in a row."""
    source = _normalise(source)
    text = _normalise(text)
    windows = range(len(source) - QUOTE_CHARACTERS + 1)
    return any(source[start : start + QUOTE_CHARACTERS] in text for start in windows)


def _normalise(text: str) -> str:
    return " ".join(text.split()).casefold()


def _sentences(text: str) -> list[int]:
    """Find where each sentence ends, as an offset into the text."""
    ends: list[int] = []
    for start, stop in _paragraphs(text):
        paragraph = text[start:stop].rstrip()
        ends += [start + end for end in _sentences_of_paragraph(paragraph)]
    return ends


def _paragraphs(text: str) -> Iterator[tuple[int, int]]:
    """Yield `(start, stop)` of each paragraph or list item."""
    start = 0
    for separator in _PARAGRAPH.finditer(text):
        yield start, separator.start()
        start = separator.end()
    yield start, len(text)


def _sentences_of_paragraph(text: str) -> list[int]:
    # The full stop of a list item's number ends no sentence.
    numbering = _NUMBERING.match(text)
    begin = numbering.end() if numbering else 0
    stops = _STOP.finditer(text, begin)
    ends = [stop.end() for stop in stops if _ends_sentence(stop, text)]
    unfinished = text[ends[-1] if ends else begin :].strip()
    return [*ends, len(text)] if unfinished else ends


def _ends_sentence(stop: re.Match, text: str) -> bool:
    """Say whether a full stop, or a mark like it, ends a sentence; see `count_sentences`."""
    following = text[stop.end() :].split(maxsplit=1)
    if not following or stop.group(2) != ".":
        # A sentence may hold "..." or "!": it goes on where the next word is small.
        return not following or not following[0][0].islower()

    word = stop.group(1).lstrip(_OPENERS).casefold()
    next_word = following[0].strip(_OPENERS + ",;:").casefold()
    if following[0][0].islower() or word in _TITLES | _LEAD_INS:
        return False
    if word in _NUMBERED and next_word[:1].isdigit():
        return False
    # Initials stand before a name or end a sentence ("in the U.S. It was"); "World War I." ends.
    if word in _MAY_END or (_INITIALS.match(word) and word != "i"):
        return next_word in _STARTERS

    return True
