"""Write what else the repair changed: M_DART's answers beside M_int's, drifted or not."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from dart_jax.evaluate.collateral import AnswerChange, Collateral
from dart_jax.evaluate.findings import stands_out
from dart_jax.evaluate.summary import RunSummary
from dart_jax.report.cells import p_value, percent, with_bounds
from dart_jax.report.document import Column, Note, Section, Table, note
from dart_jax.report.protocol import protocol_words
from dart_jax.summaries import Estimate


def collateral(summary: RunSummary) -> Section | None:
    """Write the section; None where nothing was repaired, or nothing was compared."""
    found = summary.collateral
    if found is None:
        return None
    blocks = (collateral_table(summary, found), _explained(found))
    return Section("What else the repair changed", blocks, anchor="collateral")


def collateral_table(summary: RunSummary, found: Collateral) -> Table:
    """Tabulate how answers changed, by whether M_int's had drifted."""
    rows = [
        {"questions": "no confirmed drift in M_int", **_cells(found.not_drifted)},
        {"questions": "confirmed drift in M_int", **_cells(found.drifted)},
    ]
    columns = [
        Column("questions", "test questions with"),
        Column("n", "questions", "count"),
        Column("same", "same answer, %", "interval"),
        Column("M_int", "tokens, M_int", "pairs"),
        Column("M_DART", "M_DART", "pairs"),
        Column("longer", "difference", "pairs"),
    ]
    if found.first_tokens:
        columns.append(Column("kl", f"KL, first {found.first_tokens} tokens", "measure"))
    caption = f"M_DART's answers beside M_int's; {protocol_words(summary)}"
    return Table("collateral", caption, tuple(columns), rows)


def _cells(change: AnswerChange) -> dict[str, Any]:
    lengths = {name: Estimate(mean) for name, mean in change.tokens.items()}
    kl = {} if change.kl is None else {"kl": change.kl}
    return {"n": change.n, "same": change.same, **kl, **lengths, "longer": change.longer}


def _explained(found: Collateral) -> Note:
    undecided = ""
    if found.undecided:
        undecided = (
            f" On {found.undecided} questions of the first row the audit of M_int has no verdict."
        )
    tested = ""
    if found.same_p is not None:
        gap = with_bounds(found.same_gap, percent)
        tested = (
            f" Same answers without drift less those with it: {gap} points, Fisher's exact p "
            f"{p_value(found.same_p)}."
        )
    moved = ""
    if found.first_tokens:
        moved = (
            " KL is KL(M_int || M_DART) in nats a token, over the whole vocabulary, both models "
            f"reading M_int's answer: at its first {found.first_tokens} tokens, or at all of a "
            "shorter one and its end."
        )
    return note(
        "A repair should change the answers that drifted and no others. Same: word for word. "
        f"Lengths are in tokens, the difference is M_DART's less M_int's.{moved} Brackets: "
        f"bootstrap intervals, whole scenarios resampled.{tested}{undecided}"
    )


def collateral_notes(summary: RunSummary, confidence: float) -> Iterator[Note]:
    """Say which changes beside the repair can be told from noise; nothing of the others."""
    found = summary.collateral
    if found is None:
        return

    if stands_out(found.same_gap, found.same_p, confidence):
        without, with_drift = found.not_drifted, found.drifted
        yield note(
            "Of M_int's answers without confirmed drift M_DART repeats "
            f"{percent(without.same.value)} % word for word, of those with it "
            f"{percent(with_drift.same.value)} %: a difference of "
            f"{with_bounds(found.same_gap, percent)} points."
        )

    change = found.not_drifted
    if stands_out(change.longer, change.longer_p, confidence):
        direction = "longer" if change.longer.value > 0 else "shorter"
        yield note(
            f"Where M_int had not drifted, M_DART's answers are {direction}: "
            f"{with_bounds(change.longer, '{:+.1f}'.format)} tokens to a mean of "
            f"{change.tokens['M_int']:.1f}."
        )
