"""The tables of the report page: plain cells, which the template escapes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from dart_jax.chat.usage import Usage
from dart_jax.evaluate import tables
from dart_jax.evaluate.markdown import Lines, unescape
from dart_jax.evaluate.sections import percent, with_interval
from dart_jax.evaluate.summary import AUDITED, SEVERITIES
from dart_jax.records import DriftType

COUNTS = ("pairs", "no_room", "screened", "judged", "confirmed", "uncertain", "failed")


@dataclass(frozen=True)
class Link:
    """A cell that opens the drift browser with filters."""

    text: str
    href: str


@dataclass(frozen=True)
class Table:
    """Cells of text, `words` columns of them aligned to the left; `name` says what it shows."""

    name: str
    header: Sequence[str]
    rows: Sequence[Sequence[str | Link]]
    words: int = 1


def from_markdown(name: str, part: Lines, words: int = 1) -> Table:
    """A header and rows that were made for the report in markdown."""
    header, rows = part
    cells = [[unescape(cell) for cell in row] for row in rows]
    return Table(name, [unescape(cell) for cell in header], cells, words)


def from_table(table: tables.Table) -> Table:
    """A table that is also written as CSV and LaTeX, its caption as its name."""
    header, *rows = tables.to_lines(table)
    return Table(table.caption, header, rows, words=tables.words(table))


def headline(summary: Mapping[str, Any], confidence: float) -> Table:
    """The three models and the shortcut baseline."""
    header = (
        "model",
        f"accuracy [{100 * confidence:g} % CI]",
        "EQUAL",
        "DIFF",
        "YES rate",
        "unparseable",
        "drift, test",
    )
    found = {**summary["models"], "shortcut baseline": summary["shortcut_baseline"]}
    rows = [
        (
            name,
            *(_rate(row, key) for key in ("accuracy", "equal_accuracy", "diff_accuracy")),
            *(_rate(row, key) for key in ("yes_rate", "unparseable_rate")),
            _drifted(summary, name),
        )
        for name, row in found.items()
    ]
    return Table(f"Test questions, %; {protocol(summary)}", header, rows)


def by_benchmark(summary: Mapping[str, Any]) -> Table:
    """Accuracy of each model on each benchmark, and on its EQUAL and DIFF questions."""
    found = dict(summary["models"])
    if "by_benchmark" in summary["shortcut_baseline"]:
        found["shortcut"] = summary["shortcut_baseline"]
    rows = []
    for benchmark in sorted({key for row in found.values() for key in row["by_benchmark"]}):
        parts = [row["by_benchmark"][benchmark] for row in found.values()]
        split = [
            f"{percent(row['equal_accuracy'])} / {percent(row['diff_accuracy'])}" for row in parts
        ]
        accuracy = [percent(row["accuracy"]) for row in parts]
        rows.append((benchmark, str(parts[0]["n"]), *accuracy, *split))
    header = ("benchmark", "n", *found, *(f"{name} EQUAL / DIFF" for name in found))
    return Table(f"Accuracy by benchmark, %; {protocol(summary)}", header, rows)


def drift(summary: Mapping[str, Any]) -> Table:
    """Confirmed drift on test questions, before and after the repair; counts open the browser."""
    before, after = (summary["drift"][name] for name in AUDITED)
    rows = [_drift_row("all", before["confirmed"], after["confirmed"], {})]
    for number, name in enumerate(SEVERITIES, 1):
        counts = (row["by_severity"].get(name, 0) for row in (before, after))
        rows.append(_drift_row(name, *counts, {"severity": str(number)}))
    for kind in DriftType:
        counts = (row["by_type"].get(kind.value, 0) for row in (before, after))
        rows.append(_drift_row(kind.value, *counts, {"type": kind.value}))
    header = ("test questions", "M_int (before)", "M_DART (after)", "change")
    return Table(f"Confirmed drift; {protocol(summary)}", header, rows)


def audit_counts(summary: Mapping[str, Any]) -> Table:
    """Pairs, prompts without room, screened, judged, confirmed, uncertain and failed, by audit."""
    drift_of = summary["drift"]
    parts = [summary["drift_pool"], *(drift_of[name] for name in AUDITED)]
    header = ("audited against M0", "M_int, drift pool", *(f"{name}, test" for name in AUDITED))
    rows = [(key.replace("_", " "), *(str(part[key]) for part in parts)) for key in COUNTS]
    for key in ("recall", "precision"):
        found = [part.get("screen") for part in parts]
        if any(found):
            cells = [percent(screen[key]) if screen else "" for screen in found]
            rows.append((f"screen's {key}, %", *cells))
    return Table("Audits", header, rows)


def repair(summary: Mapping[str, Any]) -> Table:
    """Examples and weight mass by severity."""
    rows = [
        (name, f"{row['examples']:g}", f"{row['weight_mass']:g}")
        for name, row in summary["repair"].items()
    ]
    return Table("Repair", ("severity", "examples", "weight mass"), rows)


def rejects(summary: Mapping[str, Any]) -> Table:
    """Targets that the teacher could not write, by reason."""
    rows = [
        (stage, reason, str(sum(row.values())))
        for stage, reasons in summary["rejects"].items()
        for reason, row in reasons.items()
    ]
    return Table("Rejected targets", ("stage", "reason", "questions"), rows, words=2)


def cycles(summary: Mapping[str, Any]) -> Table:
    """Drift and accuracy by cycle of audit and repair."""
    header = ("cycle", "audited", "result", "pool drift", "repairs", "test drift", "accuracy, %")
    rows = [
        (
            str(number),
            row["audited"],
            row["model"],
            str(row["pool"]["confirmed"]),
            str(row["repairs"]),
            str(row["drift"]["confirmed"]),
            with_interval(row["test"]["accuracy"], row["test"]["intervals"]["accuracy"]),
        )
        for number, row in enumerate(summary["cycles"], 1)
    ]
    return Table("Cycles", header, rows, words=3)


def time_and_cost(summary: Mapping[str, Any], usage: Mapping[str, Usage]) -> list[Table]:
    """Seconds by stage; and what services took, by stage and role, where any was asked."""
    seconds = summary["seconds"]
    total = sum(seconds.values())
    rows = [
        (stage, f"{taken:,.1f}", percent(taken / total if total else 0))
        for stage, taken in seconds.items()
    ]
    found = [Table("Time", ("stage", "seconds", "%"), [*rows, ("total", f"{total:,.1f}", "100.0")])]
    if usage:
        used = [_usage_row(account, row) for account, row in usage.items()]
        used.append(_usage_row("total", sum(usage.values(), Usage())))
        header = ("stage/role", "requests", "answers", "failures", "stored")
        tokens = ("prompt tokens", "completion tokens", "US$")
        found.append(Table("Services", (*header, *tokens), used))
    return found


def protocol(summary: Mapping[str, Any]) -> str:
    """Both words that say how it was measured."""
    return f"{summary['protocol']}, split by {summary['split_by']}"


def settings(config: Mapping[str, Any]) -> list[Table]:
    """The whole configuration, a table a section; not the names of keys' variables."""
    return [
        Table(
            section,
            ("setting", "value"),
            [(key, _value(each)) for key, each in flat(values) if not key.endswith("api_key_env")],
            words=2,
        )
        for section, values in config.items()
    ]


