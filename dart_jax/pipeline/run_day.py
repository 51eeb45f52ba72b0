"""The day that chat templates write which ask for it: one for a whole run, or a whole sweep.

Were it today's, a run that goes on past midnight would find its prompts changed, and answers of two
days would be paired. It is the day of the first start, kept as `model.date` in the run's
config.yaml, and for a sweep, whose runs share what they can, in `date` beside its tables.
"""

from __future__ import annotations

import datetime
from pathlib import Path

from dart_jax.records import write_text
from dart_jax.strict_yaml import read_settings

SWEEP_FILE = "date"


def day_of_run(folder: Path, today: datetime.date) -> str:
    """`model.date` of a run that was started before, else today; as YYYY-MM-DD."""
    file = folder / "config.yaml"
    kept = (read_settings(file).get("model") or {}).get("date") if file.is_file() else None
    return kept or today.isoformat()


def day_of_sweep(out: Path, today: datetime.date) -> str:
    """The day that a sweep was first started, else today; as YYYY-MM-DD."""
    file = out / SWEEP_FILE
    return file.read_text(encoding="utf-8").strip() if file.is_file() else today.isoformat()


def keep_day_of_sweep(out: Path, day: str) -> None:
    """Have later starts of a sweep find the day of this one."""
    write_text(out / SWEEP_FILE, day + "\n")
