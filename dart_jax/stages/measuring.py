"""Ask the models the test questions, score the answers and audit them against M0."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from dart_jax.evaluate.models import AUDITED, MODELS
from dart_jax.evaluate.policy import Side
from dart_jax.generate.answers import answer_questions
from dart_jax.processes import on_primary
from dart_jax.records import Generation, Score, read_jsonl, write_jsonl
from dart_jax.run_dir import hash_path
from dart_jax.stages.auditing import Audit, audit_candidate, score_all
from dart_jax.stages.context import Run

WITH_POLICY = "/with_policy"
"""It is the folder of the second side, where the models are asked both ways."""


@dataclass(frozen=True)
class Measured:
    """Hold the answers to the test questions, asked in one way, and what was found in them.

    Attributes:
        answers: By model; later cycles' models are among them.
        audits: Of all models but M0, against M0 asked the same way.
    """

    answers: dict[str, list[Generation]]
    scores: list[Score]
    audits: dict[str, Audit]

    def side(self) -> Side:
        """As the comparison of the policy wants it."""
        drift = {name: self.audits[name].counts() for name in AUDITED}
        return Side(self.answers, self.scores, drift)

    def models(self) -> dict[str, list[Generation]]:
        """The answers of M0, M_int and M_DART."""
        return {name: self.answers[name] for name in MODELS}


def measure(run: Run, later: Sequence[str], policy: bool, folder: str) -> Measured:
    """Have the models answer the test questions, score the answers and audit them against M0.

    Args:
        later: Models of later cycles, beside M0, M_int and M_DART.
        policy: Whether the explanation policy is in the system prompt.
        folder: Under `generations` and `evaluation`, such as WITH_POLICY; '' for themselves.
    """
    answers = _answers(run, later, policy, f"generations{folder}")
    everything = [answer for found in answers.values() for answer in found]
    scores = score_all(run, everything, f"evaluation{folder}/scores.jsonl")
    audits = {
        name: audit_candidate(
            run, answers["M0"], answers[name], scores, f"evaluation{folder}/verdicts_{name}.jsonl"
        )
        for name in (*AUDITED, *later)
    }
    return Measured(answers, scores, audits)


def _answers(
    run: Run, later: Sequence[str], policy: bool, folder: str
) -> dict[str, list[Generation]]:
    copied = on_primary(lambda: _m_dart_is_m_int(run))
    names = ("M0", "M_int") if copied else (*MODELS, *later)
    answers = answer_questions(
        run.model,
        {name: run.adapter(name) for name in names if name != "M0"},
        run.splits["test"],
        {name: run.folder / f"{folder}/{name}.jsonl" for name in names},
        run.decode,
        run.config.run.seed,
        policy,
    )
    return (
        {**answers, "M_DART": on_primary(lambda: _copy_answers(run, folder))} if copied else answers
    )


def _m_dart_is_m_int(run: Run) -> bool:
    return hash_path(run.adapter_path("M_DART")) == hash_path(run.adapter_path("M_int"))


def _copy_answers(run: Run, folder: str) -> list[Generation]:
    """The same adapter under the same noise writes the same answers."""
    same = read_jsonl(run.folder / f"{folder}/M_int.jsonl", Generation)
    answers = [replace(answer, model="M_DART") for answer in same]
    write_jsonl(run.folder / f"{folder}/M_DART.jsonl", answers)
    return answers