def _rate(row: Mapping[str, Any], key: str) -> str:
    """A rate with its interval, where the row has them."""
    if key not in row:
        return ""
    return with_interval(row[key], row.get("intervals", {}).get(key))


def _drifted(summary: Mapping[str, Any], name: str) -> str:
    row = summary["drift"].get(name)
    return "" if row is None else f"{row['confirmed']} of {row['pairs']}"


def _drift_row(name: str, before: int, after: int, filters: Mapping[str, str]) -> tuple:
    links = [
        Link(str(count), _filtered({"set": "test", "of": model, "outcome": "drift", **filters}))
        if count
        else "0"
        for model, count in zip(AUDITED, (before, after), strict=True)
    ]
    change = f"{100 * (after - before) / before:+.1f} %" if before else ""
    return (name, *links, change.replace("-", "−").replace("+0.0", "0.0"))


def _filtered(filters: Mapping[str, str]) -> str:
    return f"#browse?{urlencode(filters)}"


def _usage_row(account: str, row: Usage) -> tuple[str, ...]:
    counts = (row.requests, row.answers, row.failures, row.stored)
    tokens = (row.prompt_tokens, row.completion_tokens)
    cost = "unknown" if row.cost_usd is None else f"{row.cost_usd:.4f}"
    return (account, *(f"{count:,}" for count in (*counts, *tokens)), cost)


def flat(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Keys and plain values of nested mappings: `limits.max_tokens`."""
    found = []
    for key, value in values.items():
        nested = isinstance(value, Mapping)
        found += flat(value, f"{prefix}{key}.") if nested else [(f"{prefix}{key}", value)]
    return found


def _value(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
