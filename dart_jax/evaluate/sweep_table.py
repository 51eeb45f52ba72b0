"""The figures of a sweep: mean and interval over seeds, and differences paired by seed.

Seeds of one variant share the questions: an interval over seeds shows the noise of training and
decoding, not that of another sample of questions (which a run's bootstrap intervals show).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from pydantic import ConfigDict

from dart_jax.evaluate.expectations import Expectation, Tested, check_expectation
from dart_jax.evaluate.models import POSSIBLE
from dart_jax.evaluate.over_seeds import OverSeeds, over_seeds
from dart_jax.evaluate.sweep_rows import (
    Result,
    SweepDifferences,
    SweepRow,
    differences_of,
    row_of_variant,
    rows_of,
)


@dataclass(frozen=True)
class Failure:
    """A run that ended with an error.

    Attributes:
        stage: The stage that was running; '' where none was.
    """

    variant: str
    seed: int
    stage: str
    error: str


@dataclass(frozen=True)
class SweepTable:
    """The figures of a sweep, `table.json`.

    Attributes:
        runs, done: Number of runs, and of finished ones.
        measured_differently: Sections of the settings that decide how something is measured, and
            in which variants differ.
        confidence: Coverage of the intervals.
        expectations: What the sweep's file expected before it ran, with what was found.
        rows: Rows of M0, M_int (distill only), parts of M_int's adapter, and each variant's
            M_DART. All but the last have a row for each set of variants in which they are the same.
        shortcut: Accuracy of the shortcut baseline.
        protocol, split_by, judge, tau, test_questions: The values that occur among the runs.
        seconds: Wall-clock seconds of all stages of all runs.
        planted: Variants that planted faults in their training targets.
        not_independent: For each evaluator that took part in the audit or the repair of some run,
            the settings that name it there, such as `judge`.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid", allow_inf_nan=False)

    name: str
    seeds: list[int]
    runs: int
    done: int
    measured_differently: list[str]
    failures: list[Failure]
    confidence: float
    rows: list[SweepRow] = field(default_factory=list)
    differences: SweepDifferences | None = None
    expectations: list[Tested] = field(default_factory=list)
    shortcut: OverSeeds | None = None
    protocol: list[str] = field(default_factory=list)
    split_by: list[str] = field(default_factory=list)
    judge: list[str] = field(default_factory=list)
    tau: list[float] = field(default_factory=list)
    test_questions: list[int] = field(default_factory=list)
    seconds: float = 0.0
    planted: list[str] = field(default_factory=list)
    not_independent: dict[str, list[str]] = field(default_factory=dict)


def sweep_table(
    results: Sequence[Result],
    variants: Sequence[str],
    confidence: float,
    *,
    name: str,
    seeds: Sequence[int],
    runs: int,
    measured_differently: Sequence[str] = (),
    failures: Sequence[Failure] = (),
    expectations: Sequence[Expectation] = (),
) -> SweepTable:
    """Measure a sweep.

    Args:
        results: The finished runs.
        variants: In the order of the table; the others are compared with the first that has runs.
        confidence: Coverage of the intervals.
        name, seeds, runs, measured_differently, failures: See `SweepTable`.
        expectations: Those of the sweep's file.
    """
    about = {
        "name": name,
        "seeds": list(seeds),
        "runs": runs,
        "done": len(results),
        "measured_differently": list(measured_differently),
        "failures": list(failures),
        "confidence": confidence,
    }
    with_results = {result.variant for result in results}
    present = [variant for variant in variants if variant in with_results]
    if not present:
        return SweepTable(**about)

    rows = rows_of(results, present, confidence)
    # Seeds are texts, as the keys of JSON are: the table reads back as it was.
    shortcut = {str(r.seed): r.summary.shortcut_baseline.accuracy for r in results}
    summaries = [result.summary for result in results]

    return SweepTable(
        **about,
        rows=rows,
        differences=differences_of(rows, present[0], confidence),
        expectations=[_tested(rows, each, confidence) for each in expectations],
        shortcut=over_seeds(shortcut, confidence, POSSIBLE["accuracy"]),
        protocol=sorted({summary.protocol for summary in summaries}),
        split_by=sorted({summary.split_by for summary in summaries}),
        judge=sorted({summary.judge for summary in summaries}),
        tau=sorted({summary.tau for summary in summaries}),
        test_questions=sorted({summary.test_questions for summary in summaries}),
        seconds=math.fsum(sum(summary.seconds.values()) for summary in summaries),
        planted=_planted(results, present),
        not_independent=_not_independent(results),
    )


def _planted(results: Sequence[Result], variants: Sequence[str]) -> list[str]:
    planted = {result.variant for result in results if result.summary.planting is not None}
    return [variant for variant in variants if variant in planted]


def _not_independent(results: Sequence[Result]) -> dict[str, list[str]]:
    settings: dict[str, set[str]] = {}
    for result in results:
        for found in result.summary.drift_by:
            if found.same_as:
                settings.setdefault(found.by, set()).update(found.same_as)
    return {by: sorted(names) for by, names in settings.items()}


def _tested(rows: Sequence[SweepRow], expectation: Expectation, confidence: float) -> Tested:
    """Test an expectation; a variant none of whose runs is done has no values."""
    of = row_of_variant(rows, "M_DART", expectation.of)
    if expectation.than == "M_int":
        than = row_of_variant(rows, "M_int", expectation.of)
    else:
        than = row_of_variant(rows, "M_DART", expectation.than)

    values = [
        over_seeds({}, confidence) if row is None else row.metrics[expectation.metric]
        for row in (of, than)
    ]
    return check_expectation(expectation, *values, confidence)
