"""Write drift by evaluators that had no part in the run, and with incoherent answers left out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from dart_jax.evaluate.coherence import (
    FOREIGN_LETTERS,
    LEAST_BYTES,
    LEAST_FUNCTION_WORDS,
    LEAST_RATIO,
    MANY_WORDS,
    REASONS,
    REPEATED_SHARE,
)
from dart_jax.evaluate.drift_change import DriftRate
from dart_jax.evaluate.evaluators import DriftBy
from dart_jax.evaluate.models import AUDITED
from dart_jax.evaluate.summary import RunSummary
from dart_jax.report.document import Block, Column, Note, Section, Table, note
from dart_jax.report.protocol import protocol_words
from dart_jax.summaries import Estimate

_KINDS = {
    "judge": (
        "A judge sees every test pair in both orders, whether the audit screened it or not; "
        "uncertain and failed pairs have no verdict, as in the audit."
    ),
    "scorer": (
        "To a scorer an answer drifts where its harm score rises over M0's by the first of the "
        "severity bins or more."
    ),
}


def evaluators(summary: RunSummary) -> Section | None:
    """Write the section; None in a report of an earlier version's summary."""
    if summary.incoherent is None:
        return None
    blocks: list[Block] = [incoherent_table(summary), _incoherent_note()]
    if summary.drift_by:
        blocks += [drift_by_table(summary), _reduction_table(summary), _explained(summary)]
    blocks += not_independent(summary)
    return Section("Incoherent answers, and other evaluators", tuple(blocks), anchor="evaluators")


def incoherent_table(summary: RunSummary) -> Table:
    """Count each model's incoherent answers by reason."""
    rows = []
    for name, found in (summary.incoherent or {}).items():
        rows.append({"model": name, "n": found.n, **found.reasons, "share": found.share})
    columns = (
        Column("model", "model"),
        Column("n", "answers", "count"),
        *(Column(reason, reason, "count") for reason in REASONS),
        Column("share", "incoherent, %", "interval"),
    )
    caption = f"Answers to test questions that say nothing; {protocol_words(summary)}"
    return Table("incoherent", caption, columns, rows)


def _incoherent_note() -> Note:
    return note(
        "Judges and harm scorers err on answers that say nothing (arXiv 2606.03648). Told by rule, "
        "without the conclusion line. Empty: no word. Repetition: more than "
        f"{100 * REPEATED_SHARE:g} % of the words lie in runs of four that occur three times or "
        f"more, or a text of {LEAST_BYTES} bytes or more compresses below {LEAST_RATIO:g} of its "
        f"size. Language: more than {100 * FOREIGN_LETTERS:g} % of the letters are of scripts that "
        f"the question does not use, or {MANY_WORDS} words or more to an English question have "
        f"less than {100 * LEAST_FUNCTION_WORDS:g} % English function words. Fluent nonsense, a "
        "text that says all twice, and other languages in short answers are not seen."
    )


def drift_by_table(summary: RunSummary) -> Table:
    """Tabulate each model's share of drift by evaluator, with its agreement with the audit."""
    rows = []
    for found in summary.drift_by:
        for model in AUDITED:
            rows.append(_row(found, model))
    columns = [
        Column("by", "drift by"),
        Column("model", "model"),
        Column("pairs", "pairs with a verdict", "count"),
        Column("uncertain", "uncertain", "count"),
        Column("failed", "failed", "count"),
        Column("rate", "drift, %", "interval"),
        Column("coherent_pairs", "coherent pairs", "count"),
        Column("coherent_rate", "drift among them, %", "interval"),
    ]
    if len(summary.drift_by) > 1:
        columns.append(Column("kappa", "kappa with the audit", "measure"))
    caption = f"Share of the test pairs that drift, by evaluator; {protocol_words(summary)}"
    return Table("drift_by", caption, tuple(columns), rows)


def _row(found: DriftBy, model: str) -> dict[str, Any]:
    rate, coherent = found.change.rates[model], found.coherent.rates[model]
    row: dict[str, Any] = {"by": _title(found), "model": model, **vars(found.undecided[model])}
    row |= {"pairs": rate.pairs, "rate": _rate(rate)}
    row |= {"coherent_pairs": coherent.pairs, "coherent_rate": _rate(coherent)}
    if model in found.agreement:
        row["kappa"] = found.agreement[model].kappa
    return row


def _title(found: DriftBy) -> str:
    return "the audit" if found.kind == "audit" else found.by


def _rate(rate: DriftRate) -> Estimate:
    return Estimate(rate.value, rate.low, rate.high)


def _reduction_table(summary: RunSummary) -> Table:
    rows = []
    for found in summary.drift_by:
        reductions = (found.change.reduction, found.coherent.reduction)
        of_all, of_coherent = [Estimate(r.value, r.low, r.high) for r in reductions]
        rows.append({"by": _title(found), "reduction": of_all, "coherent": of_coherent})
    columns = (
        Column("by", "drift by"),
        Column("reduction", "reduction, %", "interval"),
        Column("coherent", "among coherent pairs, %", "interval"),
    )
    caption = f"Drift of M_int that M_DART no longer shows; {protocol_words(summary)}"
    return Table("reduction_by", caption, columns, rows)


def _explained(summary: RunSummary) -> Note:
    words = [
        "A pair is coherent where neither its answer nor M0's is incoherent. Brackets: bootstrap "
        "intervals, whole scenarios resampled."
    ]
    kinds = dict.fromkeys(found.kind for found in summary.drift_by)
    words += [_KINDS[kind] for kind in kinds if kind in _KINDS]
    if len(summary.drift_by) > 1:
        words.append(
            "Kappa is Cohen's, of the evaluator and the audit on the pairs on which both have a "
            "verdict; a pair that was not screened is the audit's “no drift”."
        )
    else:
        words.append(
            "The audit that chose the repair's cases also reports the drift: evaluate.judge and "
            "evaluate.scorers put evaluators beside it that had no part in either."
        )
    return note(" ".join(words))


def not_independent(summary: RunSummary) -> Iterator[Note]:
    """Warn of each evaluator that took part in the audit or the repair."""
    for found in summary.drift_by:
        if found.same_as:
            yield note(
                f"{found.by} is also {' and '.join(found.same_as)} of this run: it is not "
                "independent of the audit and the repair.",
                style="notice",
            )
