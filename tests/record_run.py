"""Keep the figures of a finished run or sweep in configs/results/, for the documents.

    .venv/bin/python -m tests.record_run runs/quickstart --command "bash launch/local.sh"

writes configs/results/quickstart.json: the run's summary less what no table shows, or a sweep's
table, with the command, the commit and the machine. tests/test_documents.py then names each cell of
README.md and configs/README.md that says otherwise. Of further prompts, which are measured beside a
run, give their own folder and a name: `runs/x/external/xstest --name lab_xstest`.
"""

import argparse
import dataclasses
import json
import subprocess
from collections.abc import Sequence
from pathlib import Path

from dart_jax.evaluate.over_seeds import OverSeeds
from dart_jax.evaluate.summary import SUMMARY, RunSummary, read_summary
from dart_jax.evaluate.sweep_rows import SweepRow
from dart_jax.evaluate.sweep_table import SweepTable
from dart_jax.machine import machine
from dart_jax.records import write_text
from dart_jax.report.sweep_report import expectation_text
from dart_jax.summaries import read_json

RESULTS = Path(__file__).parents[1] / "configs/results"
LEFT_OUT = ("statistics", "cycles", "labels", "policy")


def recorded(summary: RunSummary, command: str, commit: str) -> dict[str, object]:
    """The content of a run's file in configs/results/; drift by the name of who says so."""
    figures = {
        field.name: getattr(summary, field.name)
        for field in dataclasses.fields(summary)
        if field.name not in LEFT_OUT
    }
    figures["drift_by"] = {found.by: found for found in summary.drift_by}
    return {"command": command, "commit": commit, "machine": machine(), **figures}


def recorded_sweep(folder: Path, command: str, commit: str) -> dict[str, object]:
    """The content of a sweep's file in configs/results/: its table, rows and findings by name.

    `rows` holds all metrics, those of a frontier's parts and of the answers that had not drifted
    among them. `evaluators` holds what evaluators beside the audit say, a record for each model and
    evaluator, such as `linear, profanity`. `audits` holds, by run, the audit of M_int against what
    was planted; also of runs of which the table says nothing.
    """
    table = read_json(folder / "table.json", SweepTable)
    figures = dataclasses.asdict(table)
    figures["rows"] = {row.name: row.metrics for row in table.rows}
    figures["evaluators"] = evaluators_by_name(table.rows)
    figures["expectations"] = {
        expectation_text(tested.expectation): tested for tested in table.expectations
    }
    if table.differences is not None:
        differences = {row.name: row.metrics for row in table.differences.rows}
        figures["differences"] = {
            "to": table.differences.to,
            "rows": differences,
            "evaluators": evaluators_by_name(table.differences.rows),
        }
    figures["audits"] = {}
    for path in sorted(folder.glob(f"runs/*/{SUMMARY}")):
        planted = read_summary(path).planted
        if planted is not None:
            figures["audits"][path.relative_to(folder / "runs").parts[0]] = planted.audit["M_int"]
    return {"command": command, "commit": commit, "machine": machine(), **figures}


def evaluators_by_name(rows: Sequence[SweepRow]) -> dict[str, dict[str, OverSeeds]]:
    """The figures of each row's evaluators, by the row's and the evaluator's name."""
    found = {}
    for row in rows:
        for by, figures in row.evaluators.items():
            found[f"{row.name}, {by}"] = figures
    return found


def to_json(content: dict[str, object]) -> str:
    """Indented JSON of figures, dataclasses among them; raises ValueError for nan and inf."""
    text = json.dumps(
        content, indent=1, ensure_ascii=False, allow_nan=False, default=dataclasses.asdict
    )
    return text + "\n"


def head() -> str:
    """The commit of this tree, with `+` where tracked files differ from it."""

    def git(*arguments: str) -> str:
        done = subprocess.run(
            ["git", *arguments], cwd=RESULTS, capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    changed = git("status", "--porcelain", "--untracked-files=no")
    return git("rev-parse", "--short", "HEAD") + ("+" if changed else "")


def main() -> None:
    """Read the command line, write the file, say where it is."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="folder of a finished run, sweep or suite")
    parser.add_argument("--name", help="of the file (default: the folder's)")
    parser.add_argument("--command", required=True, help="the command that made the run")
    parser.add_argument("--commit", help="the commit that made it (default: this tree's)")
    options = parser.parse_args()

    commit = options.commit or head()
    if (options.run / "table.json").exists():
        content = recorded_sweep(options.run, options.command, commit)
    elif (beside := options.run / "summary.json").exists():
        figures = json.loads(beside.read_text("utf-8"))
        content = {"command": options.command, "commit": commit, "machine": machine(), **figures}
    else:
        content = recorded(read_summary(options.run / SUMMARY), options.command, commit)
    path = RESULTS / f"{options.name or options.run.resolve().name}.json"
    write_text(path, to_json(content))
    print(path)


if __name__ == "__main__":
    main()
