"""Which part of a repair target takes the place of the passage that the judge marked.

The judge marks words of the drifted rationale, which nobody trains on with this loss; the repair
target is another text, and in it those words are not there. What can weigh more is the sentence
that was written in their stead. Nothing says which one that is, so that it is guessed: the
sentence that has most words in common with the marked one (by the Dice coefficient of their sets
of words of four letters or more), and of equals, or where none has any, the one at the nearest
relative position. It is a heuristic: right where a teacher rewrites sentence by sentence, as they
mostly do, and arbitrary where the target is a text of another build.

No passage, as for omissions (the judge cannot quote what is missing) and from a judge of
likelihoods, or a quote that is not in the drifted text: nothing is marked and all tokens weigh 1.
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
    """The repair targets among these with the weight of their marked sentence.

    A target that is the drifted text itself (stage `drifted`, of the unlikelihood loss) has its
    weight on the passage's own words. Targets without a severity stay as they are.

    Args:
        cases: By question id: one of each repair target.
        span_weight: 1 marks nothing.
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
            found = find_passage(target.completion, case.passage)
        else:
            found = replacing_sentence(target.completion, case.candidate_text, case.passage)

        spans = () if found is None else (WeightSpan(*found, span_weight),)
        marked.append(replace(target, spans=spans))

    return marked


def replacing_sentence(completion: str, drifted: str, passage: str) -> tuple[int, int] | None:
    """The sentence of a completion that stands for a passage of the drifted text, or None.

    Returns:
        `(start, end)` in the completion's characters, outside its conclusion line.
    """
    before, after = analysis_text(drifted), analysis_text(completion)
    place = find_passage(before, passage)
    sentences = sentence_spans(after)
    if place is None or not sentences:
        return None

    old = sentence_spans(before)
    held = [n for n, (start, end) in enumerate(old) if start < place[1] and place[0] < end]
    where = (held[0] + held[-1] + 1) / 2 / len(old)
    marked = _words(before[old[held[0]][0] : old[held[-1]][1]])

    def distance(number: int) -> tuple[float, float, int]:
        words = _words(after[slice(*sentences[number])])
        alike = 2 * len(words & marked) / max(len(words) + len(marked), 1)
        return -alike, abs((number + 0.5) / len(sentences) - where), number

    start, end = sentences[min(range(len(sentences)), key=distance)]
    shift = completion.index(after)

    return start + shift, end + shift


def _words(text: str) -> set[str]:
    return set(_WORD.findall(text.casefold()))
