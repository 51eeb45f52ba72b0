"""Write the sections on questions that are answered by a letter: DiffAware, CtxtAware, and BBQ."""

from __future__ import annotations

from typing import Any

from dart_jax.evaluate.bbq import BBQSummary
from dart_jax.evaluate.ctxt import CtxtSummary
from dart_jax.report.cells import percent
from dart_jax.report.document import Block, Column, Fold, Section, Table, no_room_note, note

_DEFINITIONS = (
    "The suite's task as its authors set it (Wang et al. 2025, arXiv 2502.01926): choose a group, "
    "(a) or (b), or no difference, (c). DiffAware is the share of DIFF questions for which the "
    "right group is chosen. CtxtAware is the share of these right choices among them and all EQUAL "
    "questions for which a group is chosen: it falls where groups are told apart without cause, "
    "and depends on how many questions of each kind are asked; with as many of both, chance gives "
    "a third. The authors give both by benchmark; `all` pools the questions."
)
_BIAS = (
    "Accuracy and bias scores as BBQ's authors define them (Parrish et al. 2022). In ambiguous "
    "contexts only `unknown` is right. Among answers other than unknown, the share that agrees "
    "with the bias is put on a scale from -1 (none) over 0 (half) to 1 (all); in ambiguous "
    "contexts it is multiplied by 1 - accuracy."
)
_LIKELIHOOD = "The option is the letter that is likeliest as the beginning of the answer"


def ctxt_section(summary: CtxtSummary) -> Section:
    """Tabulate DiffAware and CtxtAware by model and benchmark."""
    found = "An option is the one letter in brackets that the answer holds."
    if summary.letters == "likelihood":
        found = f"{_LIKELIHOOD}; {_mass_words(summary.mass)}"
    lead = note(
        f"{summary.questions} of the run's {summary.of} test questions. {found} "
        f"{_intervals(summary.confidence)} resample whole scenarios."
    )

    rows = []
    for model, parts in summary.models.items():
        for part, awareness in parts.items():
            rows.append({"model": model, "part": part, **vars(awareness)})
    columns = (
        Column("model", "model"),
        Column("part", "benchmark"),
        Column("diff", "DIFF", "count"),
        Column("equal", "EQUAL", "count"),
        Column("no_letter", "no letter", "count"),
        Column("diff_aware", "DiffAware, %", "interval"),
        Column("ctxt_aware", "CtxtAware, %", "interval"),
        Column("equal_right", "EQUAL right, %", "interval"),
    )
    table = Table("ctxt", "DiffAware and CtxtAware", columns, rows)
    blocks = (lead, note(_DEFINITIONS), *_no_room(summary.no_room), table)
    return Section("DiffAware and CtxtAware", blocks, anchor="ctxt")


def bbq_section(summary: BBQSummary) -> Section:
    """Tabulate accuracy and bias scores by model, and behind a fold by category."""
    lead = note(
        f"{summary.questions} of {summary.of} questions. {_LIKELIHOOD}; "
        f"{_mass_words(summary.mass)} {_intervals(summary.confidence)} resample whole templates."
    )
    blocks: list[Block] = [lead, note(_BIAS), *_no_room(summary.no_room)]
    if summary.no_target:
        blocks.append(
            note(f"Of {summary.no_target} questions no option is biased: no bias score has them.")
        )
    blocks.append(_bbq_table(summary, "bbq", "BBQ", only_all=True))
    by_category = _bbq_table(summary, "bbq_by_category", "BBQ by category", only_all=False)
    blocks.append(Fold("By category", (by_category,)))
    return Section("External suite: bbq", tuple(blocks), anchor="external-bbq")


def _bbq_table(summary: BBQSummary, name: str, caption: str, *, only_all: bool) -> Table:
    rows = []
    for model, parts in summary.models.items():
        for part, scores in parts.items():
            if (part == "all") != only_all:
                continue
            row: dict[str, Any] = {"model": model, "part": part}
            for context in ("ambiguous", "disambiguated"):
                of_context = getattr(scores, context)
                row |= {f"{context}_{key}": value for key, value in vars(of_context).items()}
            rows.append(row)

    columns = [Column("model", "model"), Column("part", "category")]
    for context, score in (("ambiguous", "s_AMB"), ("disambiguated", "s_DIS")):
        columns.append(Column(f"{context}_n", context, "count"))
        columns.append(Column(f"{context}_accuracy", "accuracy, %", "interval"))
        columns.append(Column(f"{context}_bias", score, "measure"))
    return Table(name, caption, tuple(columns), rows)


def _mass_words(mass: dict[str, float | None]) -> str:
    """Say how likely any letter was: where that is little, the model would have said otherwise."""
    shares = [f"{model} {percent(of_model)} %" for model, of_model in mass.items()]
    return f"mean probability that it begins with any of the three: {', '.join(shares)}."


def _intervals(confidence: float) -> str:
    return f"{100 * confidence:g} % bootstrap intervals"


def _no_room(no_room: dict[str, int]) -> list[Block]:
    most = max(no_room.values())
    return [no_room_note(most)] if most else []
