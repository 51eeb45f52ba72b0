"""Send a sample of a run's audited pairs to people, and measure the audit by their answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from dart_jax.audit.agreement import ANNOTATION_METRICS, Agreement, measure
from dart_jax.audit.annotation_sample import (
    BLIND,
    OPEN,
    KeyedItem,
    draw_sample,
    page_key,
    texts_digest,
    write_sample,
)
from dart_jax.audit.annotations import read_annotations
from dart_jax.audit.audited import read_pool
from dart_jax.audit.sample_size import HALF_WIDTH
from dart_jax.commands.refresh_report import refresh_report
from dart_jax.records import read_jsonl, write_jsonl, write_text
from dart_jax.stages.context import Run
from dart_jax.summaries import to_pretty_json

KEY = "annotation_key.jsonl"
"""It lies outside `audit/`, so that people's answers can judge a repeated audit, too."""


def export_annotations(run: Run, out: Path, size: int) -> tuple[int, tuple[Path, Path]]:
    """Write a sample of the drift pool's pairs into `out`, and its key into the run's folder.

    Returns:
        The number of items, and the files: JSONL and CSV.

    Raises:
        FileExistsError: The run has a key already, or `out` a sample.
    """
    key = run.folder / KEY
    if key.exists():
        raise FileExistsError(
            f"{key} belongs to a sample that was exported before; delete it if nobody is to "
            "annotate that one any more"
        )
    audited = read_pool(run.folder.path, run.config.audit.screen_by)
    pairs = list(audited.pairs.values())
    sample = draw_sample(pairs, audited.outcomes, size, run.config.run.seed)
    paths = write_sample(out, sample, audited.pairs, run.questions)
    write_jsonl(key, sample)
    return len(sample), paths


def import_annotations(
    run: Run, files: Sequence[Path], half_width: float = HALF_WIDTH
) -> Agreement:
    """Measure the audit against answers; write the metrics and, where there is one, the report.

    The answers are all on the sample that was exported, or all from the report's page, blinded or
    with the verdicts in view; the page's items are worked out again from the pairs.

    Returns:
        See `audit.agreement.measure`; and `source`: `sample`, `page_blind` or `page_open`.

    Raises:
        FileNotFoundError: A file is not there.
        BadRecord: Naming file and line of bad rows.
        ValueError: The pairs are not those any more whose texts people saw, nobody answered, or
            the answers are of several kinds.
    """
    audited = read_pool(run.folder.path, run.config.audit.screen_by)
    pairs, outcomes = audited.pairs, audited.outcomes

    path = run.folder / KEY
    keys = {
        "sample": read_jsonl(path, KeyedItem) if path.exists() else [],
        "page_blind": page_key(list(pairs.values()), outcomes, BLIND),
        "page_open": page_key(list(pairs.values()), outcomes, OPEN),
    }

    source_of = {keyed.item: source for source, key in keys.items() for keyed in key}
    annotations = read_annotations(files, source_of)
    sources = sorted({source_of[annotation.item] for annotation in annotations})
    if len(sources) > 1:
        raise ValueError(
            f"the answers are of several kinds ({', '.join(sources)}), each a sample of its own; "
            "import one kind at a time"
        )

    source = sources[0] if sources else "sample"
    for keyed in keys["sample"] if source == "sample" else ():
        pair = pairs.get(keyed.question_id)
        if pair is None or texts_digest(pair) != keyed.texts:
            raise ValueError(
                f"{keyed.question_id}: the answers are not those that people saw, since the models "
                f"or their decoding changed; delete {path} and export another sample"
            )

    config = run.config.evaluate
    agreement = measure(
        keys[source],
        outcomes,
        annotations,
        resamples=config.bootstrap_samples,
        confidence=config.confidence,
        seed=run.config.run.seed,
        half_width=half_width,
    )

    agreement = replace(agreement, source=source)
    write_text(run.folder / ANNOTATION_METRICS, to_pretty_json(agreement))
    refresh_report(run.folder)
    return agreement
