"""Runs of the pipeline that are killed when they touch a file; for test_killed.py.

    python killed_runs.py FOLDER PLAN ARGUMENT...

PLAN is a JSON list of [run name, kill]: a kill is [file, n], and ends that run by SIGKILL when it
opens the file for the n-th time to write; with null it runs to its end. What run k printed is in
FOLDER/k.txt; the exit codes are printed as a JSON list. The libraries are imported once and the
runs forked: their import takes longer than a tiny run. Nothing has started a thread or a device
by then.
"""

import json
import os
import signal
import sys
import warnings
from pathlib import Path

import matplotlib.pyplot  # noqa: F401
import profanity_check  # noqa: F401
import torch  # noqa: F401
import transformers.models.auto  # noqa: F401

import dart_jax.stages.evaluate
import dart_jax.stages.repair  # noqa: F401
from dart_jax.train import main


def kill_when_opened(suffix: str, times: int) -> None:
    """Die at the given opening of a file to write."""
    seen = 0

    def watch(event: str, details: tuple) -> None:
        nonlocal seen
        if event == "open" and str(details[0]).endswith(suffix) and details[1] in ("a", "w"):
            seen += 1
            if seen == times:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)


def forked(out: Path, kill: tuple[str, int] | None, args: list[str]) -> int:
    """Exit code of one run in a process of its own; minus the signal that killed it."""
    child = os.fork()
    if child == 0:
        os.dup2(os.open(out, os.O_WRONLY | os.O_CREAT), 1)
        os.dup2(1, 2)
        if kill is not None:
            kill_when_opened(*kill)
        try:
            status = main(args)
        finally:
            sys.stdout.flush()
        os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    folder, plan, args = Path(sys.argv[1]), json.loads(sys.argv[2]), sys.argv[3:]
    folder.mkdir(parents=True, exist_ok=True)
    codes = [
        forked(folder / f"{k}.txt", kill, [*args, f"--run.name={name}"])
        for k, (name, kill) in enumerate(plan)
    ]
    print(json.dumps(codes))
