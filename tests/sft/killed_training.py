"""A small training that is killed on the way, again and again; for test_killed.py.

    python killed_training.py FOLDER PLAN
    python killed_training.py FOLDER

PLAN is a JSON list of [run name, kill]. A kill [signal, event, text, n] sends the signal to the
process at the n-th audit event of that name (`open` to write, `os.rename`) whose path contains
the text; with null the run goes to its end and leaves `adapter.npz`. What run k printed is in
FOLDER/k.txt; the exit codes are printed as a JSON list. The libraries are imported once and the
runs forked; nothing has started a thread or a device by then.

Without a plan, this is one process of a job that trains in FOLDER, and the second process of the
job gets a SIGTERM while the log has two lines.
"""

import json
import os
import signal
import sys
import threading
from pathlib import Path

import jax
import numpy as np
import tensorboardX.event_file_writer  # noqa: F401
import tqdm  # noqa: F401

from dart_jax import processes
from dart_jax.model.config import LoraConfig, MeshConfig
from dart_jax.model.load import Model
from dart_jax.model.sharding import make_mesh
from dart_jax.sft.config import SftConfig
from dart_jax.sft.examples import Example
from dart_jax.sft.loop import train
from tests.tiny_model import CONFIG, random_adapter, random_params

LORA = LoraConfig(rank=2, alpha=4.0, dropout=0.1, targets=("q", "down"))
SFT = SftConfig(
    batch_size=2,
    micro_batch_size=1,
    checkpoint_every=2,
    loss_chunk=8,
    epochs=2,
    remat="none",
    # Never met: all steps are trained, and the best adapter is in every checkpoint.
    early_stopping=100,
    validate_every=3,
    validation_share=0.2,
)


class FatalExamples(list):
    """Examples of which the next is read, while the log has two lines or more, with a SIGTERM."""

    def __init__(self, examples: list[Example], log: Path):
        super().__init__(examples)
        self.log = log

    def __getitem__(self, index: int) -> Example:
        if self.log.exists() and len(self.log.read_text("utf-8").splitlines()) >= 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return super().__getitem__(index)


def make_examples() -> list[Example]:
    """Eleven examples of unequal lengths and weights: six steps an epoch."""
    rng = np.random.default_rng(3)
    lengths = rng.integers(4, 20, (11, 2))
    return [
        Example(
            id=f"e{index}",
            tokens=tuple(rng.integers(1, CONFIG.vocab_size, prompt + completion).tolist()),
            prompt_length=int(prompt),
            weight=float(1 + index % 4),
            severity=1 + index % 4,
            source="repair",
        )
        for index, (prompt, completion) in enumerate(lengths)
    ]


def signal_at(number: int, event: str, text: str, times: int) -> None:
    """Send this process a signal at the given event."""
    seen, lock = 0, threading.Lock()

    def watch(name: str, details: tuple) -> None:
        nonlocal seen
        if name != event or text not in str(details[0]):
            return
        if name == "open" and details[1] not in ("a", "w"):
            return
        with lock:
            seen += 1
            due = seen == times
        if due:
            os.kill(os.getpid(), number)

    sys.addaudithook(watch)


def run(folder: Path, examples: list[Example]) -> None:
    """Train to the end, or from where the last start was stopped."""
    jax.config.update("jax_compilation_cache_dir", str(folder.parent / "cache"))
    trained = train(
        examples,
        Model(CONFIG, random_params(CONFIG), None, make_mesh(MeshConfig()), "tiny"),
        random_adapter(CONFIG, LORA),
        folder,
        base={"weights": "tiny"},
        lora=LORA,
        sft=SFT,
        epochs=SFT.epochs,
        learning_rate=1e-2,
        seed=5,
        title="killed",
        held_out=make_examples()[:2],
    )
    arrays = {f"{name}.{end}": trained[name][end] for name in trained for end in "AB"}
    np.savez(folder / "adapter.npz", **arrays)


def forked(folder: Path, out: Path, kill: list | None) -> int:
    """Exit code of one run in a process of its own; minus the signal that killed it."""
    child = os.fork()
    if child == 0:
        status = 1
        os.dup2(os.open(out, os.O_WRONLY | os.O_CREAT), 1)
        os.dup2(1, 2)
        if kill is not None:
            signal_at(*kill)
        try:
            run(folder, make_examples())
            status = 0
        except SystemExit as stop:
            status = stop.code
        finally:
            sys.stdout.flush()
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def main(root: Path, plan: str | None = None) -> None:
    """See above."""
    root.mkdir(parents=True, exist_ok=True)
    if plan is None:
        processes.start()
        examples = make_examples()
        if processes.process_index() == 1:
            examples = FatalExamples(examples, root / "log.jsonl")
        run(root, examples)
        return
    codes = [
        forked(root / name, root / f"{k}.txt", kill)
        for k, (name, kill) in enumerate(json.loads(plan))
    ]
    print(json.dumps(codes))


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
