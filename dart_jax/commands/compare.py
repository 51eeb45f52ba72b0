"""`python -m dart_jax evaluate compare RUN RUN...` shows finished runs side by side."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from dart_jax.evaluate.compare import ComparedRun, other_questions, paired_runs
from dart_jax.evaluate.config import EvaluateConfig
from dart_jax.evaluate.decisions import QuestionDecisions
from dart_jax.pipeline.finished import read_finished, run_folder
from dart_jax.records import read_jsonl, write_text
from dart_jax.report.comparison import paired_table, parts_of, runs_table
from dart_jax.report.planting import planted_in_some, with_remark
from dart_jax.report.to_csv import to_csv
from dart_jax.report.to_latex import to_latex
from dart_jax.report.to_text import to_text

_SEED = 0  # of the resampling between runs, which have seeds of their own


def compare(paths: Sequence[Path], csv: Path | None, latex: Path | None) -> None:
    """Print the tables, and write them to the files that are given.

    Raises:
        FileNotFoundError, StaleStage, ValueError: A folder is no finished run; says which.
    """
    runs = read_runs(paths)

    whole = runs_table(runs)
    tables = parts_of(runs, whole)
    paired = paired_runs(runs, EvaluateConfig(), _SEED)
    if paired:
        tables.append(paired_table(paired))

    planted = [run.name for run in runs if run.summary.planting is not None]
    whole, *tables = with_remark([whole, *tables], planted_in_some(planted, len(runs)))
    print(to_text(tables))

    for name, how in other_questions(runs).items():
        print(
            f"WARNING: {name} was tested on other questions ({how}): its figures stand beside the "
            "others without being comparable, and it has no paired test",
            file=sys.stderr,
        )

    if csv is not None:
        write_text(csv, to_csv(whole))
    if latex is not None:
        write_text(latex, "\n".join(to_latex(table) for table in tables))


def read_runs(paths: Sequence[Path]) -> list[ComparedRun]:
    """Read finished runs, named by their folders.

    Raises:
        FileNotFoundError, StaleStage, ValueError: As `compare`; also for a run given twice.
    """
    resolved = [path.resolve() for path in paths]
    twice = [str(path) for path, count in Counter(resolved).items() if count > 1]
    if twice:
        raise ValueError(f"{twice[0]} is given twice")
    names = Counter(path.name for path in resolved)
    return [
        _read(path, path.name if names[path.name] == 1 else f"{path.parent.name}/{path.name}")
        for path in resolved
    ]


def _read(path: Path, name: str) -> ComparedRun:
    folder = run_folder(path)
    with folder.lock():
        found = read_finished(folder)
        decisions = folder / "evaluation/decisions.jsonl"
        if not decisions.exists():
            raise ValueError(
                f"{path} was evaluated by an earlier version, without {decisions.name}; run its "
                f"evaluation again: python -m dart_jax.train --config {path / 'config.yaml'}"
            )
        return ComparedRun(
            name=name,
            config=found.config.to_dict(),
            summary=found.summary,
            decisions=read_jsonl(decisions, QuestionDecisions),
            targets=found.targets,
        )
