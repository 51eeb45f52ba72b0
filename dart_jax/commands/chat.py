"""Ask the models of a run anything: questions from a file, or typed by a person."""

from __future__ import annotations

import shutil
import textwrap
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

from dart_jax.commands.prompt_file import PromptLine, question_messages
from dart_jax.config import DartConfig, read_config
from dart_jax.generate.answers import to_generation
from dart_jax.generate.config import DecodeConfig
from dart_jax.generate.decode import Continuation, decode
from dart_jax.generate.plan import Request
from dart_jax.generate.stats import DecodeStats
from dart_jax.model.load import Model, load_model
from dart_jax.model.lora import LoraParams, lora_axes
from dart_jax.model.peft_file import load_peft
from dart_jax.model.sharding import make_mesh, tree_shardings
from dart_jax.pipeline.finished import check_base, run_folder
from dart_jax.processes import progress, to_devices
from dart_jax.records import Generation
from dart_jax.run_dir import ResultFile

BASE = "M0"


@dataclass(frozen=True)
class Asked:
    """Hold the loaded models of a run.

    Attributes:
        names: In the order asked for.
        adapters: Weights and scale of those that are not the base.
    """

    names: tuple[str, ...]
    model: Model
    adapters: Mapping[str, tuple[LoraParams, float]]


def read_run(run: Path, names: Sequence[str]) -> DartConfig:
    """Read the run's settings, and check that it has these models.

    Raises:
        BadCheckpoint, StaleStage: See `finished.check_base`; M0 alone may be any base.
        FileNotFoundError: It is no run.
        ValueError: With the names that exist, for one that does not or that is given twice.
    """
    folder = run_folder(run)
    found = sorted(f.parent.name for f in folder.path.glob("adapters/*/adapter_config.json"))
    for name in names:
        if name != BASE and name not in found:
            raise ValueError(f"--models {name}: {run} has {', '.join([BASE, *found])}")
    if len(set(names)) < len(names):
        raise ValueError(f"--models {','.join(names)}: each one once")
    config = read_config(folder / "config.yaml")
    if any(name != BASE for name in names):
        check_base(folder, "distill", config)
    return config


def load_models(run: Path, names: Sequence[str], config: DartConfig) -> Asked:
    """Load the base model once, and the adapters."""
    print(f"loading {config.model.path}", flush=True)
    model = load_model(config.model, make_mesh(config.mesh))
    adapters = {}
    for name in names:
        if name != BASE:
            lora = load_peft(run / "adapters" / name, model.config, config.lora)
            shardings = tree_shardings(model.mesh, lora_axes(lora), lora)
            adapters[name] = (to_devices(lora, shardings), config.lora.scale)
    return Asked(tuple(names), model, adapters)


def answer_file(
    asked: Asked, prompts: Sequence[PromptLine], out: Path, config: DecodeConfig, seed: int
) -> DecodeStats:
    """Answer every prompt under every model into `out`, a line as each ends; resumable.

    That its lines are answers to these prompts is for `answer_inputs.claim` to check before.
    When all are answered, the lines are put in the order of the prompts.
    """
    file, stats = ResultFile(out, Generation), DecodeStats()
    done = {(answer.question_id, answer.model) for answer in file.records}
    total = len(prompts) * len(asked.names)
    started = time.perf_counter()
    with progress("answers", total, len(done)) as bar:
        requests = [
            Request(prompt.id, _tokens(asked.model, prompt), name)
            for prompt in prompts
            for name in asked.names
            if (prompt.id, name) not in done
        ]
        lengths = {request.id: request.length for request in requests}
        concludes = {prompt.id: prompt.question is not None for prompt in prompts}

        def keep(found: list[Continuation]) -> None:
            file.add([to_generation(one, lengths[one.id], concludes[one.id]) for one in found])
            rate = stats.new_tokens / (time.perf_counter() - started)
            bar.set_postfix_str(f"{rate:.0f} tokens/s", refresh=False)
            bar.update(len(found))

        decode(
            asked.model,
            asked.adapters,
            requests,
            config,
            seed=seed,
            on_finished=keep,
            stats=stats,
        )
    order = {prompt.id: index for index, prompt in enumerate(prompts)}
    names = {name: index for index, name in enumerate(asked.names)}
    last = len(prompts)
    file.finish(lambda a: (order.get(a.question_id, last), names.get(a.model, len(names))))
    return stats


def _tokens(model: Model, prompt: PromptLine) -> tuple[int, ...]:
    return tuple(model.tokenizer.encode_prompt(prompt.conversation(), row=prompt.id))


def talk(
    asked: Asked, lines: Iterator[str], config: DecodeConfig, seed: int, plain: bool = False
) -> Iterator[str]:
    """Answer each line that a person types, the models side by side.

    Args:
        plain: Put the line as it is, without the instructions of training.
    """
    for line in lines:
        if not line.strip():
            continue
        messages = ({"role": "user", "content": line},) if plain else question_messages(line)
        tokens = tuple(asked.model.tokenizer.encode_prompt(messages))
        requests = [Request(line, tokens, name) for name in asked.names]
        found = decode(
            asked.model,
            asked.adapters,
            requests,
            config,
            seed=seed,
        )
        yield side_by_side({one.adapter: one.problem or one.text for one in found})


def side_by_side(texts: Mapping[str, str], width: int | None = None) -> str:
    """Set texts in columns under their names, `width` characters in all (the terminal's)."""
    width = width or shutil.get_terminal_size((120, 20)).columns
    column = max(20, (width - 3 * (len(texts) - 1)) // len(texts))
    columns = [
        [name, "-" * len(name)]
        + [row for line in text.strip().splitlines() for row in textwrap.wrap(line, column) or [""]]
        for name, text in texts.items()
    ]
    rows = zip_longest(*columns, fillvalue="")
    return "\n".join(" | ".join(f"{cell:{column}}" for cell in row).rstrip() for row in rows)
