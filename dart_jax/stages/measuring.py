"""Ask the models the test questions, force decisions, score the answers, audit them against M0."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from dart_jax.evaluate.forced import with_forced
from dart_jax.evaluate.metrics import ModelMetrics, model_metrics
from dart_jax.evaluate.models import AUDITED, MODELS
from dart_jax.evaluate.policy import Side
from dart_jax.generate.divergence import Divergence, answer_divergences
from dart_jax.generate.margins import answer_margins
from dart_jax.processes import on_primary
from dart_jax.prompts.conclusion import Margin
from dart_jax.records import Generation, Score, write_jsonl
from dart_jax.stages.auditing import Audit, audit_as_m_dart, audit_candidate, score_all
from dart_jax.stages.context import Run
from dart_jax.stages.evaluators import Evaluated

R = TypeVar("R", Generation, Margin)

WITH_POLICY = "/with_policy"
"""It is the folder of the second side, where the models are asked both ways."""

DIVERGENCES = "evaluation/divergences.jsonl"


@dataclass(frozen=True)
class Measured:
    """Hold the answers to the test questions, asked in one way, and what was found in them.

    Attributes:
        answers: By model; those of later cycles and of the frontier are among them.
        margins: Of the answers, by model; empty where `evaluate.forced` is off.
        audits: Of all models but M0, against M0 asked the same way.
        divergences: Of M_DART from M_int along M_int's answers; empty where the two are one model,
            and where they were not asked for, see `with_divergences`.
        evaluated: What further evaluators said, on the side that the report's figures are of.
    """

    answers: dict[str, list[Generation]]
    margins: dict[str, list[Margin]]
    scores: list[Score]
    audits: dict[str, Audit]
    divergences: Sequence[Divergence] = ()
    evaluated: Evaluated | None = None

    def side(self) -> Side:
        """As the comparison of the policy wants it."""
        drift = {name: self.audits[name].counts() for name in AUDITED}
        return Side(self.answers, self.scores, drift, self.margins)

    def models(self) -> dict[str, list[Generation]]:
        """The answers of M0, M_int and M_DART."""
        return {name: self.answers[name] for name in MODELS}


def measure(run: Run, further: Sequence[str], policy: bool, folder: str) -> Measured:
    """Have the models answer the test questions, score the answers and audit them against M0.

    Args:
        further: Models beside M0, M_int and M_DART: of later cycles, and of the frontier.
        policy: Whether the explanation policy is in the system prompt.
        folder: Under `generations` and `evaluation`, such as WITH_POLICY; '' for themselves.
    """
    answers = _answers(run, further, policy, f"generations{folder}")
    margins = _margins(run, answers, policy, folder) if run.config.evaluate.forced else {}
    everything = [answer for found in answers.values() for answer in found]
    scores = score_all(run, everything, f"evaluation{folder}/scores.jsonl")

    copied = on_primary(run.m_dart_is_m_int)
    audits: dict[str, Audit] = {}
    for name in (*AUDITED, *further):
        path = f"evaluation{folder}/verdicts_{name}.jsonl"
        if copied and name == "M_DART":
            # A judge would be asked about the same pairs once more.
            audits[name] = audit_as_m_dart(run, audits["M_int"], path)
        else:
            audits[name] = audit_candidate(run, answers["M0"], answers[name], scores, path)
    return Measured(answers, margins, scores, audits)


def model_figures(run: Run, found: Measured, name: str) -> ModelMetrics:
    """Measure one model by its own decisions, and by those that it is forced to."""
    test, config, seed = run.splits["test"], run.config.evaluate, run.config.run.seed
    own = model_metrics(test, found.answers[name], config, seed)
    return with_forced(own, test, found.margins.get(name, ()), config, seed)


def with_divergences(run: Run, found: Measured, policy: bool) -> Measured:
    """Compute how far the repair moved the first words of M_int's answers.

    It is apart from `measure`, which a dry run goes through without any model.
    """
    tokens = run.config.evaluate.first_tokens
    if not tokens or on_primary(run.m_dart_is_m_int):
        return found
    adapters = run.adapters(AUDITED)
    divergences = answer_divergences(
        run.model_of("M_DART"),
        adapters["M_int"],
        adapters["M_DART"],
        run.questions,
        found.answers["M_int"],
        tokens,
        run.folder / DIVERGENCES,
        policy,
    )
    return replace(found, divergences=divergences)


def _answers(
    run: Run, further: Sequence[str], policy: bool, folder: str
) -> dict[str, list[Generation]]:
    # By one process's look: all have to decode the same models.
    copied = on_primary(run.m_dart_is_m_int)
    names = [name for name in (*MODELS, *further) if not (copied and name == "M_DART")]
    files = {name: f"{folder}/{name}.jsonl" for name in names}
    answers = run.answers(files, run.splits["test"], policy)
    if copied:
        # The same adapter under the same noise writes the same answers.
        answers["M_DART"] = _as_m_dart(run, answers["M_int"], f"{folder}/M_DART.jsonl")
    return answers


def _margins(
    run: Run, answers: Mapping[str, list[Generation]], policy: bool, folder: str
) -> dict[str, list[Margin]]:
    copied = on_primary(run.m_dart_is_m_int)
    margins = {}
    for name, of_model in answers.items():
        path = f"evaluation{folder}/margins_{name}.jsonl"
        if copied and name == "M_DART":
            margins[name] = _as_m_dart(run, margins["M_int"], path)
            continue

        # At scale 0 an adapter is exactly the base model: one compiled program serves all models.
        adapter = (run.adapter("M_int")[0], 0.0) if name == "M0" else run.adapter(name)
        margins[name] = answer_margins(
            run.model_of(name), adapter, run.questions, of_model, run.folder / path, policy
        )
    return margins


def _as_m_dart(run: Run, of_m_int: Sequence[R], path: str) -> list[R]:
    """Write what was found of M_int as M_DART's, where the two are one model."""
    records = [replace(record, model="M_DART") for record in of_m_int]
    on_primary(lambda: write_jsonl(run.folder / path, records))
    return records
