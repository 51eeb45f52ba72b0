"""The lines of JSON between the benchmark and a peer's program, which runs in another environment.

    benchmark   order          an empty line for each round   ...   end of input
    program     its facts      seconds, tokens, memory

Here is nothing but Python's own library, since the program's environment has little else of ours.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

Answers = dict[str, list[list[int]]]
"""New tokens by model, in the order of the prompts; a stop token may be the last."""

Loaded = tuple[dict[str, Any], Callable[[], Answers]]
"""Facts of a loaded peer, and a function that does the job once."""


@dataclass(frozen=True)
class Order:
    """A decoding job, for a program.

    Attributes:
        models: Hugging Face folder by model, in float32: the base, then with the adapter merged.
        prompts: Token ids.
        stop_ids: Tokens that end an answer, with natural stops.
        new_tokens: Tokens of every answer, or with natural stops the most.
        dtype: Of weights and computation.
        rows: Answers in progress at once.
        threads: One a core.
        cache_bytes: Room for the keys and values of so many answers.
        shape: The numbers of `LlamaConfig` by name.
    """

    models: dict[str, str]
    prompts: list[list[int]]
    stop_ids: list[int]
    new_tokens: int
    natural_stops: bool
    dtype: str
    rows: int
    threads: int
    cache_bytes: int
    shape: dict[str, Any]


def encode(order: Order) -> str:
    """One line."""
    return json.dumps(asdict(order)) + "\n"


def warmed_up(
    order: Order, version: str, run: Callable[[str, list[list[int]], int], list[list[int]]]
) -> Loaded:
    """Answer a few prompts with both models, which are in memory and merged.

    Args:
        run: Answers prompts with the model of that name, in so many new tokens.
    """
    for name in order.models:
        run(name, order.prompts[: order.rows], 4)
    facts = {
        "version": version,
        "adapter": "merged",
        "models_in_memory": "both",
        "threads": order.threads,
    }
    return facts, lambda: {n: run(n, order.prompts, order.new_tokens) for n in order.models}


def serve(load: Callable[[Order], Loaded]) -> None:
    """Load what standard input orders, then answer every prompt each time a line comes."""
    # Libraries print to standard output as they like: that goes to the log, with the errors.
    replies = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())

    def send(reply: dict[str, Any]) -> None:
        replies.write(json.dumps(reply) + "\n")
        replies.flush()

    facts, answer = load(Order(**json.loads(sys.stdin.readline())))
    send(facts)
    for _ in sys.stdin:
        started = time.perf_counter()
        tokens = answer()
        seconds = time.perf_counter() - started
        send({"seconds": seconds, "tokens": tokens, "peak_rss_bytes": tree_peak_bytes()})


def tree_peak_bytes() -> int:
    """Sum of the largest resident memory of this process and of all under it."""
    parents, peaks = {}, {}
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            lines = status.read_text(encoding="utf-8").splitlines()
        except (FileNotFoundError, ProcessLookupError):
            continue  # it has ended since
        fields = dict(line.split(":", 1) for line in lines)
        pid = int(status.parent.name)
        parents[pid] = int(fields["PPid"])
        # Threads of the kernel have no memory of their own.
        peaks[pid] = 1024 * int(fields.get("VmHWM", "0 kB").split()[0])

    tree, found = set(), {os.getpid()}
    while found:
        tree |= found
        found = {pid for pid, parent in parents.items() if parent in found}
    return sum(peaks[pid] for pid in tree)
