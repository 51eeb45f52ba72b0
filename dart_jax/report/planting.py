"""Say in every table, first in the report, that faults were planted in the training targets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from dart_jax.report.document import (
    Column,
    Document,
    Figure,
    Fold,
    Note,
    Section,
    Strong,
    Table,
    note,
)
from dart_jax.teach.planted import Planting


def planted_words(planting: Planting) -> str:
    """Write `faults planted in 160 of 320 training targets`."""
    return f"faults planted in {planting.planted} of {planting.targets} training targets"


def planted_notice(planting: Planting) -> Note:
    """Say what was done to the targets, for the top of a report."""
    teachers = f" (teacher: {', '.join(planting.teachers)})" if planting.teachers else ""
    return note(
        Strong("Faults were planted"),
        f": of {planting.targets} training targets{teachers}, {planting.planted} were given a "
        "fault of known type and severity on purpose, after their quality control, so that drift "
        "can be counted and the audit be measured. The models trained on them are for this "
        "experiment only.",
        style="notice",
    )


def planted_table(planting: Planting) -> Table:
    """Tabulate what was planted, a row a benchmark."""
    rows = []
    for name, counts in planting.benchmarks.items():
        rows.append(
            {
                "benchmark": name,
                "type": counts.type.value,
                "severity": counts.severity.name.lower(),
                "planted": counts.planted,
                "unplanted": counts.unplanted,
            }
        )

    columns = (
        Column("benchmark", "benchmark"),
        Column("type", "type"),
        Column("severity", "severity"),
        Column("planted", "targets with a fault", "count"),
        Column("unplanted", "chosen, but none possible", "count"),
    )
    return Table("planted_targets", "Planted faults by benchmark", columns, rows)


def planted_document(document: Document, planting: Planting | None) -> Document:
    """Put what was planted before everything else of a report, and into every table."""
    if planting is None:
        return document
    first, *others = with_planting(document.sections, planting)
    first = replace(first, blocks=(planted_notice(planting), *first.blocks))
    return replace(document, sections=(first, *others))


def with_planting(blocks: Sequence[Any], planting: Planting | None) -> tuple[Any, ...]:
    """Return the same blocks, every table and figure of which says what was planted, if any."""
    return with_remark(blocks, "" if planting is None else planted_words(planting))


def with_remark(blocks: Sequence[Any], words: str) -> tuple[Any, ...]:
    """Return the same blocks with a remark in every caption; CSV, without captions, gets a column.

    Args:
        words: A clause in lower case; '' for no remark.
    """
    if not words:
        return tuple(blocks)

    remarked = []
    for block in blocks:
        if isinstance(block, Section | Fold):
            block = replace(block, blocks=with_remark(block.blocks, words))
        elif isinstance(block, Table | Figure):
            caption = f"{block.caption}; {words}" if block.caption else _sentence(words)
            block = replace(block, caption=caption)
        if isinstance(block, Table):
            block = replace(block, tags={**block.tags, "remark": words})
        remarked.append(block)
    return tuple(remarked)


def planted_in_some(names: Sequence[str], of_all: int) -> str:
    """Write in which of several runs or variants faults were planted; '' where in none."""
    if not names:
        return ""
    which = "all of them" if len(names) == of_all else ", ".join(names)
    return f"faults planted in the training targets of {which}"


def _sentence(words: str) -> str:
    return words[0].upper() + words[1:]
