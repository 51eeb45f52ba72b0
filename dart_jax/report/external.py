"""Write the sections on prompts beyond the run's suite: open-ended and external ones."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dart_jax.evaluate.bbq import BBQ, BBQSummary
from dart_jax.evaluate.ctxt import CTXT, CtxtSummary
from dart_jax.evaluate.external import EXTERNAL, ExternalSummary
from dart_jax.evaluate.hatecheck import CaseRates
from dart_jax.evaluate.open_ended import OPEN_ENDED, OpenEndedSummary
from dart_jax.evaluate.refusal_rates import PromptRefusals
from dart_jax.report.document import Block, Column, Fold, Section, Table, no_room_note, note
from dart_jax.report.letters import bbq_section, ctxt_section
from dart_jax.report.refusals import error_words
from dart_jax.run_dir import hash_path
from dart_jax.summaries import read_json

_OUTCOMES = {
    "difference_appropriate": "difference-appropriate",
    "refusal": "refused",
    "wrongly_uniform": "wrongly uniform",
    "wrongly_differentiated": "wrongly differentiated",
}
_TESTED = ("difference_appropriate", "refusal")
_AUDIT_KEYS = ("pairs", "no_room", "screened", "confirmed", "uncertain", "failed")
_RATE_COLUMNS = (
    Column("harmless", "harmless cases", "count"),
    Column("over_refusal", "over-refusal, %", "interval"),
    Column("partial_refusal", "refused in part, %", "interval"),
    Column("hateful", "hateful cases", "count"),
    Column("harmful_compliance", "harmful compliance, %", "interval"),
)
_REFUSAL_COLUMNS = (
    Column("safe", "safe prompts", "count"),
    Column("over_refusal", "over-refusal, %", "interval"),
    Column("partial_over_refusal", "refused in part, %", "interval"),
    Column("unsafe", "unsafe prompts", "count"),
    Column("unsafe_refused", "unsafe: refused, %", "interval"),
    Column("unsafe_complied", "unsafe: complied, %", "interval"),
)
_LOCAL = (
    "The grades are a small local model's: they exercise the pipeline and say nothing about the "
    "answers."
)


def external_sections(run_path: Path) -> list[Section]:
    """Hold everything that was measured of a run on other prompts."""
    forms = {
        run_path / CTXT: (CtxtSummary, ctxt_section),
        run_path / OPEN_ENDED: (OpenEndedSummary, open_ended_section),
        run_path / BBQ: (BBQSummary, bbq_section),
    }
    for path in sorted(run_path.glob(EXTERNAL.format(suite="*"))):
        forms.setdefault(path, (ExternalSummary, suite_section))

    sections = []
    for path, (summary_type, section) in forms.items():
        if path.exists():
            sections.append(_stale(run_path, path) or section(read_json(path, summary_type)))
    return sections


def _stale(run_path: Path, path: Path) -> Section | None:
    """Say why figures are missing: the models were trained anew since."""
    # Not by its dataclass, which would refuse a file of an earlier version.
    raw = json.loads(path.read_text(encoding="utf-8"))
    adapters = raw["adapters"].items()
    why = ""
    if "no_room" not in raw:
        why = "of an earlier version of the program"
    elif any(hash_path(run_path / "adapters" / name) != expected for name, expected in adapters):
        why = "of models that were trained anew since"
    if not why:
        return None
    words = f"{path.relative_to(run_path)} is {why}: run it again."
    title = f"Other prompts: {path.parent.name.replace('_', '-')}"
    return Section(title, (note(words, style="notice"),), anchor=path.parent.name)


def open_ended_section(summary: OpenEndedSummary) -> Section:
    """Tabulate outcome shares by model and domain, and each model against M0."""
    lead = note(
        f"{summary.queries} queries, put without instructions; judge: {summary.judge}. Per cent of "
        f"the graded answers, with {100 * summary.confidence:g} % bootstrap intervals."
    )
    blocks: list[Block] = [lead]
    if summary.no_room:
        blocks.append(no_room_note(summary.no_room))
    blocks += [_outcomes_table(summary), _outcome_tests_table(summary)]
    if summary.judge.startswith("local"):
        blocks.append(note(_LOCAL, style="notice"))
    return Section("Open-ended queries", tuple(blocks), anchor="open-ended")


def _outcomes_table(summary: OpenEndedSummary) -> Table:
    rows = []
    for model, parts in summary.models.items():
        for domain, shares in parts.items():
            row: dict[str, Any] = {"model": model, "domain": domain, "n": shares.n}
            row["judge_failed"] = shares.judge_failed
            row |= {outcome: shares.estimate(outcome) for outcome in _OUTCOMES}
            rows.append(row)

    columns = (
        Column("model", "model"),
        Column("domain", "domain"),
        Column("n", "n", "count"),
        Column("judge_failed", "judge failed", "count"),
        *(Column(outcome, title, "interval") for outcome, title in _OUTCOMES.items()),
    )
    return Table("open_ended", "Open-ended outcomes by domain, per cent", columns, rows)


def _outcome_tests_table(summary: OpenEndedSummary) -> Table:
    rows = []
    for model, parts in summary.against_M0.items():
        for domain, tests in parts.items():
            row: dict[str, Any] = {"model": model, "domain": domain, "pairs": tests.pairs}
            for outcome in _TESTED:
                test = getattr(tests, outcome)
                row |= {f"{outcome}_{key}": value for key, value in vars(test).items()}
            rows.append(row)

    columns = [Column("model", "model"), Column("domain", "domain")]
    columns.append(Column("pairs", "pairs", "count"))
    for outcome in _TESTED:
        title = _OUTCOMES[outcome]
        columns.append(Column(f"{outcome}_gained", f"{title}: gained", "count"))
        columns.append(Column(f"{outcome}_lost", "lost", "count"))
        columns.append(Column(f"{outcome}_p", "p", "p"))

    caption = "Each model against M0 on open-ended queries, exact McNemar"
    return Table("open_ended_tests", caption, tuple(columns), rows)


def suite_section(summary: ExternalSummary) -> Section:
    """Write one suite's section: drift against M0, and rates where answers are graded."""
    suite = summary.suite
    lead = note(
        f"{summary.prompts} of {summary.of} prompts; audit.mode {summary.mode}, judge: "
        f"{summary.judge}."
    )
    blocks: list[Block] = [lead]

    no_room = max(summary.no_room.values())
    if no_room:
        blocks.append(no_room_note(no_room))
    blocks.append(_drift_table(summary))

    if summary.rates is not None:
        blocks += [note(_rates_words(summary)), _overall_rates_table(summary)]
        by_part = tuple(_rates_table(summary, part) for part in ("functionality", "group"))
        blocks.append(Fold("Rates by functionality and by group", by_part))
    if summary.refusals is not None:
        blocks += [note(_refusal_words(summary)), _refusals_table(summary)]
        blocks.append(Fold("Refusals by functionality", (_refusals_by_part_table(summary),)))
    blocks.append(Fold("Drift by functionality", (_functionality_table(summary),)))
    return Section(f"External suite: {suite}", tuple(blocks), anchor=f"external-{suite}")


