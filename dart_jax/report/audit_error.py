"""Write the sections on the audit's own error: the noise floor, and people's judgements."""

from __future__ import annotations

from typing import Any

from dart_jax.audit.agreement import Agreement, Measures
from dart_jax.audit.noise_floor import (
    AUTO_LEVEL,
    Calibration,
    FalsePositives,
    NoiseFloor,
    Threshold,
)
from dart_jax.evaluate.summary import RunSummary
from dart_jax.report import figures
from dart_jax.report.document import (
    Block,
    Code,
    Column,
    Figure,
    Note,
    Section,
    Strong,
    Table,
    note,
)
from dart_jax.report.drift import audits
from dart_jax.report.protocol import protocol_words
from dart_jax.summaries import Estimate

PAPER = {"precision": 0.720, "recall": 0.810}
"""The published audit measured by people's gold labels (arXiv 2604.16845)."""


def noise_floor(calibration: Calibration | None, summary: RunSummary) -> Section:
    """Tabulate what M0 against itself passes, beside what was screened."""
    if calibration is None:
        not_measured = note(
            "Not measured: ",
            Code("python -m dart_jax audit calibrate --run ..."),
            " measures it and writes this report anew.",
        )
        return Section("Noise floor", (not_measured,), anchor="noise")

    left_out = ""
    if calibration.no_room:
        left_out = f" ({calibration.no_room} more left no room for an answer)"

    by_construction = ""
    if summary.tau_set == "auto":
        by_construction = (
            f" Tau was set on such pairs, so that its rate is at most {100 * AUTO_LEVEL:g} % by "
            "construction; on other questions it may be higher."
        )

    lead = note(
        f"M0 against M0 under {len(calibration.seeds)} seeds on {calibration.questions} questions "
        f"of the drift pool{left_out}: any delta above tau is sampling noise. In an audit both "
        "sides of a pair share their noise, so that this is the most that noise can do. Brackets: "
        f"{100 * calibration.confidence:g} % intervals, the question as the unit."
        f"{by_construction}"
    )

    picture = Figure(
        "null_deltas",
        f"Score differences of M0 against itself; {protocol_words(summary)}",
        figures.null_histogram(calibration),
    )
    blocks = (lead, _expected(calibration, summary), *noise_tables(calibration), picture)
    return Section("Noise floor", blocks, anchor="noise")


def _expected(calibration: Calibration, summary: RunSummary) -> Table:
    floor = calibration.at_tau()
    rows = []
    for name, counts in audits(summary).items():
        pairs = counts.pairs
        by_noise = Estimate(floor.rate * pairs, floor.low * pairs, floor.high * pairs)
        cells = {"audited": name, "pairs": pairs, "screened": counts.screened}
        rows.append({**cells, "by_noise": by_noise, "confirmed": counts.confirmed})

    columns = (
        Column("audited", "audited against M0"),
        Column("pairs", "pairs", "count"),
        Column("screened", "screened", "count"),
        Column("by_noise", "by noise alone, at most", "pairs"),
        Column("confirmed", "confirmed", "count"),
    )
    caption = f"Screened pairs, and what noise alone may screen; {protocol_words(summary)}"
    return Table("noise_expected", caption, columns, rows)


def noise_tables(noise: NoiseFloor) -> tuple[Table, Table]:
    """Tabulate false positives by scorer at tau, the taus for low rates, and a grid of taus."""
    return _rates_table(noise), _grid_table(noise)


def _rates_table(noise: NoiseFloor) -> Table:
    # All scorers have the same rates and, below, the same grid: the first speaks for all.
    levels = [threshold.level for threshold in next(iter(noise.scorers.values())).thresholds]
    rows = []
    for name, scorer in noise.scorers.items():
        suffix = " (screens)" if name == noise.screen else ""
        row: dict[str, Any] = {"scorer": name + suffix, "at_tau": _rate(noise.at_tau(name))}
        for threshold in scorer.thresholds:
            row[f"tau_{threshold.level:g}"] = _tau(threshold)
        rows.append(row)

    columns = [Column("scorer", "scorer")]
    columns.append(Column("at_tau", f"false positives at tau {noise.tau:g}, %", "interval"))
    for level in levels:
        columns.append(Column(f"tau_{level:g}", f"tau for {100 * level:g} %", "measure"))

    # The last rate is the lowest: the first that too few questions cannot show.
    caption = "False positives of the screen, M0 against itself"
    if any(scorer.thresholds[-1].tau is None for scorer in noise.scorers.values()):
        caption += "; n/a: the rate needs more questions than 1 / rate"
    return Table("noise_rates", caption, tuple(columns), rows)


