"""Repair targets, their severity weights, and the check that these reach training (stage III)."""

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from dart_jax.prompts.conclusion import analysis_text
from dart_jax.prompts.templates import repair_messages
from dart_jax.records import DriftCase, Question, Severity, Target, digest
from dart_jax.teach.case_weight import case_weight, severity_weight
from dart_jax.teach.config import RepairConfig
from dart_jax.teach.writer import TargetRequest

WeightReport = dict[str, dict[str, float]]
"""`{"minor".."extreme" | "replay": {"examples": count, "weight": mass}}`."""


class WeightingHadNoEffect(RuntimeError):
    """The examples do not carry the weights that their severities call for."""


def repair_requests(
    cases: Iterable[DriftCase],
    questions_by_id: Mapping[str, Question],
    config: RepairConfig,
    has_judge: bool = False,
) -> list[TargetRequest]:
    """Make one request for each confirmed drift case, with its weight.

    Args:
        has_judge: Whether the audit asks a judge, who may then be asked about repairs, too.

    Raises:
        ValueError: A case names an unknown question, or `repair.weight_fn` fails on one.
    """
    weigh = case_weight(config)
    requests = []
    for case in cases:
        if case.question_id not in questions_by_id:
            raise ValueError(f"drift case of question {case.question_id}: no such question")

        question = questions_by_id[case.question_id]
        request = TargetRequest(
            question=question,
            messages=repair_messages(question, case),
            stage="repair",
            weight=weigh(case),
            severity=case.severity,
            drifted=case.candidate_text,
            safer=config.require_safer.rule(case.type, has_judge),
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


def configured_weights(
    repairs: Iterable[Target], cases: Iterable[DriftCase], config: RepairConfig
) -> dict[str, list[float]]:
    """List the weights that the repaired cases call for, by severity, whatever targets weigh."""
    case_of = {case.question_id: case for case in cases}
    weigh = case_weight(config)
    found: dict[str, list[float]] = {name: [] for name in _names()}
    for target in repairs:
        found[_name(target)].append(weigh(case_of[target.question_id]))
    return found


def check_weighting(
    report: WeightReport,
    weights: Sequence[float] | Mapping[str, Sequence[float]],
    level: float = math.inf,
    sampled: bool = False,
    mass: float | None = None,
) -> None:
    """Raise unless each severity's mass is that of its configured weights.

    With `repair.mass`, it is that times the factor that the counts and the configured weights
    call for. Replay counts at weight 1. This guards against weights that are lost on the way, for
    example in a later de-duplication. Equal weights pass when the masses are the counts.

    Args:
        weights: Of the four severities, each of which counts once for each of its examples; or of
            the cases, by severity (`configured_weights`).
        level: The level that weights were cut to (`weighting.weight_level`).
        sampled: Whether masses are numbers of copies, which miss the expected mass by less than 1.
        mass: `repair.mass`.

    Raises:
        WeightingHadNoEffect: A mass differs; the message has the whole table.
    """
    expected = dict(weights) if isinstance(weights, Mapping) else _by_count(report, weights)
    factor = 1.0 if mass is None else _expected_factor(report, expected, mass)
    for name, of_severity in expected.items():
        expected[name] = [min(weight * factor, level) for weight in of_severity]
    expected["replay"] = [min(1.0, level)] * report["replay"]["examples"]

    wrong = []
    rows = []
    for name, row in report.items():
        expected_mass = math.fsum(expected[name])
        # Only fractional weights are drawn; a whole one has exactly that number of copies.
        is_drawn = sampled and not all(float(weight).is_integer() for weight in expected[name])
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


def _by_count(report: WeightReport, weights: Sequence[float]) -> dict[str, list[float]]:
    """List each severity's weight as often as it has examples."""
    found = {}
    for severity in Severity:
        name = severity.name.lower()
        found[name] = [severity_weight(severity, weights)] * report[name]["examples"]
    return found


def _expected_factor(
    report: WeightReport, weights: Mapping[str, Sequence[float]], mass: float
) -> float:
    """Find the factor of `repair.mass` from configured weights, whatever the targets weigh."""
    configured = math.fsum(itertools.chain.from_iterable(weights.values()))
    base = report["replay"]["examples"] or sum(map(len, weights.values()))
    return mass * base / configured if configured else 1.0


def _name(target: Target) -> str:
    return "replay" if target.severity is None else target.severity.name.lower()


def _names() -> list[str]:
    return [severity.name.lower() for severity in Severity]
