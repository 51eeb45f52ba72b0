"""Write the report of an evaluated run again, with what was measured since."""

from __future__ import annotations

from dart_jax.audit.agreement import read_agreement
from dart_jax.evaluate.summary import SUMMARY, read_summary, with_corrected_drift, write_summary
from dart_jax.report.run_report import rewrite_report
from dart_jax.run_dir import RunDir


def refresh_report(folder: RunDir) -> None:
    """Write the report again if there is one; the stage evaluate stays finished."""
    if (folder / "stages/evaluate.json").exists() and (folder / "report/report.md").exists():
        folder.amend("evaluate", ("report", "evaluation"), lambda: _rewrite(folder))
    else:
        print("the stage evaluate is not done; its report will show this", flush=True)


def _rewrite(folder: RunDir) -> None:
    # Annotations are the one measurement made later that changes figures of the summary itself.
    summary = read_summary(folder.path / SUMMARY)
    agreement = read_agreement(folder.path)
    write_summary(folder.path / SUMMARY, with_corrected_drift(summary, agreement))
    print(f"report: {rewrite_report(folder.path)}", flush=True)
