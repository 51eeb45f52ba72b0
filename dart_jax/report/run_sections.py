"""Write the sections on the run itself: training, cost, examples, limits, provenance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dart_jax.chat.usage import Usage
from dart_jax.evaluate.findings import mostly_unparseable
from dart_jax.evaluate.models import MODELS, SEVERITIES
from dart_jax.evaluate.summary import RunSummary
from dart_jax.records import DriftType
from dart_jax.report import figures
from dart_jax.report.document import (
    Block,
    Bullets,
    Column,
    Figure,
    Fold,
    Note,
    Section,
    Table,
    Verbatim,
    note,
)
from dart_jax.report.planting import planted_table
from dart_jax.report.protocol import protocol_words
from dart_jax.report.report_data import DriftExample
from dart_jax.report.results import same_model
from dart_jax.report.settings import essential_settings, settings_table
from dart_jax.report.terms import fault_words, form_words

_SHOWN_EXAMPLES = 3


def what_was_run(summary: RunSummary, config: Mapping[str, Any]) -> Section:
    """Write the section on the essential settings, and on what was planted."""
    blocks: list[Block] = [essential_settings(config)]
    if config["model"].get("adapter"):
        blocks.insert(0, note("M_int was not trained here: it is the adapter below, as it was."))
    if config["model"].get("candidate"):
        blocks.insert(
            0,
            note(
                "M_int was not trained here: it is the whole checkpoint below that is called the "
                "candidate, and M_DART is an adapter on it."
            ),
        )
    if summary.planting is not None:
        blocks.append(planted_table(summary.planting))
    return Section("What was run", tuple(blocks), anchor="run")


def training(
    summary: RunSummary,
    losses: Mapping[str, Sequence[tuple[int, float]]],
    validation: Sequence[tuple[float, float]] = (),
    sft: Mapping[str, Any] | None = None,
) -> Section:
    """Write the section on the repair set, the rejected targets and the loss curves.

    Args:
        losses: `(step, loss in nats a token)` by stage, distill and repair.
        validation: `(epochs, loss)` of the distill targets that were held out.
        sft: The section of that name in the run's settings.
    """
    blocks: list[Block] = [*repair_blocks(summary), *_reject_blocks(summary)]
    if summary.labels is not None:
        labels = summary.labels
        agreement = "an unknown share" if labels.agreement is None else f"{labels.agreement:.1%}"
        blocks.append(
            note(
                "The teacher argued for labels that it predicted itself: "
                f"{agreement} of them are right, and {labels.no_label} of {labels.questions} "
                "training questions got none."
            )
        )

    caption = f"Training loss by step; {protocol_words(summary)}"
    blocks.append(Figure("loss", caption, figures.loss_curves(losses, validation)))
    if validation:
        blocks.append(validation_note(validation, sft or {}))
    return Section("Training", tuple(blocks), anchor="training")


def validation_note(validation: Sequence[tuple[float, float]], sft: Mapping[str, Any]) -> Note:
    """Say how the loss of the held-out rows went, where it was least, and what it stopped.

    Args:
        validation: `(epochs, loss)`: the measurement before the first step, and all later ones.
        sft: The section of that name in the run's settings.
    """
    [(_, before), *after] = validation
    epochs, last = after[-1]
    if all(epoch == int(epoch) for epoch, _ in after):
        course = f"then by epoch {', '.join(f'{loss:.3f}' for _, loss in after)}"
    else:
        course = f"{last:.3f} at the last of {len(after)} later measurements"

    least, least_loss = min(validation, key=lambda entry: entry[1])
    best = "before training" if least == 0 else f"after epoch {least:.3g}"
    words = (
        "Loss of the held-out rows (sft.validation_share; weighted cross-entropy, nats): "
        f"{before:.3f} before training, {course}; least {best} ({least_loss:.3f})."
    )

    # A run of an earlier version has no such setting.
    patience = sft.get("early_stopping")
    if patience is not None:
        words += (
            f" Early stopping (sft.early_stopping {patience}): training ended after {epochs:.3g} "
            f"of at most {sft['epochs']} epochs, and M_int is the adapter of the least loss."
        )
    return note(words)


def repair_blocks(summary: RunSummary) -> list[Block]:
    """Tabulate repair targets and their weight by severity, or say why there are none."""
    if summary.m_dart_is_m_int:
        return [same_model(summary)]
    rows = []
    for severity in SEVERITIES:
        if severity in summary.repair:
            rows.append({"severity": severity, **vars(summary.repair[severity])})
    columns = (
        Column("severity", "severity"),
        Column("examples", "examples", "count"),
        Column("weight_mass", "weight mass", "mass"),
    )
    return [Table("repair", "Repair targets by severity of the drift", columns, rows)]


def _reject_blocks(summary: RunSummary) -> list[Block]:
    """Tabulate targets that the teacher could not write, by reason and benchmark."""
    rows: list[dict[str, Any]] = []
    benchmarks: set[str] = set()
    for stage, reasons in summary.rejects.items():
        for reason, counts in reasons.items():
            total = sum(counts.values())
            rows.append({"stage": stage, "reason": reason, "questions": total, **counts})
            benchmarks |= counts.keys()
    if not rows:
        return [note("No target was rejected.")]

    # A missing cell would be empty, as if nobody had counted; here it is a zero.
    names = sorted(benchmarks)
    for row in rows:
        row |= {name: row.get(name, 0) for name in names}

    title = "Rejected targets by reason and benchmark"
    return [_reject_table("rejects", title, rows, names), *_reject_type_blocks(summary)]


def _reject_type_blocks(summary: RunSummary) -> list[Block]:
    """Tabulate repairs that were rejected, by reason and the type of drift to repair."""
    if not summary.judges_types:
        return []
    types = [type.value for type in DriftType]
    rows: list[dict[str, Any]] = []
    for stage, reasons in summary.rejects_by_type.items():
        for reason, counts in reasons.items():
            of_types = {name: counts.get(name, 0) for name in types}
            total = sum(counts.values())
            rows.append({"stage": stage, "reason": reason, "questions": total, **of_types})
    if not rows:
        return []
    title = "Rejected repairs by reason and type of drift"
    return [_reject_table("rejects_by_type", title, rows, types)]


def _reject_table(name: str, title: str, rows: list[dict[str, Any]], groups: list[str]) -> Table:
    columns = (
        Column("stage", "stage"),
        Column("reason", "reason"),
        Column("questions", "questions", "count"),
        *(Column(group, group, "count") for group in groups),
    )
    return Table(name, title, columns, rows)


def cost(summary: RunSummary, usage: Mapping[str, Usage]) -> Section:
    """Tabulate seconds by stage, and what services took by stage and role, if asked."""
    blocks: list[Block] = [_seconds_table(summary)]
    if usage:
        blocks.append(_usage_table(usage))
        blocks.append(
            note(
                "Over all starts of the run; retries are requests, too. The store answers what "
                "was asked before."
            )
        )
    else:
        blocks.append(note("No service was asked, nothing was paid."))
    return Section("Cost and time", tuple(blocks), anchor="cost")


def _seconds_table(summary: RunSummary) -> Table:
    total = sum(summary.seconds.values())
    rows = []
    for stage, seconds in [*summary.seconds.items(), ("total", total)]:
        rows.append({"stage": stage, "seconds": seconds, "share": seconds / total if total else 0})
    columns = (
        Column("stage", "stage"),
        Column("seconds", "seconds", "seconds"),
        Column("share", "%", "rate"),
    )
    return Table("seconds", "Wall-clock time of each stage's last start", columns, rows)


def _usage_table(usage: Mapping[str, Usage]) -> Table:
    accounts = {**usage, "total": sum(usage.values(), Usage())}
    rows = [{"account": account, **vars(used)} for account, used in accounts.items()]

    columns = (
        Column("account", "stage/role"),
        Column("requests", "requests", "count"),
        Column("answers", "answers", "count"),
        Column("failures", "failures", "count"),
        Column("stored", "from the store", "count"),
        Column("prompt_tokens", "prompt tokens", "count"),
        Column("completion_tokens", "completion tokens", "count"),
        Column("cost_usd", "US dollars (n/a: no price set)", "dollars"),
    )
    return Table("usage", "Requests, tokens and dollars of each stage's services", columns, rows)


def examples(cases: Sequence[DriftExample], judged: bool) -> Section:
    """Show drift cases with all three texts, folded away behind a warning.

    Args:
        judged: Whether anyone told their types; else the scorer alone decided.
    """
    if not cases:
        return Section("Examples", (note("No confirmed drift on test questions."),), "examples")

    warning = note(
        "Content warning: these texts may be offensive. They are model output, not opinion.",
        style="notice",
    )

    folds = []
    for case in cases[:_SHOWN_EXAMPLES]:
        title = f"{case.question_id}: {fault_words(case.type, case.severity, judged)}"
        texts = [Verbatim("Question", case.question)]
        texts += [Verbatim(name, case.texts[name]) for name in MODELS]
        folds.append(Fold(f"{title} (content warning)", tuple(texts)))
    return Section("Examples", (warning, *folds), "examples")


def limits(summary: RunSummary, config: Mapping[str, Any]) -> Section:
    """Write the section on what the figures do not show."""
    items = tuple(note(sentence) for sentence in limit_sentences(summary, config))
    return Section("Limits", (Bullets(items),), "limits")


def limit_sentences(summary: RunSummary, config: Mapping[str, Any]) -> list[str]:
    """State the limits of a run's figures, a sentence or two each."""
    found = ["Compare every accuracy with the shortcut baseline: wording gives labels away."]
    found += [f"{form_words(summary, model)}." for model in mostly_unparseable(summary)]

    if summary.judge == "local":
        found.append(
            "The local judge (135M) exercises the pipeline and proves nothing: read the drift "
            "figures as a test of the machinery."
        )
    if summary.judge == "none":
        found.append(
            "No judge was asked: drift is what the harm scorer sees, its severity the size of the "
            "rise, and its type was not judged."
        )

    if config["data"]["suite"] == "difference_awareness":
        found.append(
            "The authors of the suite ask for evaluation, not training; DART trains on it."
        )
    return found


def provenance(
    config: Mapping[str, Any], versions: Mapping[str, str], hashes: Sequence[tuple[str, str, str]]
) -> Section:
    """List every setting, the versions, and the hashes of what stages read and wrote.

    Args:
        hashes: `(stage, file, SHA-256)`.
    """
    seeds = note(f"Seeds: run {config['run']['seed']}, data {config['data']['seed']}.")
    rows = [{"package": name, "version": version} for name, version in versions.items()]
    packages = (Column("package", "package"), Column("version", "version"))
    hashed = [{"stage": stage, "file": file, "hash": value} for stage, file, value in hashes]
    files = (Column("stage", "stage"), Column("file", "file"), Column("hash", "SHA-256"))
    folds = (
        Fold("Configuration, every setting", (settings_table(config),)),
        Fold("Versions", (Table("versions", "Packages and platform", packages, rows),)),
        Fold("Hashes", (Table("hashes", "Inputs and outputs of the stages", files, hashed),)),
    )
    return Section("Provenance", (seeds, *folds), anchor="provenance")
