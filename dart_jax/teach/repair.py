"""Stage III: repair targets, their severity weights, and the proof that these reach training."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from dart_jax.prompts.conclusion import analysis_text
from dart_jax.prompts.templates import repair_messages
from dart_jax.records import DriftCase, Question, Severity, Target, digest
from dart_jax.teach.config import RepairConfig
from dart_jax.teach.writer import TargetRequest

WeightReport = dict[str, dict[str, float]]
"""`{"minor".."extreme" | "replay": {"examples": count, "weight": mass}}`."""


class WeightingHadNoEffect(RuntimeError):
    """The examples do not carry the weights that their severities call for."""


def severity_weight(severity: Severity, weights: Sequence[float]) -> float:
    """The loss weight of a severity; `weights` run from minor to extreme (paper: 1, 2, 3, 4).

    Raises:
        ValueError: not four positive finite weights.
    """
    if len(weights) != len(Severity) or not all(math.isfinite(w) and w > 0 for w in weights):
        raise ValueError(
            f"repair.severity_weights {tuple(weights)}: give four positive numbers, for minor,"
            " moderate, severe and extreme"
        )
    return float(weights[severity - 1])


def repair_requests(
    cases: Iterable[DriftCase], questions_by_id: Mapping[str, Question], config: RepairConfig
) -> list[TargetRequest]:
    """One request a confirmed drift case, weighted by its severity.

    Raises:
        ValueError: a case names a question that is not there.
    """
    requests = []
    for case in cases:
        if case.question_id not in questions_by_id:
            raise ValueError(f"drift case of question {case.question_id}: no such question")

        question = questions_by_id[case.question_id]
        weight = severity_weight(case.severity, config.weights)
        messages = repair_messages(question, case)
        requests.append(
            TargetRequest(
                question, messages, "repair", weight, case.severity, drifted=case.candidate_text
            )
        )

    return requests


def mix_replay(
    repair_targets: Sequence[Target], distill_targets: Sequence[Target], replay: float, seed: int
) -> list[Target]:
    """Repair targets followed by a share of the distill targets, at weight 1.

    The share is drawn by hash of (seed, question id), the same on every machine. Nothing is
    de-duplicated: a question may come as one or more repair cases and in the replay too, and
    dropping either would undo the weights.

    Args:
        replay: Share of `distill_targets`, in [0, 1].

    Raises:
        ValueError: `replay` is outside [0, 1].
    """
    if not 0.0 <= replay <= 1.0:
        raise ValueError(f"repair.replay {replay}: give a share between 0 and 1")
    drawn = sorted(distill_targets, key=lambda target: digest([seed, target.question_id]))
    count = round(replay * len(distill_targets))
    return [*repair_targets, *(replace(target, weight=1.0) for target in drawn[:count])]


def drifted_targets(training: Iterable[Target], cases: Iterable[DriftCase]) -> list[Target]:
    """The rationale that each repair of a training set replaces, to be made less likely.

    At the repair's weight, and as often as the repair is there. The analysis alone: the conclusion
    after it may be right. A case without any analysis has none.
    """
    texts = {case.question_id: analysis_text(case.candidate_text) for case in cases}
    repairs = (target for target in training if target.stage == "repair")
    return [
        Target(r.question_id, "drifted", texts[r.question_id], r.weight, r.severity, "drifted")
        for r in repairs
        if texts[r.question_id]
    ]


def weight_report(
    targets: Iterable[Target], training: Iterable[Target] | None = None
) -> WeightReport:
    """Targets and weight mass by severity, and of the replay; without drifted rationales.

    Args:
        targets: Each counts once.
        training: What is trained on, where this is not `targets` themselves: its weights make the
            mass, so that of oversampled targets it is the number of copies.
    """
    targets = list(targets)
    report = {name: {"examples": 0, "weight": 0.0} for name in [*_names(), "replay"]}
    for target in targets:
        report[_name(target)]["examples"] += 1
    for target in targets if training is None else training:
        report[_name(target)]["weight"] += target.weight
    return report


def check_weighting(
    report: WeightReport,
    weights: Sequence[float],
    level: float = math.inf,
    sampled: bool = False,
) -> None:
    """Raise unless each severity's mass is its count times its configured weight.

    Replay counts at weight 1. This is the guard against weights that are lost on the way, as by
    a later de-duplication. Weights that are all alike pass when the masses are the counts.

    Args:
        level: What weights were cut to (`weighting.weight_level`).
        sampled: The masses are numbers of copies, which differ from the expected by less than 1.

    Raises:
        WeightingHadNoEffect: the mass differs; the message has the whole table.
    """
    expected = {s.name.lower(): min(severity_weight(s, weights), level) for s in Severity}
    expected["replay"] = min(1.0, level)
    wrong = [
        name
        for name, weight in expected.items()
        if not math.isclose(
            report[name]["weight"],
            report[name]["examples"] * weight,
            rel_tol=1e-6,
            abs_tol=1 - 1e-6 if sampled and not float(weight).is_integer() else 0.0,
        )
    ]

    if wrong:
        table = ", ".join(
            f"{name}: {row['examples']} examples, weight {row['weight']:g}"
            f" (expected {row['examples'] * expected[name]:g})"
            for name, row in report.items()
        )
        raise WeightingHadNoEffect(f"severity weights did not arrive for {wrong}; {table}")


def _name(target: Target) -> str:
    return "replay" if target.severity is None else target.severity.name.lower()


def _names() -> list[str]:
    return [severity.name.lower() for severity in Severity]