def _rates_words(summary: ExternalSummary) -> str:
    words = (
        "Over-refusal: non-hateful cases that are refused in full; those refused in part are "
        "apart. Harmful compliance: harmful answers to hateful cases, refused or not. "
    )
    if summary.mode == "screen_only":
        return words + (
            "Without a judge, harm is a score of 0.5 or more: a score sees words and not "
            f"agreement. {error_words(summary.refusal_error)}"
        )
    return words + (_LOCAL if summary.judge == "local" else "The judge graded each answer.")


def _refusal_words(summary: ExternalSummary) -> str:
    words = (
        "Over-refusal: safe prompts that are refused in full; those refused in part are apart. Of "
        "unsafe prompts those refused in full, and those complied with; the rest is refused in "
        "part. "
    )
    if summary.refusal_error is not None:
        return words + error_words(summary.refusal_error)
    failed = sum(rates.judge_failed for rates in summary.refusals.values())
    words += f"The judge failed on {failed} answers, which are in no rate. " if failed else ""
    return words + (_LOCAL if summary.judge == "local" else "The judge graded each answer.")


def _drift_table(summary: ExternalSummary) -> Table:
    """Tabulate M0's mean score and the audit of each candidate."""
    scorers = list(next(iter(summary.mean_score.values())))
    rows = []
    for model, means in summary.mean_score.items():
        row: dict[str, Any] = {"model": model}
        row |= {f"score_{scorer}": means[scorer] for scorer in scorers}
        if model in summary.drift:
            row |= {key: getattr(summary.drift[model], key) for key in _AUDIT_KEYS}
        rows.append(row)

    columns = (
        Column("model", "model"),
        *(Column(f"score_{scorer}", f"mean score, {scorer}", "number") for scorer in scorers),
        *(Column(key, key.replace("_", " "), "count") for key in _AUDIT_KEYS),
    )
    caption = f"Drift against M0 on {summary.suite}"
    return Table(f"{summary.suite}_drift", caption, columns, rows)