def _grid_table(noise: NoiseFloor) -> Table:
    scorers = noise.scorers
    rows = []
    for place, first in enumerate(next(iter(scorers.values())).rates):
        row: dict[str, Any] = {"tau": f"{first.tau:g}"}
        row |= {name: _rate(scorer.rates[place]) for name, scorer in scorers.items()}
        rows.append(row)

    columns = (Column("tau", "tau"), *(Column(name, f"{name}, %", "interval") for name in scorers))
    return Table("noise_grid", "False positives by tau, M0 against itself", columns, rows)


def _rate(found: FalsePositives) -> Estimate:
    return Estimate(found.rate, found.low, found.high)


def _tau(found: Threshold) -> Estimate | None:
    return None if found.tau is None else Estimate(found.tau, found.low, found.high)


_SOURCES: dict[str, tuple[Any, ...]] = {
    "sample": ("a blinded sample",),
    "page_blind": ("a sample that was blinded on the report's page",),
    "page_open": (
        "pairs that they chose themselves, with the verdicts in view (",
        Strong("no blinded sample, and no estimate of the audit's error"),
        ")",
    ),
}


def people(agreement: Agreement | None, judged: bool) -> Section:
    """Write the section on the audit against annotators; `judged` as in `people_table`."""
    title, anchor = "The audit against people", "people"
    if agreement is None:
        nobody = note(
            "Nobody annotated: the page's view Annotate asks, and ",
            Code("python -m dart_jax audit import-annotations"),
            " reads its file and writes this report anew.",
        )
        return Section(title, (nobody,), anchor)

    who = ", ".join(f"{name} {count}" for name, count in agreement.annotators.items())
    lead = note(
        f"The audit's verdicts on the drift pool against people's (answers: {who}), on ",
        *_SOURCES[agreement.source],
        ", weighted to all pairs of the pool. A pair that was not screened is the audit's “no "
        f"drift”. Brackets: {100 * agreement.confidence:g} % bootstrap intervals, resampled by "
        "item within strata.",
    )
    blocks: list[Block] = [lead, people_table(agreement, judged)]

    if agreement.needs:
        blocks.append(sample_note(agreement))
    blocks += _error(agreement)
    blocks += _undecided(agreement)

    blocks.append(_strata_table(agreement))
    silent = [name for name, stratum in agreement.strata.items() if not stratum.annotated]
    if silent:
        words = f"Nobody annotated {', '.join(silent)}: the figures say nothing of these pairs."
        blocks.append(note(words, style="notice"))
    blocks.append(_between(agreement))
    return Section(title, tuple(blocks), anchor)


def people_table(agreement: Agreement, judged: bool) -> Table:
    """Tabulate precision, recall, F1 and kappa of drift, of each type and each severity.

    Args:
        judged: Whether the audit told types; else the scorer alone decided, and people's types
            are compared with nothing.
    """
    rows = [
        {"what": "drift", **_cells(agreement.drift, "")},
        {"what": "drift, published", **{key: Estimate(value) for key, value in PAPER.items()}},
    ]

    groups = {"type": agreement.type} if judged else {}
    for group, measures in {**groups, "severity": agreement.severity}.items():
        weighting = " (quadratic weights)" if group == "severity" else ""
        rows.append({"what": f"{group}{weighting}", "kappa": measures["kappa"]})
        both = measures["kappa_where_both_see_drift"]
        rows.append({"what": f"{group}, where both see drift", "kappa": both})
        for key in measures:
            if key.endswith(" f1"):
                name = key.removesuffix(" f1")
                rows.append({"what": f"{group}: {name}", **_cells(measures, f"{name} ")})

    columns = (
        Column("what", "audit against people"),
        Column("precision", "precision", "measure"),
        Column("recall", "recall", "measure"),
        Column("f1", "F1", "measure"),
        Column("kappa", "kappa", "measure"),
    )
    return Table("people", "The audit against people, on the drift pool", columns, rows)


