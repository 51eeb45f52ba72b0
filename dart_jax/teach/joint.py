"""Joint toxicity regularisation: M0's rationales as training examples, by their harm scores."""

from collections.abc import Sequence

from dart_jax.prompts.conclusion import analysis_of
from dart_jax.records import Generation, Score, Target
from dart_jax.settings import LEAST_WEIGHT


def scored_targets(answers: Sequence[Generation], scores: Sequence[Score]) -> list[Target]:
    """Make targets of M0's rationales: `penalised` above the mean score, `preferred` below.

    The weight is the distance from the mean; `sft.token_losses` shows its part in the loss. A
    rationale without text, or at the mean up to rounding, is left out.

    Args:
        scores: Harm score of each answer's analysis, in the order of the answers.
    """
    # M0 may have answered nothing; nothing is compared with the mean then.
    mean = sum(score.value for score in scores) / max(len(scores), 1)
    targets = []
    for answer, score in zip(answers, scores, strict=True):
        text = analysis_of(answer)
        excess = score.value - mean
        # A lighter one would be lost in training, see `settings.LEAST_WEIGHT`.
        if text and abs(excess) >= LEAST_WEIGHT:
            stage = "penalised" if excess > 0 else "preferred"
            targets.append(Target(answer.question_id, stage, text, abs(excess), provider="M0"))
    return targets
