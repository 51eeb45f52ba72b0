"""From the command's arguments to a decoding job: prompts, base weights, an adapter, as files."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from dart_jax.bench.generate_job import BenchPrompt, GenerateJob
from dart_jax.bench.prepare import hf_folder
from dart_jax.model.config import LoraConfig
from dart_jax.model.load import EMBEDDED, open_checkpoint
from dart_jax.model.lora import init_lora
from dart_jax.model.peft_file import load_peft_config, save_peft
from dart_jax.model.tokenizer import load_tokenizer
from dart_jax.prompts.templates import answer_messages
from dart_jax.records import Question

# Standard deviation of the random adapter's B: answers change, and stay text.
SMALL = 0.01


def prepare_pairs(args: argparse.Namespace, folder: Path) -> GenerateJob:
    """The job with a fixed number of new tokens.

    Raises:
        ValueError: Too few questions, or a prompt without room for its answer.
        FileNotFoundError: `--run` is no run or has no M_DART.
    """
    questions, name, adapter = run_sources(args.run) if args.run else mini_sources(args.model)
    if len(questions) < args.prompts:
        raise ValueError(f"--prompts {args.prompts}: there are only {len(questions)} questions")
    base = hf_folder(name, folder / "base")
    if adapter is None:
        adapter = random_adapter(base, folder / "adapter", args.seed)
    tokenizer = load_tokenizer(base, vocab_size=open_checkpoint(base)[0].vocab_size)
    prompts = tuple(
        BenchPrompt(q.id, tuple(tokenizer.encode_prompt(answer_messages(q), row=q.id)))
        for q in questions[: args.prompts]
    )
    _check_room(prompts, max(args.new_tokens, args.natural_limit), base)
    return GenerateJob(str(base), str(adapter), prompts, args.new_tokens, seed=args.seed)


def mini_sources(model: str | None) -> tuple[list[Question], str, None]:
    """The mini suite's questions, spread over families and conditions; no trained adapter."""
    from dart_jax.data.config import DataConfig
    from dart_jax.data.splits import take
    from dart_jax.data.suites import load_suite

    config = DataConfig(suite="mini")
    return take(load_suite(config), None, config.seed), model or EMBEDDED, None


def run_sources(run: Path) -> tuple[list[Question], str, Path]:
    """A run's test questions, those of the other splits after them, its base, and M_DART."""
    from dart_jax.config import read_command
    from dart_jax.data.splits import make_splits

    if not (run / "config.yaml").is_file():
        raise FileNotFoundError(f"--run {run}: it has no config.yaml; give runs/<name>")
    config = read_command(["--config", str(run / "config.yaml")]).config
    splits = make_splits(config.data)
    questions = [q for name in ("test", "validation", "train") for q in splits[name]]
    adapter = (run / "adapters/M_DART").resolve()
    load_peft_config(adapter)
    return questions, config.model.path, adapter


def random_adapter(base: Path, folder: Path, seed: int) -> Path:
    """Write an adapter of the default rank and targets, A as fresh ones have it, B not zero."""
    import jax

    config, _ = open_checkpoint(base)
    lora = LoraConfig()
    draw = np.random.default_rng(seed)
    params = {
        target: weights | {"B": (SMALL * draw.standard_normal(weights["B"].shape, np.float32))}
        for target, weights in init_lora(jax.random.key(seed), config, lora).items()
    }
    save_peft(folder, params, lora, str(base))
    return folder


def _check_room(prompts: tuple[BenchPrompt, ...], new_tokens: int, base: Path) -> None:
    longest = max(prompts, key=lambda prompt: len(prompt.tokens))
    context = open_checkpoint(base)[0].context_length
    if len(longest.tokens) + new_tokens > context:
        raise ValueError(
            f"{longest.id}: a prompt of {len(longest.tokens)} tokens and {new_tokens} new ones do "
            f"not fit the context of {context}; lower --new-tokens or --natural-limit"
        )
