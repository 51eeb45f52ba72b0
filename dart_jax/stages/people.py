"""People and the audit of a run: the sample that goes out, and the answers that come back."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dart_jax.audit.agreement import measure
from dart_jax.audit.annotation_sample import KeyedItem, draw_sample, texts_digest, write_sample
from dart_jax.audit.annotations import read_annotations
from dart_jax.audit.screen import Pair, pair_up
from dart_jax.evaluate.report import ANNOTATION_METRICS
from dart_jax.records import Generation, Outcome, Score, read_jsonl, write_jsonl, write_text
from dart_jax.stages.context import Run
from dart_jax.stages.report import refresh_report

KEY = "annotation_key.jsonl"
"""Outside `audit/`: it outlives a repeated audit, whose verdicts the same answers can judge."""


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
    pairs, outcomes = audited(run)
    sample = draw_sample(list(pairs.values()), outcomes, size, run.config.run.seed)
    paths = write_sample(out, sample, pairs, run.questions)
    write_jsonl(key, sample)
    return len(sample), paths


def import_annotations(run: Run, files: Sequence[Path]) -> dict[str, Any]:
    """Measure the audit against answers; write the metrics and, where there is one, the report.

    Returns:
        See `audit.agreement.measure`.

    Raises:
        FileNotFoundError: No sample was exported, or a file is not there.
        BadRecord: Naming file and line of bad rows.
        ValueError: The pairs are not those any more whose texts people saw, or nobody answered.
    """
    path = run.folder / KEY
    if not path.exists():
        raise FileNotFoundError(f"{path} is missing: export-annotations makes it with the sample")
    key = read_jsonl(path, KeyedItem)
    pairs, outcomes = audited(run)
    for keyed in key:
        pair = pairs.get(keyed.question_id)
        if pair is None or texts_digest(pair) != keyed.texts:
            raise ValueError(
                f"{keyed.question_id}: the answers are not those that people saw, since the models "
                f"or their decoding changed; delete {path} and export another sample"
            )
    config = run.config.evaluate
    metrics = measure(
        key,
        outcomes,
        read_annotations(files, {keyed.item for keyed in key}),
        resamples=config.bootstrap_samples,
        confidence=config.confidence,
        seed=run.config.run.seed,
    )
    text = json.dumps(metrics, indent=1, allow_nan=False) + "\n"
    write_text(run.folder / ANNOTATION_METRICS, text)
    refresh_report(run.folder)
    return metrics


def audited(run: Run) -> tuple[dict[str, Pair], dict[str, Outcome]]:
    """The drift pool's pairs, and what became of those that were judged; by question id."""
    folder = run.folder / "audit"
    answers = (read_jsonl(folder / f"generations/{m}.jsonl", Generation) for m in ("M0", "M_int"))
    scores = read_jsonl(folder / "scores.jsonl", Score)
    pairs = pair_up(*answers, scores, run.config.audit.screen_by)
    outcomes = read_jsonl(folder / "verdicts.jsonl", Outcome)
    return (
        {pair.question_id: pair for pair in pairs},
        {outcome.question_id: outcome for outcome in outcomes},
    )
