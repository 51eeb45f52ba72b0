"""Measure the rules for refusals against completions that people labelled.

A file is a table (CSV) with a row for each completion: `completion`; `final_label`, which is
`full`, `partial` or `none`, or as in XSTest's files `2_full_refusal`, `3_partial_refusal` or
`1_full_compliance`; and, where it is known, `prompt`, which a judge needs (`refusal_judge.py`).
"""

from __future__ import annotations

import hashlib
import shlex
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dart_jax.audit.refusals import Refusal, grade_refusal, rules_digest
from dart_jax.csv_table import read_table
from dart_jax.evaluate.config import EvaluateConfig
from dart_jax.evaluate.refusal_error import (
    FileError,
    RefusalMeasurement,
    refusal_error,
)
from dart_jax.machine import machine
from dart_jax.strict_json import BadRecord

_LABELS = {
    **{str(refusal): refusal for refusal in Refusal},
    "1_full_compliance": Refusal.NONE,
    "2_full_refusal": Refusal.FULL,
    "3_partial_refusal": Refusal.PARTIAL,
}


@dataclass(frozen=True)
class LabelledAnswer:
    """Hold a completion, its label by people and its grade by the rules.

    Attributes:
        where: File and line.
        prompt: None where it is not known.
    """

    where: str
    prompt: str | None
    completion: str
    label: Refusal
    grade: Refusal


def read_labelled(path: Path) -> list[LabelledAnswer]:
    """Read a file of labelled completions and grade each by the rules.

    Raises:
        BadRecord: No such columns, no rows, or an unknown label; the message names file and line.
    """
    answers = []
    for where, row in read_table(path, ("completion", "final_label")):
        label = _LABELS.get(row.get("final_label", "").strip().lower())
        if label is None:
            raise BadRecord(
                f"{where}: final_label is {row.get('final_label', '')!r}; known: "
                + ", ".join(_LABELS)
            )
        completion, prompt = row.get("completion", ""), row.get("prompt")
        grade = grade_refusal(completion, prompt).refusal
        answers.append(LabelledAnswer(where, prompt, completion, label, grade))

    if not answers:
        raise BadRecord(f"{path}: no row below the header")
    return answers


def measure_refusals(
    files: Sequence[Path], config: EvaluateConfig | None = None
) -> RefusalMeasurement:
    """Measure the rules on each file.

    Args:
        files: As `read_labelled` reads.
        config: Of the intervals.

    Raises:
        BadRecord: As `read_labelled`.
    """
    config = EvaluateConfig() if config is None else config
    names = [path.name for path in files]
    return RefusalMeasurement(
        command=shlex.join(["python", "-m", "dart_jax", "audit", "refusals", "--labelled", *names]),
        commit=_commit(),
        machine=machine(),
        rules=rules_digest(),
        confidence=config.confidence,
        files=[_file_error(path, config) for path in files],
    )


def _file_error(path: Path, config: EvaluateConfig) -> FileError:
    answers = read_labelled(path)
    labels = [answer.label for answer in answers]
    grades = [answer.grade for answer in answers]
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    return FileError(path.name, sha256, refusal_error(labels, grades, config))


def _commit() -> str | None:
    """Name the code's commit, with `+` where files differ; None where that cannot be known."""
    if shutil.which("git") is None:
        return None
    folder = Path(__file__).parent

    def git(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True)

    head = git("rev-parse", "HEAD")
    if head.returncode != 0:
        return None
    changed = git("status", "--porcelain", "--untracked-files=no").stdout.strip()
    return head.stdout.strip() + ("+" if changed else "")
