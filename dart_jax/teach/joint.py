"""Joint toxicity regularisation: M0's own rationales, scored, as examples to distill from."""

from collections.abc import Sequence

from dart_jax.prompts.conclusion import analysis_of
from dart_jax.records import Generation, Score, Target
from dart_jax.settings import LEAST_WEIGHT


def scored_targets(answers: Sequence[Generation], scores: Sequence[Score]) -> list[Target]:
    """M0's rationales, `penalised` where they score above the mean and `preferred` below.

    The weight is the distance from the mean; see `sft.token_losses` for what becomes of it. A
    rationale at the mean up to rounding, or without any text, has nothing to say and is left out.

    Args:
        scores: Of the analysis of each answer, in their order.
    """
    mean = sum(score.value for score in scores) / max(len(scores), 1)
    found = []
    for answer, score in zip(answers, scores, strict=True):
        text, above = analysis_of(answer), score.value - mean
        if text and abs(above) >= LEAST_WEIGHT:
            stage = "penalised" if above > 0 else "preferred"
            found.append(Target(answer.question_id, stage, text, abs(above), provider="M0"))
    return found
