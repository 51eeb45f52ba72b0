"""Repair targets, their severity weights, and the check that these reach training (stage III)."""

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
    """Look up the loss weight of a severity.

    Args:
        weights: Weights from minor to extreme (paper: 1, 2, 3, 4).

    Raises:
        ValueError: The weights are not four positive finite numbers.
    """
    if len(weights) != len(Severity) or not all(math.isfinite(w) and w > 0 for w in weights):
        raise ValueError(
            f"repair.severity_weights {tuple(weights)}: give four positive numbers, for minor,"
            " moderate, severe and extreme"
        )
    # Severities count from 1.
    return float(weights[severity - 1])


def repair_requests(
    cases: Iterable[DriftCase], questions_by_id: Mapping[str, Question], config: RepairConfig
) -> list[TargetRequest]:
    """Make one request for each confirmed drift case, weighted by its severity.

    Raises:
        ValueError: A case names an unknown question.
    """
    requests = []
    for case in cases:
        if case.question_id not in questions_by_id:
            raise ValueError(f"drift case of question {case.question_id}: no such question")

        question = questions_by_id[case.question_id]
        request = TargetRequest(
            question=question,
            messages=repair_messages(question, case),
            stage="repair",
            weight=severity_weight(case.severity, config.weights),
            severity=case.severity,
            drifted=case.candidate_text,
        )
        requests.append(request)

    return requests


def mix_replay(
    repair_targets: Sequence[Target], distill_targets: Sequence[Target], replay: float, seed: int
) -> list[Target]:
    """Append a share of the distill targets, at weight 1, to the repair targets.

    The share is drawn by a hash of (seed, question id), the same on every machine. Nothing is
    de-duplicated: a question may have several repair cases and be in the replay too, and dropping
    one of them would undo the weights.

    Args:
        replay: Share of `distill_targets`, in [0, 1].

    Raises:
        ValueError: `replay` is not in [0, 1].
    """
    if not 0.0 <= replay <= 1.0:
        raise ValueError(f"repair.replay {replay}: give a share between 0 and 1")
    # By hash, so that the draw does not depend on the order of the targets.
    shuffled = sorted(distill_targets, key=lambda target: digest([seed, target.question_id]))
    count = round(replay * len(distill_targets))
    # Custom data may give its targets another weight; replay weighs 1 all the same.
    replayed = [replace(target, weight=1.0) for target in shuffled[:count]]
    return [*repair_targets, *replayed]


def drifted_targets(training: Iterable[Target], cases: Iterable[DriftCase]) -> list[Target]:
    """Make targets of the rationales that repairs replace, for training to make less likely.

    Each occurrence of a repair yields one, at the repair's weight. It holds the analysis alone, as
    the conclusion after it may be right; a case without an analysis yields none.
    """
    texts = {case.question_id: analysis_text(case.candidate_text) for case in cases}
    targets = []
    for repair in training:
        if repair.stage != "repair" or not texts[repair.question_id]:
            continue
        text = texts[repair.question_id]
        targets.append(
            Target(repair.question_id, "drifted", text, repair.weight, repair.severity, "drifted")
        )
    return targets


def weight_report(
    targets: Iterable[Target], training: Iterable[Target] | None = None
) -> WeightReport:
    """Sum up targets and weight mass by severity and of the replay, without drifted rationales.

    Args:
        targets: The targets; each counts once.
        training: The training set, where it is not `targets` itself. Its weights make the mass,
            which is the number of copies where targets are oversampled.
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
    mass: float | None = None,
) -> None:
    """Raise unless each severity's mass is its count times its configured weight.

    With `repair.mass`, it is that times the factor that the counts and the configured weights
    call for. Replay counts at weight 1. This guards against weights that are lost on the way, for
    example in a later de-duplication. Equal weights pass when the masses are the counts.

    Args:
        level: The level that weights were cut to (`weighting.weight_level`).
        sampled: Whether masses are numbers of copies, which miss the expected mass by less than 1.
        mass: `repair.mass`.

    Raises:
        WeightingHadNoEffect: A mass differs; the message has the whole table.
    """
    expected = {severity.name.lower(): severity_weight(severity, weights) for severity in Severity}
    factor = 1.0 if mass is None else _expected_factor(report, expected, mass)
    for name, weight in expected.items():
        expected[name] = min(weight * factor, level)
    expected["replay"] = min(1.0, level)

    wrong = []
    rows = []
    for name, row in report.items():
        expected_mass = row["examples"] * expected[name]
        # Only fractional weights are drawn; a whole one has exactly that number of copies.
        is_drawn = sampled and not float(expected[name]).is_integer()
        tolerance = 1 - 1e-6 if is_drawn else 0.0
        if not math.isclose(row["weight"], expected_mass, rel_tol=1e-6, abs_tol=tolerance):
            wrong.append(name)

        rows.append(
            f"{name}: {row['examples']} examples, weight {row['weight']:g} "
            f"(expected {expected_mass:g})"
        )

    if wrong:
        table = ", ".join(rows)
        raise WeightingHadNoEffect(f"severity weights did not arrive for {wrong}; {table}")


def _expected_factor(report: WeightReport, weights: Mapping[str, float], mass: float) -> float:
    """Find the factor of `repair.mass` from counts alone, whatever the targets weigh."""
    counts = {name: report[name]["examples"] for name in weights}
    configured = math.fsum(counts[name] * weight for name, weight in weights.items())
    base = report["replay"]["examples"] or sum(counts.values())
    return mass * base / configured if configured else 1.0


def _name(target: Target) -> str:
    return "replay" if target.severity is None else target.severity.name.lower()


def _names() -> list[str]:
    return [severity.name.lower() for severity in Severity]
