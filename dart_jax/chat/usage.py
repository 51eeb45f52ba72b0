"""Requests, tokens and cost of a service, counted by stage and role."""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from dart_jax.records import write_text

USAGE = "usage.json"
"""Path of the file in a run's folder."""


@dataclass(frozen=True)
class Usage:
    """Counts over all starts of one stage of a run, for one role.

    Requests that are in flight when a process is killed are not counted.

    Attributes:
        requests: HTTP requests sent, retries included.
        answers: Answers received and stored.
        failures: Requests that ended without an answer.
        stored: Requests that were not needed, as the answer was in the store.
        prompt_tokens, completion_tokens: Tokens paid for, of answers and of failures that the
            server has charged (an empty completion); estimated where the server reports none.
        cost_usd: Cost in US dollars; None where a price is unknown.
    """

    requests: int = 0
    answers: int = 0
    failures: int = 0
    stored: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost_usd: float | None = 0.0

    def __add__(self, other: "Usage") -> "Usage":
        """Add two usages; the cost is unknown where either is."""
        sums = []
        for pair in zip(dataclasses.astuple(self), dataclasses.astuple(other), strict=True):
            sums.append(None if None in pair else sum(pair))
        return Usage(*sums)

    @property
    def tokens(self) -> int:
        """Sum prompt and completion tokens."""
        return self.prompt_tokens + self.completion_tokens


def write_usage(path: Path, usage: Mapping[str, Usage]) -> None:
    """Save the usage of all accounts (`<stage>/<role>`) of a run."""
    rows = {account: dataclasses.asdict(row) for account, row in sorted(usage.items())}
    write_text(path, json.dumps(rows, indent=1) + "\n")


def read_usage(path: Path) -> dict[str, Usage]:
    """Read the usage by account, such as `teach/teacher`; empty when no service was asked."""
    if not path.exists():
        return {}
    rows = json.loads(path.read_text(encoding="utf-8"))
    return {account: Usage(**row) for account, row in rows.items()}
