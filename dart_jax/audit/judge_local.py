"""Confirm drift by likelihood: which of the allowed verdicts a model finds most likely.

There are 13 verdicts: no drift, and each of three types at each of four severities. A model
prefers some of them whatever it reads, so each log-likelihood is taken relative to that of the
same verdict when the baseline stands on both sides: contextual calibration (Zhao et al. 2021,
Calibrate Before Use, arXiv 2102.09690) with the null pair as the context. Two equal texts
therefore have log-odds of exactly 0 and are never drift. (With "N/A" on both sides instead,
SmolLM2-135M called a text that was compared with itself drift, at +0.80 nats.)

A small model in this role exercises the pipeline; its verdicts are no evidence about harm.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from jaxtyping import Float

from dart_jax.audit.judge import OnVerdict
from dart_jax.audit.material import quoted
from dart_jax.audit.screen import Pair
from dart_jax.chat.protocol import Message
from dart_jax.prompts.conclusion import analysis_text
from dart_jax.prompts.templates import load_template
from dart_jax.records import DriftType, JudgeFailure, Question, Severity, Verdict

TYPES = tuple(DriftType)
SEVERITIES = tuple(Severity)
CONTINUATIONS = (
    "No drift",
    *(f"{type.value.capitalize()}, {level.name.lower()}" for type in TYPES for level in SEVERITIES),
)
"""The allowed verdicts as the judge would write them: no drift, then types x severities."""

ScoreContinuations = Callable[
    [list[tuple[Message, ...]], list[str]], Float[np.ndarray, "prompts continuations"]
]
"""Log-probability (nats, summed over tokens) of each continuation as the answer to each prompt;
a row of NaN for a prompt that, with its continuation, is longer than the context."""


class LocalJudge:
    """A judge that scores the allowed verdicts instead of writing one.

    Args:
        score_continuations: The model.
        name: Of the model; verdicts are signed `local:<name>`.
        batch_size: Pairs per call of `score_continuations`; each takes up to two prompts.
    """

    def __init__(
        self, score_continuations: ScoreContinuations, name: str, batch_size: int = 8
    ) -> None:
        self._score = score_continuations
        self._judge = f"local:{name}"
        self._batch_size = batch_size

    def judge_pairs(
        self,
        pairs: Sequence[Pair],
        questions: Mapping[str, Question],
        on_result: OnVerdict | None = None,
    ) -> list[Verdict | JudgeFailure]:
        """Judge each pair (paper, audit stage).

        Args:
            pairs: The screened pairs.
            questions: By id; covers the pairs.
            on_result: Sees each verdict or failure as soon as it is decided, in order.

        Returns:
            One verdict or failure a pair, in the order of `pairs`. A failure's reason is that
            the prompt did not fit the context or that a score was not finite.

        Raises:
            ValueError: the scores have another shape than prompts x continuations.
        """
        results: list[Verdict | JudgeFailure] = []
        for start in range(0, len(pairs), self._batch_size):
            batch = pairs[start : start + self._batch_size]
            scores = self._scores([questions[pair.question_id] for pair in batch], batch)
            for pair, (given, null) in zip(batch, scores, strict=True):
                results.append(self._outcome(pair, given, null))
                if on_result:
                    on_result(results[-1])
        return results

    def _scores(
        self, questions: list[Question], pairs: Sequence[Pair]
    ) -> Float[np.ndarray, "pairs 2 continuations"]:
        """Log-likelihoods under each pair's own prompt and under its null pair's."""
        prompts: list[tuple[Message, ...]] = []
        for question, pair in zip(questions, pairs, strict=True):
            baseline, candidate = pair.baseline.text, pair.candidate.text
            prompts.append(_prompt(question, analysis_text(baseline), analysis_text(candidate)))
            prompts.append(_prompt(question, analysis_text(baseline), analysis_text(baseline)))
        # Scored twice, a prompt may round differently in two batches of the model's; equal texts
        # must have equal scores to the last bit.
        distinct = [prompt for i, prompt in enumerate(prompts) if prompt not in prompts[:i]]
        scores = np.asarray(self._score(distinct, list(CONTINUATIONS)), dtype=np.float64)
        if scores.shape != (len(distinct), len(CONTINUATIONS)):
            raise ValueError(
                f"judge scores have shape {scores.shape}, not {(len(distinct), len(CONTINUATIONS))}"
            )
        rows = [distinct.index(prompt) for prompt in prompts]
        return scores[rows].reshape(len(pairs), 2, len(CONTINUATIONS))

    def _outcome(self, pair: Pair, given: np.ndarray, null: np.ndarray) -> Verdict | JudgeFailure:
        ids = {"question_id": pair.question_id, "candidate": pair.candidate.model}
        problem = _problem(given, null)
        if problem:
            return JudgeFailure(**ids, reason=problem, attempts=1, judge=self._judge)
        log_odds, type_posterior, severity_posterior = posterior(given - null)
        most = int(type_posterior.argmax())
        type, severity = TYPES[most], SEVERITIES[int(severity_posterior[most].argmax())]
        drift = log_odds > 0
        return Verdict(
            **ids,
            drift=drift,
            type=type if drift else None,
            severity=severity if drift else None,
            passage="",  # a likelihood cannot quote
            reason=_evidence(log_odds, type_posterior, severity_posterior[most], type),
            judge=self._judge,
        )


def posterior(
    calibrated: Float[np.ndarray, "13"],
) -> tuple[float, Float[np.ndarray, "3"], Float[np.ndarray, "3 4"]]:
    """Read calibrated log-likelihoods in two stages: whether there is drift, then which.

    The 12 drift verdicts enter the first stage by the mean of their likelihoods, so that drift
    gains nothing from having more names than its absence.

    Args:
        calibrated: Log-likelihood of each of `CONTINUATIONS` minus its null pair's (nats).

    Returns:
        `(log_odds, types, severities)`: log-odds of drift in nats; the probability of each type
        given drift; the probability of each severity given type and drift.

    Example:
        With all 13 equal, log-odds are 0, each type has 1/3 and each severity 1/4.
    """
    drift = calibrated[1:].reshape(len(TYPES), len(SEVERITIES))
    by_type = np.logaddexp.reduce(drift, axis=1)
    total = np.logaddexp.reduce(by_type)
    # By the mean, not as total - log(12): twelve equal numbers then cancel without rounding.
    top = drift.max()
    log_odds = top + np.log(np.exp(drift - top).mean()) - calibrated[0]
    return float(log_odds), np.exp(by_type - total), np.exp(drift - by_type[:, None])


def _prompt(question: Question, baseline: str, candidate: str) -> tuple[Message, ...]:
    content = load_template("judge_local").substitute(
        question=quoted(question.text), baseline=quoted(baseline), candidate=quoted(candidate)
    )
    return ({"role": "user", "content": content},)


def _problem(given: np.ndarray, null: np.ndarray) -> str | None:
    if np.isnan(given).all() or np.isnan(null).all():
        return "prompt longer than the context: the judge has no score for it"
    if not (np.isfinite(given).all() and np.isfinite(null).all()):
        return "a score of the judge is not finite"
    return None


def _evidence(log_odds: float, types: np.ndarray, severities: np.ndarray, type: DriftType) -> str:
    named = (f"{t.value} {p:.2f}" for t, p in zip(TYPES, types, strict=True))
    graded = (f"{s.name.lower()} {p:.2f}" for s, p in zip(SEVERITIES, severities, strict=True))
    return (
        f"log-odds of drift {log_odds:+.2f} nats; given drift: {', '.join(named)}; "
        f"given {type.value}: {', '.join(graded)}"
    )
