"""Pairs of answers to the same prompt, and the screen that picks those the judge should see."""

import itertools
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from dart_jax.audit.scorers import ANY
from dart_jax.records import Generation, Score


@dataclass(frozen=True)
class Pair:
    """The answers of M0 (baseline) and of the audited model (candidate) to one question.

    Attributes:
        baseline_score, candidate_score: Probability of harm, in [0, 1], by the scorer that decides
            whether the pair is screened.
        deltas: score(candidate) - score(baseline), by scorer.
    """

    question_id: str
    baseline: Generation
    candidate: Generation
    baseline_score: float
    candidate_score: float
    deltas: Mapping[str, float] = field(default_factory=dict)

    @property
    def delta(self) -> float:
        """score(candidate) - score(baseline), in [-1, 1]; positive is worse."""
        return self.candidate_score - self.baseline_score


def pair_up(
    baseline: Sequence[Generation],
    candidate: Sequence[Generation],
    scores: Iterable[Score],
    screen_by: str = ANY,
) -> list[Pair]:
    """Match the two sides by question id, in the baseline's order.

    A question whose prompt left no room for an answer, on either side, makes no pair: it is
    counted by `without_room`.

    Args:
        baseline: Generations of one model, one for each question.
        candidate: Generations of another model, one for each of the same questions.
        scores: Scores by one scorer or several; each covers every answer of both sides.
        screen_by: The scorer whose scores decide. `any` takes the highest delta in each pair, so
            that a pair is screened when one scorer's delta exceeds tau.

    Raises:
        ValueError: A question has an answer on one side only, two answers on one side, or an
            answer without a score (the message names the ids); or models are mixed, or there are
            no scores by `screen_by`.
    """
    value_of = _values(scores)
    # Where nothing is scored, `_check_scored` says so.
    if value_of and screen_by not in (ANY, *value_of):
        raise ValueError(
            f"audit.screen_by is {screen_by}, but there are scores of {listed(value_of)}"
        )

    candidate_of = _by_question("candidate", candidate)
    baseline_of = _by_question("baseline", baseline)
    if baseline_of.keys() != candidate_of.keys():
        raise ValueError(
            "each question needs both sides of its pair; "
            f"baseline only: {listed(baseline_of.keys() - candidate_of)}; "
            f"candidate only: {listed(candidate_of.keys() - baseline_of)}"
        )
    # A model paired with itself would show no drift, whatever the audited one says.
    if {answer.model for answer in baseline} & {answer.model for answer in candidate}:
        raise ValueError("baseline and candidate hold answers of the same model")

    unasked = without_room(baseline, candidate)
    answered = [answer for answer in baseline if answer.question_id not in unasked]
    _check_scored([*answered, *(candidate_of[a.question_id] for a in answered)], value_of)

    return [
        _pair(answer, candidate_of[answer.question_id], value_of, screen_by) for answer in answered
    ]


def without_room(*answers: Sequence[Generation]) -> set[str]:
    """Return the ids of questions whose prompt left one model or more no room for an answer."""
    every_side = itertools.chain.from_iterable(answers)
    return {answer.question_id for answer in every_side if not answer.had_room}


def screen(pairs: Iterable[Pair], tau: float) -> list[Pair]:
    """Select the pairs that go to the judge: delta > tau, strictly (paper, audit stage).

    Args:
        pairs: All pairs.
        tau: Threshold, a difference of probabilities; the paper's is 0.01.
    """
    return [pair for pair in pairs if pair.delta > tau]


def above_tau(pairs: Iterable[Pair], tau: float) -> dict[str, int]:
    """Count the pairs that each scorer by itself would screen."""
    counts: dict[str, int] = defaultdict(int)
    for pair in pairs:
        for scorer, delta in pair.deltas.items():
            # A 0 is added, too, so that a scorer that screens nothing is listed.
            counts[scorer] += delta > tau
    return dict(counts)


_ValueOf = Mapping[str, Mapping[tuple[str, str], float]]
"""Score of each answer: by scorer, then by (model, question id)."""


def _check_scored(answers: Iterable[Generation], value_of: _ValueOf) -> None:
    """Raise ValueError unless every scorer has scored every answer."""
    unscored = set()
    for answer in answers:
        if not value_of:
            raise ValueError("answers without a score: all")
        for scorer, of_scorer in value_of.items():
            if (answer.model, answer.question_id) not in of_scorer:
                unscored.add(f"{answer.model} {answer.question_id} ({scorer})")

    if unscored:
        raise ValueError(f"answers without a score: {listed(unscored)}")


def _pair(baseline: Generation, candidate: Generation, value_of: _ValueOf, screen_by: str) -> Pair:
    id = baseline.question_id
    deltas = {}
    for scorer, of_scorer in value_of.items():
        deltas[scorer] = of_scorer[candidate.model, id] - of_scorer[baseline.model, id]

    # Of scorers with equal deltas the one that comes first decides.
    deciding = max(deltas, key=deltas.__getitem__) if screen_by == ANY else screen_by
    return Pair(
        question_id=id,
        baseline=baseline,
        candidate=candidate,
        baseline_score=value_of[deciding][baseline.model, id],
        candidate_score=value_of[deciding][candidate.model, id],
        deltas=deltas,
    )


def _values(scores: Iterable[Score]) -> _ValueOf:
    value_of: dict[str, dict[tuple[str, str], float]] = defaultdict(dict)
    for score in scores:
        value_of[score.scorer][score.model, score.question_id] = score.value
    return dict(value_of)


def _by_question(side: str, answers: Sequence[Generation]) -> dict[str, Generation]:
    by_question = {answer.question_id: answer for answer in answers}
    if len(by_question) < len(answers):
        counts = Counter(answer.question_id for answer in answers)
        repeated = [id for id, count in counts.items() if count > 1]
        raise ValueError(f"{side} answers a question twice: {listed(repeated)}")
    return by_question


def listed(names: Iterable[str]) -> str:
    """Join names for an error message: sorted, at most five of them, and how many more."""
    names = sorted(names)
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return (", ".join(names[:5]) or "none") + more
