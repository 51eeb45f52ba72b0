"""Decoding lists of prompts: batching, stops, and text."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from dart_jax.generate.config import DecodeConfig
from dart_jax.generate.engine import DecodeSpec, Decoding, decode_block, prefill
from dart_jax.generate.sampling import row_keys
from dart_jax.model.llama import unstack
from dart_jax.model.load import Model
from dart_jax.model.lora import LoraParams
from dart_jax.model.sharding import sharding_of
from dart_jax.processes import to_devices, to_host
from dart_jax.prompts.conclusion import complete_line_end
from dart_jax.records import StopReason

# Prompt lengths are rounded up to this: few compiled shapes, little padding.
PROMPT_BUCKET = 64
# New tokens between two looks at the text: the most that a row decodes past its conclusion line.
BLOCK = 8


@dataclass(frozen=True)
class Prompt:
    """Token ids to continue; `id` keys the noise."""

    id: str
    tokens: tuple[int, ...]


@dataclass(frozen=True)
class Continuation:
    """What a model wrote after a prompt; `tokens` without the stop token."""

    id: str
    tokens: tuple[int, ...]
    text: str
    stop: StopReason


class PromptTooLong(ValueError):
    """A prompt that leaves no room for an answer; the message names it."""


def check_room(prompts: Sequence[Prompt], model: Model, max_new_tokens: int) -> None:
    """Raises PromptTooLong naming the first prompt that, answered, would leave the context."""
    limit = model.config.context_length - max_new_tokens
    for prompt in prompts:
        if len(prompt.tokens) > limit:
            raise PromptTooLong(
                f"{prompt.id}: a prompt of {len(prompt.tokens)} tokens and {max_new_tokens} new "
                f"ones do not fit the context of {model.config.context_length}; lower "
                "decode.max_new_tokens, use a model with a longer context, or drop the question"
            )


def decode(
    model: Model,
    lora_params: LoraParams,
    lora_scale: float,
    prompts: Sequence[Prompt],
    config: DecodeConfig,
    *,
    seed: int,
    stop_at_conclusion: bool = True,
    min_new_tokens: int = 0,
    done: Collection[str] = (),
    on_batch: Callable[[list[Continuation]], None] | None = None,
) -> list[Continuation]:
    """Continue every prompt that is not in `done`; the order of the result is by length.

    Batches are cut from the whole list, done or not, so that a resumed call decodes the same
    batches as an uninterrupted one.

    Args:
        lora_params: May be empty, for the base model.
        seed: Of the noise, together with each prompt's id.
        stop_at_conclusion: End a row when its conclusion line is complete.
        min_new_tokens: Stop tokens cannot be sampled before this many tokens.
        on_batch: Called with the new continuations of each batch as it finishes.
    """
    check_room(prompts, model, config.max_new_tokens)
    results: list[Continuation] = []
    lora_params = unstack(lora_params) if lora_params else {}
    for batch in prompt_batches(prompts, config.batch_size):
        if all(prompt.id in done for prompt in batch):
            continue
        finished = _decode_batch(
            model, lora_params, lora_scale, batch, config, seed, stop_at_conclusion, min_new_tokens
        )
        finished = [c for c in finished if c.id not in done]
        results += finished
        if on_batch is not None:
            on_batch(finished)
    return results


def prompt_batches(prompts: Sequence[Prompt], batch_size: int) -> Iterator[list[Prompt]]:
    """Batches of similar lengths, longest first: the worst memory need comes at once."""
    ordered = sorted(prompts, key=lambda p: (-len(p.tokens), p.id))
    for start in range(0, len(ordered), batch_size):
        yield ordered[start : start + batch_size]


def pad_prompts(rows: Sequence[Sequence[int]], bucket: int) -> tuple[np.ndarray, np.ndarray]:
    """Right-padded ids [B, S] and lengths [B]; S is a multiple of `bucket`."""
    lengths = np.asarray([len(row) for row in rows], np.int32)
    padded = np.zeros((len(rows), -(-int(lengths.max()) // bucket) * bucket), np.int32)
    for index, row in enumerate(rows):
        padded[index, : len(row)] = row
    return padded, lengths


def _decode_batch(
    model: Model,
    lora_params: PyTree,
    lora_scale: float,
    batch: list[Prompt],
    config: DecodeConfig,
    seed: int,
    stop_at_conclusion: bool,
    min_new_tokens: int,
) -> list[Continuation]:
    # A short batch is filled up with its first prompt: one compiled shape for all.
    rows = batch + [batch[0]] * (config.batch_size - len(batch))
    tokens, lengths = pad_prompts([prompt.tokens for prompt in rows], PROMPT_BUCKET)
    place = to_devices(tokens, sharding_of(model.mesh, ("batch", None), tokens.shape))
    spec = DecodeSpec(
        model.config,
        config.temperature,
        config.top_p,
        config.max_new_tokens,
        model.tokenizer.stop_ids,
        min_new_tokens,
    )
    keys = row_keys(seed, [prompt.id for prompt in rows])
    scale = jnp.float32(lora_scale)
    state = prefill(model.decode_params, lora_params, scale, place, lengths, keys, spec)
    stopped: dict[int, Continuation] = {}
    while True:
        stopped |= _look(state, model, rows, stopped, config, stop_at_conclusion)
        if len(stopped) == len(rows):
            return [stopped[index] for index in range(len(batch))]
        going = np.asarray([index not in stopped for index in range(len(rows))])
        state = state._replace(done=state.done | ~going)
        state = decode_block(state, model.decode_params, lora_params, scale, spec, BLOCK)


def _look(
    state: Decoding,
    model: Model,
    rows: list[Prompt],
    stopped: dict[int, Continuation],
    config: DecodeConfig,
    stop_at_conclusion: bool,
) -> dict[int, Continuation]:
    """The rows that have ended since the last look."""
    tokens, counts = to_host((state.tokens, state.count))
    ended: dict[int, Continuation] = {}
    for index, prompt in enumerate(rows):
        if index in stopped:
            continue
        new = [int(token) for token in tokens[index, : counts[index]]]
        is_eos = new[-1] in model.tokenizer.stop_ids
        body = new[:-1] if is_eos else new
        text = model.tokenizer.decode(body)
        cut = complete_line_end(text) if stop_at_conclusion else None
        if cut is not None:
            kept = _tokens_until(body, model, cut)
            found = Continuation(prompt.id, kept, text[:cut], StopReason.CONCLUSION)
        elif is_eos:
            found = Continuation(prompt.id, tuple(body), text, StopReason.EOS)
        elif len(new) >= config.max_new_tokens:
            found = Continuation(prompt.id, tuple(body), text, StopReason.LENGTH)
        else:
            continue
        ended[index] = found
    return ended


def _tokens_until(tokens: list[int], model: Model, end: int) -> tuple[int, ...]:
    """The fewest leading tokens whose text reaches character `end`."""
    for count in range(1, len(tokens)):
        if len(model.tokenizer.decode(tokens[:count])) >= end:
            return tuple(tokens[:count])
    return tuple(tokens)
