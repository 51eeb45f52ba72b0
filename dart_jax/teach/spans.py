"""Find the sentence of a repair target that replaces the passage that the judge marked.

The judge marks words of the drifted rationale, but training is on the repair target, a text without
those words. The sentence that was written in their place can weigh more. No record names it, so a
heuristic picks it: the sentence that has most words in common with the marked one (by the Dice
coefficient of their sets of words of four letters or more), and of equals, or where none has any,
the one at the nearest relative position. This is right where a teacher rewrites sentence by
sentence, as most do, and arbitrary where the target is built otherwise.

Nothing is marked, and all tokens weigh 1, where there is no passage (an omission cannot be quoted,
and a judge of likelihoods quotes nothing) or where it is not in the drifted text.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace

from dart_jax.prompts.conclusion import analysis_text
from dart_jax.records import DriftCase, Target, WeightSpan
from dart_jax.sft.token_weights import find_passage
from dart_jax.teach.quality import sentence_spans

_WORD = re.compile(r"[^\W\d_]{4,}")


def mark_passages(
    targets: Iterable[Target], cases: Mapping[str, DriftCase], span_weight: float
) -> list[Target]:
    """Put the span weight on one sentence of each repair target.

    In a target that is the drifted text itself (stage `drifted`, of the unlikelihood loss) the
    passage's own words get the weight. Targets without a severity stay as they are.

    Args:
        cases: The drift case of each repair target, by question id.
        span_weight: The weight; 1 marks nothing.
    """
    if span_weight == 1:
        return list(targets)

    marked = []
    for target in targets:
        if target.severity is None:
            marked.append(target)
            continue

        case = cases[target.question_id]
        if target.stage == "drifted":
            place = find_passage(target.completion, case.passage)
        else:
            place = replacing_sentence(target.completion, case.candidate_text, case.passage)

        spans = () if place is None else (WeightSpan(*place, span_weight),)
        marked.append(replace(target, spans=spans))

    return marked


def replacing_sentence(completion: str, drifted: str, passage: str) -> tuple[int, int] | None:
    """Find the sentence of a completion that replaces a passage of the drifted text, or None.

    Returns:
        `(start, end)` in the completion's characters, outside its conclusion line.
    """
    before = analysis_text(drifted)
    after = analysis_text(completion)
    place = find_passage(before, passage)
    sentences = sentence_spans(after)
    if place is None or not sentences:
        return None

    # The sentences that the passage touches, their words, and where their middle lies in [0, 1].
    drifted_sentences = sentence_spans(before)
    touched = []
    for number, (start, end) in enumerate(drifted_sentences):
        if start < place[1] and place[0] < end:
            touched.append(number)

    # It touches one at least: it begins with a word, and only white space is in no sentence.
    first, last = touched[0], touched[-1]
    position = (first + last + 1) / 2 / len(drifted_sentences)
    marked = _words(before[drifted_sentences[first][0] : drifted_sentences[last][1]])

    def distance(number: int) -> tuple[float, float, int]:
        words = _words(after[slice(*sentences[number])])
        dice = 2 * len(words & marked) / max(len(words) + len(marked), 1)
        return -dice, abs((number + 0.5) / len(sentences) - position), number

    start, end = sentences[min(range(len(sentences)), key=distance)]
    # The analysis is one piece: quality control lets the conclusion stand at the end alone.
    offset = completion.index(after)

    return start + offset, end + offset


def _words(text: str) -> set[str]:
    return set(_WORD.findall(text.casefold()))