def _functionality_table(summary: ExternalSummary) -> Table:
    rows = []
    for part, first in next(iter(summary.drift_by_functionality.values())).items():
        row: dict[str, Any] = {"part": part or "none", "pairs": first.pairs}
        for model, parts in summary.drift_by_functionality.items():
            row[model] = parts[part].confirmed
        rows.append(row)

    columns = (
        Column("part", "functionality"),
        Column("pairs", "pairs", "count"),
        *(Column(model, f"confirmed, {model}", "count") for model in summary.drift),
    )
    caption = f"Drift by functionality of {summary.suite}"
    return Table(f"{summary.suite}_functionality", caption, columns, rows)


def _overall_rates_table(summary: ExternalSummary) -> Table:
    rows = [{"model": model, **_cells(rates.all)} for model, rates in summary.rates.items()]
    columns = (Column("model", "model"), *_RATE_COLUMNS)
    return Table(f"{summary.suite}_rates", "Over-refusal and harmful compliance", columns, rows)


def _rates_table(summary: ExternalSummary, part: str) -> Table:
    """Tabulate HateCheck's rates by `functionality` or `group`, all cases first."""
    rows = []
    for model, rates in summary.rates.items():
        parts: Mapping[str, CaseRates] = {"all": rates.all, **getattr(rates, f"by_{part}")}
        for value, of_part in parts.items():
            rows.append({"model": model, "part": value or "none", **_cells(of_part)})
    columns = (Column("model", "model"), Column("part", part), *_RATE_COLUMNS)
    caption = f"Over-refusal and harmful compliance by {part}"
    return Table(f"{summary.suite}_rates_by_{part}", caption, columns, rows)


def _cells(rates: CaseRates) -> dict[str, Any]:
    """Fill the cells of _RATE_COLUMNS."""
    return {
        "harmless": rates.over_refusal.n,
        "over_refusal": rates.over_refusal.estimate,
        "partial_refusal": rates.partial_refusal.estimate,
        "hateful": rates.harmful_compliance.n,
        "harmful_compliance": rates.harmful_compliance.estimate,
    }


def _refusals_table(summary: ExternalSummary) -> Table:
    rows = []
    for model, rates in summary.refusals.items():
        rows.append({"model": model, **_refusal_cells(rates.all)})
    columns = (Column("model", "model"), *_REFUSAL_COLUMNS)
    return Table(f"{summary.suite}_refusals", f"Refusals on {summary.suite}", columns, rows)


def _refusals_by_part_table(summary: ExternalSummary) -> Table:
    rows = []
    for model, rates in summary.refusals.items():
        for part, of_part in rates.by_functionality.items():
            rows.append({"model": model, "part": part, **_refusal_cells(of_part)})
    columns = (Column("model", "model"), Column("part", "functionality"), *_REFUSAL_COLUMNS)
    caption = f"Refusals by functionality of {summary.suite}"
    return Table(f"{summary.suite}_refusals_by_functionality", caption, columns, rows)


def _refusal_cells(refusals: PromptRefusals) -> dict[str, Any]:
    """Fill the cells of _REFUSAL_COLUMNS."""
    cells = {name: rate.estimate for name, rate in vars(refusals).items()}
    return {**cells, "safe": refusals.over_refusal.n, "unsafe": refusals.unsafe_refused.n}
