"""From arguments to a job: examples or prompts; base weights and an adapter as files."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import jax
import numpy as np

from dart_jax.bench.jobs import DecodeJob, TrainJob
from dart_jax.bench.options import GenerateOptions, TrainOptions
from dart_jax.config import DartConfig, read_config
from dart_jax.data.config import DataConfig
from dart_jax.data.mini_suite import file_rationales
from dart_jax.data.splits import take
from dart_jax.data.suites import load_suite
from dart_jax.model.architecture import LlamaConfig
from dart_jax.model.config import LoraConfig
from dart_jax.model.load import EMBEDDED, open_checkpoint, resolve_path
from dart_jax.model.lora import LoraParams, init_lora
from dart_jax.model.merged import write_config, write_merged, write_tokenizer
from dart_jax.model.peft_file import load_peft_config, save_peft
from dart_jax.model.tokenizer import load_tokenizer
from dart_jax.prompts.conclusion import conclusion_line
from dart_jax.prompts.templates import answer_messages
from dart_jax.records import Question, Target, read_jsonl
from dart_jax.sft.config import SftConfig
from dart_jax.sft.examples import Example, tokenize
from dart_jax.sft.step import make_schedule
from dart_jax.stages.context import asked_splits

# Standard deviation of a random adapter's B: answers change, and stay text.
SMALL = 0.01
SHARD_BYTES = 5 * 10**9
# Learning rate of the check. By the default of 2e-4, one update changes an activation by less than
# bfloat16 resolves: it lowered a loss of 4.06 by 0.15 where activations are float32, as ours are on
# a CPU, and by 0.04 under autocast or with a bfloat16 base of the peer's. By this one: 0.84, 0.80.
CHECK_RATE = 2e-3

Targets = tuple[list[Target], list[Question]]


def mini_targets(limit: int | None) -> Targets:
    """The mini suite's own rationales, spread evenly over families and conditions."""
    config = DataConfig(suite="mini")
    questions = take(load_suite(config), limit, config.seed)
    rationales = file_rationales()
    targets = []
    for question in questions:
        text = f"{rationales[question.id]}\n{conclusion_line(question.gold)}"
        targets.append(Target(question.id, "distill", text, 1.0))
    return targets, questions


def run_config(run: Path) -> DartConfig:
    """The settings of a run; raises FileNotFoundError where it is none."""
    if not (run / "config.yaml").is_file():
        raise FileNotFoundError(f"--run {run}: it has no config.yaml; give runs/<name>")
    return read_config(run / "config.yaml")


def run_targets(run: Path, limit: int | None = None) -> Targets:
    """The first distill targets of a run, or all, and its questions, as they are asked."""
    targets = read_jsonl(run / "teach/targets.jsonl", Target)
    splits, _ = asked_splits(run_config(run))
    return targets[:limit], [question for split in splits.values() for question in split]


def train_job(options: TrainOptions, folder: Path) -> TrainJob:
    """Tokenise, and write what both sides load: the same weights and the same first adapter.

    Raises:
        ValueError: There are fewer examples than `--examples`.
    """
    count = options.examples
    targets, questions = run_targets(options.run, count) if options.run else mini_targets(count)
    if len(targets) < count:
        raise ValueError(f"--examples {count}: there are only {len(targets)}")
    lora = LoraConfig()
    sft = SftConfig(
        epochs=options.rounds,
        batch_size=options.batch_size,
        packing=options.packing[0],
        row_length=options.row_length,
    )
    base = hf_folder(options.model, folder / "base")
    config, _ = open_checkpoint(base)
    by_id = {question.id: question for question in questions}
    length = min(sft.max_length, config.context_length)
    tokenizer = load_tokenizer(base, vocab_size=config.vocab_size)
    examples = tokenize(targets, by_id, tokenizer, length)
    first = init_lora(jax.random.key(options.seed), config, lora)
    save_peft(folder / "adapter", first, lora, options.model)
    adapter = str(folder / "adapter")
    return with_rates(TrainJob(str(base), adapter, tuple(examples), lora, sft, (), options.seed))


def with_rates(job: TrainJob) -> TrainJob:
    """Fill in the learning rates of our schedule, so that every side has the same numbers."""
    total = job.sft.epochs * job.steps_per_epoch
    schedule = make_schedule(job.sft.learning_rate, job.sft, total)
    rates = tuple(float(schedule(step)) for step in range(total))
    return dataclasses.replace(job, learning_rates=rates)


