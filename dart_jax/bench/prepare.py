"""From the command's arguments to a job: examples, base weights and a first adapter, as files."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from dart_jax.bench.job import Job
from dart_jax.model.architecture import LlamaConfig
from dart_jax.model.config import LoraConfig
from dart_jax.records import Question, Target, read_jsonl
from dart_jax.sft.config import SftConfig
from dart_jax.sft.examples import Example, tokenize

SHARD_BYTES = 5 * 10**9


def mini_targets(limit: int) -> tuple[list[Target], list[Question]]:
    """The mini suite's own rationales, spread evenly over families and conditions."""
    from dart_jax.data.config import DataConfig
    from dart_jax.data.mini_suite import file_rationales
    from dart_jax.data.splits import take
    from dart_jax.data.suites import load_suite
    from dart_jax.prompts.conclusion import conclusion_line

    config = DataConfig(suite="mini")
    questions = take(load_suite(config), limit, config.seed)
    texts = file_rationales()
    targets = [
        Target(q.id, "distill", f"{texts[q.id]}\n{conclusion_line(q.gold)}", 1.0) for q in questions
    ]
    return targets, questions


def run_targets(run: Path, limit: int) -> tuple[list[Target], list[Question]]:
    """The first distill targets of a finished run, and its questions."""
    from dart_jax.config import read_command
    from dart_jax.data.suites import load_suite

    config = read_command(["--config", str(run / "config.yaml")]).config
    targets = read_jsonl(run / "teach/targets.jsonl", Target)
    return targets[:limit], load_suite(config.data)


def prepare_job(
    model: str,
    targets: Sequence[Target],
    questions: Sequence[Question],
    folder: Path,
    *,
    sft: SftConfig,
    lora: LoraConfig,
    seed: int,
) -> Job:
    """Tokenise, and write what both sides load: the same weights and the same first adapter.

    See `hf_folder` for the base weights.
    """
    import jax

    from dart_jax.model.load import open_checkpoint
    from dart_jax.model.lora import init_lora
    from dart_jax.model.peft_file import save_peft
    from dart_jax.model.tokenizer import load_tokenizer

    path = hf_folder(model, folder / "base")
    config, _ = open_checkpoint(path)
    length = min(sft.max_length, config.context_length)
    by_id = {q.id: q for q in questions}
    tokenizer = load_tokenizer(path, vocab_size=config.vocab_size)
    examples = tuple(tokenize(targets, by_id, tokenizer, length))
    save_peft(folder / "adapter", init_lora(jax.random.key(seed), config, lora), lora, model)
    return _with_rates(Job(str(path), str(folder / "adapter"), examples, lora, sft, (), seed))


def hf_folder(model: str, folder: Path) -> Path:
    """The Hugging Face folder of what `model.path` names, absolute.

    Of a .gguf file one is written to `folder`, in float32, because transformers computes on
    packed GGUF weights with other kernels.
    """
    from dart_jax.model.load import resolve_path

    path = resolve_path(model)
    return _write_base(path, folder) if path.is_file() else path.resolve()


def random_job(
    config: LlamaConfig, *, rows: int, row_length: int, steps: int, epochs: int, lora: LoraConfig
) -> Job:
    """Random weights and tokens that pack without a gap: `rows` x `row_length` a step.

    Eight examples a row, each half prompt and half completion.
    """
    tokens = np.random.default_rng(0).integers(
        1, config.vocab_size, (steps * rows * 8, row_length // 8)
    )
    examples = tuple(
        Example(f"random-{index}", tuple(map(int, row)), row_length // 16, 1.0)
        for index, row in enumerate(tokens)
    )
    sft = SftConfig(batch_size=8 * rows, epochs=epochs, packing="segments", row_length=row_length)
    return _with_rates(Job(config, None, examples, lora, sft, (), 0))


def check_job(job: Job, examples: int) -> Job:
    """Two epochs of one step on the first few examples, without dropout.

    The second epoch's loss comes after one update: it also depends on the adapter's scale, its
    gradients, the clipping, the optimizer and the learning rate.
    """
    first = job.examples[:examples]
    sft = dataclasses.replace(job.sft, batch_size=len(first), epochs=2)
    lora = dataclasses.replace(job.lora, dropout=0.0)
    return _with_rates(dataclasses.replace(job, examples=first, sft=sft, lora=lora))


def tune_job(job: Job, examples: int) -> Job:
    """One epoch on a few examples, spread evenly over the lengths, the longest among them."""
    ordered = sorted(job.examples, key=lambda example: -len(example.tokens))
    stride = max(len(ordered) // examples, 1)
    sft = dataclasses.replace(job.sft, epochs=1)
    return _with_rates(
        dataclasses.replace(job, examples=tuple(ordered[::stride][:examples]), sft=sft)
    )


def _write_base(path: Path, folder: Path) -> Path:
    """A .gguf checkpoint and its tokenizer as a Hugging Face folder, float32."""
    from dart_jax.model.load import open_checkpoint
    from dart_jax.model.merged import write_config, write_tokenizer
    from dart_jax.model.safetensors_file import save_shards

    folder.mkdir()
    config, source = open_checkpoint(path)
    tensors = (
        (name, source.open(name)[tuple(slice(end) for end in info.shape)])
        for name, info in source.tensors.items()
    )
    save_shards(folder, tensors, SHARD_BYTES)
    write_config(folder, path, config, "checkpoint")
    write_tokenizer(folder, path)
    return folder


def _with_rates(job: Job) -> Job:
    """Fill in the learning rates of our schedule, so that every side has the same numbers."""
    from dart_jax.sft.optimizer import make_schedule

    total = job.sft.epochs * job.steps_per_epoch
    schedule = make_schedule(job.sft.learning_rate, job.sft, total)
    return dataclasses.replace(
        job, learning_rates=tuple(float(schedule(step)) for step in range(total))
    )
