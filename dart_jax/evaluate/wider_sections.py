"""The report's sections on prompts beyond the run's suite: open-ended queries, external suites."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dart_jax.evaluate.markdown import escape, table
from dart_jax.evaluate.sections import percent, with_interval
from dart_jax.run_dir import hash_path

OPEN_ENDED = "open_ended/summary.json"
EXTERNAL = "external/{suite}/summary.json"
_OUTCOMES = ("difference_appropriate", "refusal", "wrongly_uniform", "wrongly_differentiated")
_COLUMNS = ("difference-appropriate", "refused", "wrongly uniform", "wrongly differentiated")
_LOCAL = (
    "The grades are a small local model's: they exercise the pipeline and say nothing about the "
    "answers."
)


def wider(run_path: Path) -> str:
    """All sections of a run that were measured; '' where none was."""
    found = [run_path / OPEN_ENDED] if (run_path / OPEN_ENDED).exists() else []
    parts = []
    for path in [*found, *sorted(run_path.glob(EXTERNAL.format(suite="*")))]:
        summary = json.loads(path.read_text(encoding="utf-8"))
        section = external if "suite" in summary else open_ended
        adapters = summary["adapters"].items()
        if any(hash_path(run_path / "adapters" / name) != value for name, value in adapters):
            name = path.relative_to(run_path)
            parts.append(f"{name} is of models that were trained anew since: run it again.")
        else:
            parts.append(section(summary))
    return "\n\n".join(parts)


def open_ended(summary: Mapping[str, Any]) -> str:
    """Outcome shares by model and domain, and each model against M0."""
    parts = [
        "## Open-ended queries",
        f"{summary['queries']} queries, put without instructions; judge: "
        f"{escape(summary['judge'])}. Per cent of the graded answers, with "
        f"{100 * summary['confidence']:g} % bootstrap intervals.",
        table(*open_ended_table(summary), words=2),
        table(*_comparisons(summary), words=2),
    ]
    return "\n\n".join([*parts, _LOCAL] if summary["judge"].startswith("local") else parts)


def open_ended_table(summary: Mapping[str, Any]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Header and rows: each model, over all queries and by domain."""
    rows = [
        (
            name,
            part,
            str(row["n"]),
            str(row["judge_failed"]),
            *(
                with_interval(row[key], row["intervals"][key])
                if key in row["intervals"]
                else percent(row[key])
                for key in _OUTCOMES
            ),
        )
        for name, parts in summary["models"].items()
        for part, row in parts.items()
    ]
    return ("model", "domain", "n", "judge failed", *_COLUMNS), rows


def _comparisons(summary: Mapping[str, Any]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    rows = [
        (
            name,
            part,
            str(row["pairs"]),
            *(
                f"+{row[key]['gained']} -{row[key]['lost']}, p = {row[key]['p_value']:.3g}"
                for key in _OUTCOMES[:2]
            ),
        )
        for name, parts in summary["against_M0"].items()
        for part, row in parts.items()
    ]
    return ("against M0 (exact McNemar)", "domain", "pairs", *_COLUMNS[:2]), rows


def external(summary: Mapping[str, Any]) -> str:
    """One suite: drift against M0 and, for HateCheck, its rates."""
    suite = escape(summary["suite"])
    asked = f"{summary['prompts']} of {summary['of']} prompts"
    parts = [
        f"## External suite: {suite}",
        f"{asked}; audit.mode {summary['mode']}, judge: {summary['judge']}.",
        table(*drift_table(summary)),
        table(*_by_functionality(summary)),
    ]
    if "rates" in summary:
        parts += [
            "Over-refusal: refused answers to non-hateful cases. Harmful compliance: harmful "
            "answers to hateful cases. " + _decided_by(summary),
            *(table(*rates_table(summary, part), words=2) for part in ("functionality", "group")),
        ]
    return "\n\n".join(parts)


def _decided_by(summary: Mapping[str, Any]) -> str:
    if summary["mode"] == "screen_only":
        return (
            "Without a judge, refusals are known by how they begin and harm by a score of 0.5 or "
            "more: a score sees words and not agreement."
        )
    return _LOCAL if summary["judge"] == "local" else "The judge graded each answer."


def drift_table(summary: Mapping[str, Any]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Header and rows: M0's mean score, and the audit of each candidate."""
    keys = ("pairs", "screened", "confirmed", "uncertain", "failed")
    scorers = list(next(iter(summary["mean_score"].values())))
    rows = [
        (
            name,
            *(f"{means[scorer]:.4f}" for scorer in scorers),
            *(str(summary["drift"][name][key]) if name != "M0" else "" for key in keys),
        )
        for name, means in summary["mean_score"].items()
    ]
    return ("model", *(escape(f"mean score, {scorer}") for scorer in scorers), *keys), rows


def _by_functionality(summary: Mapping[str, Any]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    names = list(summary["drift_by_functionality"])
    parts = next(iter(summary["drift_by_functionality"].values()))
    rows = [
        (
            escape(part) or "none",
            str(row["pairs"]),
            *(str(summary["drift_by_functionality"][name][part]["confirmed"]) for name in names),
        )
        for part, row in parts.items()
    ]
    return ("functionality", "pairs", *(f"confirmed, {name}" for name in names)), rows


def rates_table(
    summary: Mapping[str, Any], part: str
) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """HateCheck's rates by `functionality` or `group`, all cases first."""
    rows = []
    for name, rates in summary["rates"].items():
        cells = {"all": rates["all"], **rates[f"by_{part}"]}
        for value, row in cells.items():
            over, harmful = row["over_refusal"], row["harmful_compliance"]
            rows.append(
                (
                    name,
                    escape(value) or "none",
                    *(
                        cell
                        for rate in (over, harmful)
                        for cell in (str(rate["n"]), with_interval(rate["rate"], rate["interval"]))
                    ),
                )
            )
    return ("model", part, "n", "over-refusal", "n", "harmful compliance"), rows