def check_job(job: TrainJob, count: int) -> TrainJob:
    """Two epochs of one step on the first few examples, without dropout.

    The second epoch's loss comes after one update: it also depends on the adapter's scale, its
    gradients, the clipping, the optimizer and the learning rate.
    """
    first = job.examples[:count]
    sft = dataclasses.replace(job.sft, batch_size=len(first), epochs=2, learning_rate=CHECK_RATE)
    lora = dataclasses.replace(job.lora, dropout=0.0)
    return with_rates(dataclasses.replace(job, examples=first, sft=sft, lora=lora))


def tune_job(job: TrainJob, count: int) -> TrainJob:
    """One epoch on a few examples, spread evenly over the lengths, the longest among them."""
    ordered = sorted(job.examples, key=lambda example: -len(example.tokens))
    few = tuple(ordered[:: max(len(ordered) // count, 1)][:count])
    sft = dataclasses.replace(job.sft, epochs=1)
    return with_rates(dataclasses.replace(job, examples=few, sft=sft))


def random_job(
    config: LlamaConfig, *, rows: int, row_length: int, steps: int, epochs: int, lora: LoraConfig
) -> TrainJob:
    """Random weights and tokens that pack without a gap: `rows` x `row_length` a step.

    Eight examples a row, each half prompt and half completion.
    """
    shape = (steps * rows * 8, row_length // 8)
    examples = []
    for index, row in enumerate(np.random.default_rng(0).integers(1, config.vocab_size, shape)):
        examples.append(Example(f"random-{index}", tuple(row.tolist()), row_length // 16, 1.0))
    sft = SftConfig(batch_size=8 * rows, epochs=epochs, packing="segments", row_length=row_length)
    return with_rates(TrainJob(config, None, tuple(examples), lora, sft, (), 0))


def decode_job(options: GenerateOptions, folder: Path) -> DecodeJob:
    """Prompts and both models, with a fixed number of new tokens.

    Raises:
        ValueError: Too few questions, or a prompt without room for its answer.
        FileNotFoundError: `--run` is no run or has no M_DART.
    """
    if options.run:
        questions, name, adapter = run_sources(options.run)
        base = hf_folder(name, folder / "base")
    else:
        questions = mini_targets(None)[1]
        base = hf_folder(options.model or EMBEDDED, folder / "base")
        adapter = random_adapter(base, folder / "adapter", options.seed)
    if len(questions) < options.prompts:
        raise ValueError(f"--prompts {options.prompts}: there are only {len(questions)} questions")

    config, _ = open_checkpoint(base)
    tokenizer, prompts = load_tokenizer(base, vocab_size=config.vocab_size), {}
    new_tokens, context = max(options.new_tokens, options.natural_limit), config.context_length
    for question in questions[: options.prompts]:
        tokens = tokenizer.encode_prompt(answer_messages(question), row=question.id)
        if len(tokens) + new_tokens > context:
            raise ValueError(
                f"{question.id}: a prompt of {len(tokens)} tokens and {new_tokens} new ones do "
                f"not fit the context of {context}; lower --new-tokens or --natural-limit"
            )
        prompts[question.id] = tuple(tokens)
    return DecodeJob(str(base), str(adapter), prompts, options.new_tokens, seed=options.seed)


def run_sources(run: Path) -> tuple[list[Question], str, Path]:
    """A run's test questions, those of the other splits after them, its base, and M_DART."""
    config = run_config(run)
    splits, _ = asked_splits(config)
    adapter = (run / "adapters/M_DART").resolve()
    load_peft_config(adapter)  # raises where there is none
    questions = [*splits["test"], *splits["validation"], *splits["train"]]
    return questions, config.model.path, adapter


def random_adapter(base: Path, folder: Path, seed: int) -> Path:
    """Write an adapter of the default rank and targets, A as fresh ones have it, B not zero."""
    lora, draw = LoraConfig(), np.random.default_rng(seed)
    params = init_lora(jax.random.key(seed), open_checkpoint(base)[0], lora)
    for weights in params.values():
        weights["B"] = SMALL * draw.standard_normal(weights["B"].shape, np.float32)
    save_peft(folder, params, lora, str(base))
    return folder


def hf_folder(model: str, folder: Path) -> Path:
    """The Hugging Face folder of what `model.path` names, absolute.

    Of a .gguf file one is written to `folder`, in float32, because transformers computes on
    packed GGUF weights with other kernels.
    """
    path = resolve_path(model)
    if path.is_dir():
        return path.resolve()
    folder.mkdir()
    config, source = open_checkpoint(path)
    without_adapter: LoraParams = {}
    write_merged(
        folder, source, without_adapter, 0.0, dtype="checkpoint", max_shard_bytes=SHARD_BYTES
    )
    write_config(folder, path, config, "checkpoint")
    write_tokenizer(folder, path)
    return folder