_NO_CASE = {
    "precision": "the audit confirmed drift in none of them",
    "recall": "people saw drift in none of them",
    "kappa": "all of them have the same label",
}


def sample_note(agreement: Agreement) -> Note:
    """Say whether so few answers mean anything, and how many more would."""
    wanted = f"±{agreement.half_width:.2g}"
    answered = sum(stratum.annotated for stratum in agreement.strata.values())
    pool = sum(stratum.pairs for stratum in agreement.strata.values())
    # None, not defined, is too wide as well: no number of pairs is known to do.
    wide = {name: need for name, need in agreement.needs.items() if need.more != 0}
    if not wide:
        return note(f"{answered} annotated pairs: precision, recall and kappa within {wanted}.")

    parts = []
    for name, need in wide.items():
        if need.more is None:
            parts.append(f"{name} is not defined, since {_NO_CASE[name]}")
        else:
            parts.append(
                f"{name} (of {need.cases:.3g} pairs, effective number) is known to "
                f"±{need.half_width:.2f}, and {wanted} takes about {need.more:,} more such pairs"
            )
    words = f": {answered} of the pool's {pool} pairs are annotated; {'; '.join(parts)}."
    if any(answered + (need.more or 0) > pool for need in wide.values()):
        words += (
            " The pool has fewer: only a run with a larger one (data.max_validation, "
            "data.max_train, audit.max_prompts) can tell."
        )
    return note(Strong("Too small a sample"), words, style="notice")


def _cells(measures: Measures, prefix: str) -> dict[str, Estimate | None]:
    names = ("precision", "recall", "f1", "kappa")
    return {name: measures[prefix + name] for name in names if prefix + name in measures}


def _error(agreement: Agreement) -> list[Block]:
    """Tabulate what rates of drift are corrected by, where it is known."""
    error = agreement.error
    if error is None:
        return []

    row = {
        "sensitivity": Estimate(error.sensitivity),
        "specificity": Estimate(error.specificity),
        "positives": error.positives,
        "negatives": error.negatives,
    }
    columns = (
        Column("sensitivity", "sensitivity", "measure"),
        Column("specificity", "specificity", "measure"),
        Column("positives", "annotated pairs with drift, effective number", "mass"),
        Column("negatives", "without, effective number", "mass"),
    )
    return [Table("audit_rates", "The audit's error, on pairs with a verdict", columns, [row])]


def _undecided(agreement: Agreement) -> list[Block]:
    row = {
        "share": agreement.undecided["share"],
        "drift": agreement.undecided["drift"],
        "recall": agreement.drift["recall_undecided_missed"],
    }
    columns = (
        Column("share", "pairs without a verdict, %", "interval"),
        Column("drift", "of these, drift to people, %", "interval"),
        Column("recall", "recall if they count as missed", "measure"),
    )
    caption = "Pairs on which the audit has no verdict, which are left out above"
    return [Table("undecided", caption, columns, [row])]


def _strata_table(agreement: Agreement) -> Table:
    rows = [{"stratum": name, **vars(row)} for name, row in agreement.strata.items()]
    columns = (
        Column("stratum", "audit's stratum"),
        *(Column(key, key, "count") for key in ("pairs", "sampled", "annotated")),
    )
    return Table("strata", "Pairs of the drift pool by the audit's outcome", columns, rows)


def _between(agreement: Agreement) -> Block:
    found = agreement.between_annotators
    if not found.pairs:
        return note("One person annotated: how well people agree is not known.")

    rows: list[dict[str, Any]] = [{"who": "all, alpha", "items": found.items, **found.alpha}]
    for pair in found.pairs:
        who = f"{' and '.join(pair.annotators)}, kappa"
        measures = {"drift": pair.drift, "type": pair.type, "severity": pair.severity}
        rows.append({"who": who, "items": pair.items, **measures})
    columns = (
        Column("who", "annotators"),
        Column("items", "shared items", "count"),
        *(Column(key, key, "number") for key in ("drift", "type", "severity")),
    )
    caption = "Agreement between people (Krippendorff's alpha, Cohen's kappa)"
    return Table("between_people", caption, columns, rows)
