"""Tables for a terminal: those at the end of a run fit 100 columns."""

import textwrap
from collections.abc import Sequence

from dart_jax.evaluate.protocol import protocol_words
from dart_jax.evaluate.sections import no_room, percent, same_model, with_baseline
from dart_jax.evaluate.summary import AUDITED, SEVERITIES

_COLUMNS = 100


def console_table(summary: dict) -> str:
    """Results and drift of a run as aligned plain text, at most 100 columns wide."""
    count = summary["models"]["M0"]["n"]
    parts = [
        f"{protocol_words(summary)}, {count} test questions; figures in %",
        aligned(_results(summary)),
        aligned(_drift(summary)),
    ]
    if summary["drift"]["reduction"] is not None:
        parts.append(f"drift reduction {percent(summary['drift']['reduction'])} %")
    if without := no_room(summary):
        parts.append(without)
    if summary["m_dart_is_m_int"]:
        parts.append(textwrap.fill(same_model(summary).replace("**", ""), _COLUMNS))
    return "\n\n".join(parts)


def _results(summary: dict) -> list[tuple[str, ...]]:
    keys = ("equal_accuracy", "diff_accuracy", "yes_rate", "unparseable_rate")
    rows = [("model", "accuracy", "interval", "EQUAL", "DIFF", "YES rate", "unparseable")]
    for name, row in with_baseline(summary).items():
        name = "shortcut" if name not in summary["models"] else name
        bounds = row["intervals"]["accuracy"]
        interval = "n/a" if bounds is None else " - ".join(map(percent, bounds))
        rows.append(
            (name, percent(row["accuracy"]), interval, *(percent(row[key]) for key in keys))
        )
    return rows


def _drift(summary: dict) -> list[tuple[str, ...]]:
    keys = ("pairs", "screened", "confirmed", "uncertain", "failed")
    rows = [("drift (test)", *keys, *SEVERITIES)]
    for name in AUDITED:
        row = summary["drift"][name]
        severities = (row["by_severity"].get(key, 0) for key in SEVERITIES)
        rows.append((name, *(str(row[key]) for key in keys), *map(str, severities)))
    return rows


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """First column to the left, the others to the right; two spaces between."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if place else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )
