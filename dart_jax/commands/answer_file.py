"""Answer prompts that nobody waits for: those of a file into a file, or the lines of a pipe."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from dart_jax.commands.answer_view import side_by_side
from dart_jax.commands.models_to_ask import Asked
from dart_jax.commands.prompt_file import PromptLine, question_messages
from dart_jax.generate.answers import to_generation
from dart_jax.generate.config import DecodeConfig
from dart_jax.generate.continuation import Continuation
from dart_jax.generate.decode import decode
from dart_jax.generate.plan import Request
from dart_jax.generate.stats import DecodeStats
from dart_jax.model.load import Model
from dart_jax.processes import progress
from dart_jax.records import Generation
from dart_jax.run_dir import ResultFile


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

    # What was asked on an earlier start and is left out now stays, behind the rest.
    order = {prompt.id: index for index, prompt in enumerate(prompts)}
    names = {name: index for index, name in enumerate(asked.names)}
    last = len(prompts)
    file.finish(lambda a: (order.get(a.question_id, last), names.get(a.model, len(names))))
    return stats


def _tokens(model: Model, prompt: PromptLine) -> tuple[int, ...]:
    return tuple(model.tokenizer.encode_prompt(prompt.conversation(), row=prompt.id))


def answer_each(
    asked: Asked, lines: Iterable[str], config: DecodeConfig, seed: int, plain: bool = False
) -> Iterator[str]:
    """Answer each line by itself, the models side by side.

    Args:
        plain: Put the line as it is, without the instructions of training.
    """
    for line in lines:
        if not line.strip():
            continue
        messages = ({"role": "user", "content": line},) if plain else question_messages(line)
        tokens = tuple(asked.model.tokenizer.encode_prompt(messages))
        requests = [Request(line, tokens, name) for name in asked.names]
        found = decode(asked.model, asked.adapters, requests, config, seed=seed)
        yield side_by_side({one.adapter: one.problem or one.text for one in found})
