"""From the runs of a sweep to its tables and picture."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dart_jax.commands.sweep.config import Sweep
from dart_jax.evaluate.summary import SUMMARY, read_summary
from dart_jax.evaluate.sweep_rows import Result
from dart_jax.evaluate.sweep_table import Failure, sweep_table
from dart_jax.report.sweep_report import write_sweep
from dart_jax.run_dir import hash_path

# A variant that differs in one of these is measured otherwise than the rest.
_MEASURED_BY = ("data", "decode", "audit", "judge", "evaluate")


def write_results(sweep: Sweep, complete: Sequence[int], failures: Sequence[Failure]) -> None:
    """Write the tables and the picture of the runs that are done.

    Args:
        complete: Their places in `sweep.runs`.
    """
    runs = [sweep.runs[number] for number in complete]
    results = []
    for run in runs:
        summary = read_summary(_folder(run) / SUMMARY)
        m_int = str(hash_path(_folder(run) / "adapters/M_int"))
        results.append(Result(run.variant, run.seed, summary, m_int))

    table = sweep_table(
        results,
        sweep.variants,
        sweep.runs[0].config.evaluate.confidence,
        name=sweep.name,
        seeds=sweep.seeds,
        runs=len(sweep.runs),
        measured_differently=_differing(runs),
        failures=failures,
        expectations=sweep.expectations,
    )
    write_sweep(sweep.out, table)


def _folder(run: Any) -> Path:
    return Path(run.config.run.root) / run.config.run.name


def _differing(runs: Sequence[Any]) -> list[str]:
    """Sections by which something is measured and in which variants differ."""
    configs = [run.config.to_dict() for run in runs]
    for config in configs:
        # A frontier measures further models, and nothing else in another way.
        config["evaluate"].pop("frontier", None)

    differing = []
    for section in _MEASURED_BY:
        if len({json.dumps(config[section], default=str) for config in configs}) > 1:
            differing.append(section)
    return differing
