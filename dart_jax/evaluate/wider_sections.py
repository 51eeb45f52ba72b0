"""The report's sections on prompts beyond the run's suite: open-ended queries, external suites."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dart_jax.evaluate.hatecheck import RATES
from dart_jax.evaluate.markdown import Lines, escape, table
from dart_jax.evaluate.refusal_sections import error_words
from dart_jax.evaluate.sections import NO_ROOM, percent, with_interval
from dart_jax.run_dir import hash_path

OPEN_ENDED = "open_ended/summary.json"
EXTERNAL = "external/{suite}/summary.json"
_OUTCOMES = ("difference_appropriate", "refusal", "wrongly_uniform", "wrongly_differentiated")
_COLUMNS = ("difference-appropriate", "refused", "wrongly uniform", "wrongly differentiated")
_RATES = ("n", "over-refusal", "refused in part", "n", "harmful compliance")
_OPEN_ENDED_TITLE = "Open-ended queries"
_LOCAL = (
    "The grades are a small local model's: they exercise the pipeline and say nothing about the "
    "answers."
)


@dataclass(frozen=True)
class Tabled:
    """A table of a section.

    Attributes:
        words: Columns of words, which come first.
        note: A sentence to stand in front of it, or ''.
    """

    name: str
    lines: Lines
    words: int = 1
    note: str = ""


@dataclass(frozen=True)
class Section:
    """What was measured on other prompts; its texts are in markdown's escapes."""

    title: str
    lead: str
    tables: tuple[Tabled, ...] = ()
    note: str = ""


def wider_sections(run_path: Path) -> list[Section]:
    """All that were measured of a run."""
    found = [run_path / OPEN_ENDED] if (run_path / OPEN_ENDED).exists() else []
    sections = []
    for path in [*found, *sorted(run_path.glob(EXTERNAL.format(suite="*")))]:
        summary = json.loads(path.read_text(encoding="utf-8"))
        sections.append(_section(run_path, path.relative_to(run_path), summary))
    return sections


def _section(run_path: Path, name: Path, summary: Mapping[str, Any]) -> Section:
    """What was measured; or, where that holds no more, that it is to be measured again."""
    is_external = "suite" in summary
    title = _external_title(summary) if is_external else _OPEN_ENDED_TITLE
    if "no_room" not in summary:
        return Section(title, f"{name} is of an earlier version of the program: run it again.")
    adapters = summary["adapters"].items()
    if any(hash_path(run_path / "adapters" / model) != value for model, value in adapters):
        return Section(title, f"{name} is of models that were trained anew since: run it again.")
    return external(summary) if is_external else open_ended(summary)


def wider(run_path: Path) -> str:
    """`wider_sections` as markdown; '' where there is none."""
    pieces = []
    for section in wider_sections(run_path):
        pieces += [f"## {section.title}", section.lead]
        for tabled in section.tables:
            pieces += [tabled.note, table(*tabled.lines, words=tabled.words)]
        pieces.append(section.note)
    return "\n\n".join(filter(None, pieces))


def open_ended(summary: Mapping[str, Any]) -> Section:
    """Outcome shares by model and domain, and each model against M0."""
    lead = (
        f"{summary['queries']} queries, put without instructions; judge: "
        f"{escape(summary['judge'])}. Per cent of the graded answers, with "
        f"{100 * summary['confidence']:g} % bootstrap intervals."
        + (f" {NO_ROOM.format(summary['no_room'])}" if summary["no_room"] else "")
    )
    shares = Tabled("Outcomes by domain, %", open_ended_table(summary), words=2)
    tests = Tabled("Each model against M0, exact McNemar", _comparisons(summary), words=2)
    local = summary["judge"].startswith("local")
    return Section(_OPEN_ENDED_TITLE, lead, (shares, tests), _LOCAL if local else "")


def open_ended_table(summary: Mapping[str, Any]) -> Lines:
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


def _comparisons(summary: Mapping[str, Any]) -> Lines:
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


def external(summary: Mapping[str, Any]) -> Section:
    """One suite: drift against M0 and, for HateCheck, its rates."""
    asked = f"{summary['prompts']} of {summary['of']} prompts"
    lead = f"{asked}; audit.mode {summary['mode']}, judge: {summary['judge']}."
    if most := max(summary["no_room"].values()):
        lead += f" {NO_ROOM.format(most)}"
    tables = [
        Tabled("Drift against M0", drift_table(summary)),
        Tabled("Drift by functionality", _by_functionality(summary)),
    ]
    if "rates" in summary:
        note = (
            "Over-refusal: non-hateful cases that are refused in full; those refused in part are "
            "apart. Harmful compliance: harmful answers to hateful cases, refused or not. "
            + _decided_by(summary)
        )
        overall = [(name, *_rates(found["all"])) for name, found in summary["rates"].items()]
        tables += [
            Tabled("Rates, %", (("model", *_RATES), overall), note=note),
            *(
                Tabled(f"Rates by {part}, %", rates_table(summary, part), words=2)
                for part in ("functionality", "group")
            ),
        ]
    return Section(_external_title(summary), lead, tuple(tables))


def _external_title(summary: Mapping[str, Any]) -> str:
    return f"External suite: {escape(summary['suite'])}"


def _decided_by(summary: Mapping[str, Any]) -> str:
    if summary["mode"] == "screen_only":
        return (
            "Without a judge, harm is a score of 0.5 or more: a score sees words and not "
            f"agreement. {error_words(summary['refusal_error'])}"
        )
    return _LOCAL if summary["judge"] == "local" else "The judge graded each answer."


def drift_table(summary: Mapping[str, Any]) -> Lines:
    """Header and rows: M0's mean score, and the audit of each candidate."""
    keys = ("pairs", "no_room", "screened", "confirmed", "uncertain", "failed")
    scorers = list(next(iter(summary["mean_score"].values())))
    rows = [
        (
            name,
            *(f"{means[scorer]:.4f}" for scorer in scorers),
            *(str(summary["drift"][name][key]) if name != "M0" else "" for key in keys),
        )
        for name, means in summary["mean_score"].items()
    ]
    worded = [key.replace("_", " ") for key in keys]
    return ("model", *(escape(f"mean score, {scorer}") for scorer in scorers), *worded), rows


def _by_functionality(summary: Mapping[str, Any]) -> Lines:
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


def rates_table(summary: Mapping[str, Any], part: str) -> Lines:
    """HateCheck's rates by `functionality` or `group`, all cases first."""
    rows = [
        (name, escape(value) or "none", *_rates(row))
        for name, rates in summary["rates"].items()
        for value, row in {"all": rates["all"], **rates[f"by_{part}"]}.items()
    ]
    return ("model", part, *_RATES), rows


def _rates(row: Mapping[str, Any]) -> Iterator[str]:
    """Cells under _RATES."""
    refused, partly, harmful = (row[name] for name in RATES)
    yield str(refused["n"])
    yield with_interval(refused["rate"], refused["interval"])
    yield with_interval(partly["rate"], partly["interval"])
    yield str(harmful["n"])
    yield with_interval(harmful["rate"], harmful["interval"])
