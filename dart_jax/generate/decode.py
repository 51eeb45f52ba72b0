"""Continuous batching: decode lists of prompts under several models at once.

Prompts wait in one queue, whatever their model. A slot that becomes free is given to the next one,
and when the queue is empty the batch shrinks. A row's text depends only on its model, its prompt,
the seed and its id: not on the other rows, their order, or the number of slots.

An answer ends where the model ends its turn, or at the limit. A conclusion line does not end it:
text behind it, and a second line that takes the first one back, belong to the answer.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import jax
import numpy as np

from dart_jax.generate.config import DecodeConfig
from dart_jax.generate.continuation import Continuation, answer_so_far, whole_answer
from dart_jax.generate.engine import BLOCK, DecodeSpec, Prompts, Slots, aligned, programs
from dart_jax.generate.pages import PAGE, PageTable
from dart_jax.generate.plan import Plan, Request, cache_room, make_plan
from dart_jax.generate.sampling import row_keys
from dart_jax.generate.stats import DecodeStats
from dart_jax.generate.weights import joint_weights
from dart_jax.model.kv_cache import KVCache, Pages
from dart_jax.model.load import Model
from dart_jax.model.lora import LoraParams
from dart_jax.model.sharding import sharding_of
from dart_jax.processes import to_devices, to_host

Receiver = Callable[[list[Continuation]], None]


class PromptTooLong(ValueError):
    """No prompt leaves room for an answer; the message names one."""


def check_room(requests: Sequence[Request], model: Model, max_new_tokens: int) -> list[Request]:
    """Return the prompts that leave no room in the context for `max_new_tokens`.

    Raises:
        PromptTooLong: None of the prompts leaves room.
    """
    limit = model.config.context_length - max_new_tokens
    too_long = [request for request in requests if request.length > limit]
    if too_long and len(too_long) == len(requests):
        raise PromptTooLong(
            f"{_too_long(too_long[0], model, max_new_tokens)}, and so it is with every prompt; "
            "lower decode.max_new_tokens, or use a model with a longer context"
        )
    return too_long


def _too_long(request: Request, model: Model, max_new_tokens: int) -> str:
    return (
        f"{request.id}: a prompt of {request.length} tokens and {max_new_tokens} new ones do not "
        f"fit the context of {model.config.context_length}"
    )


def decode(
    model: Model,
    adapters: Mapping[str, tuple[LoraParams, float]],
    requests: Sequence[Request],
    config: DecodeConfig,
    *,
    seed: int,
    min_new_tokens: int = 0,
    prefix: Sequence[int] | None = None,
    on_finished: Receiver | None = None,
    on_growing: Receiver | None = None,
    few_shapes: bool = False,
    stats: DecodeStats | None = None,
) -> list[Continuation]:
    """Continue every prompt under its model.

    Args:
        adapters: Weights and scale by model name. A name that is missing, or has no weights, is the
            base model. One that no request names is held beside the others all the same: calls that
            pass the same adapters share their programs.
        seed: Seeds the sampling noise, together with each prompt's id.
        min_new_tokens: Stop tokens cannot be sampled before this many tokens.
        prefix: Tokens with which all prompts begin, to be computed once; None finds them.
        on_finished: Called with the rows that have ended since the last call.
        on_growing: Called after each block of tokens, and after `on_finished`, with what the
            running rows have written so far. An error that it raises ends decoding.
        few_shapes: Round lengths up to powers of two: for calls in a row whose lengths all differ.
        stats: Counters to add to.

    Returns:
        Continuations in the order of `requests`. A prompt that leaves no room for max_new_tokens in
        the model's context has a `problem` and no `stop`.

    Raises:
        ValueError: Two requests have the same id and model.
    """
    keys = [(request.id, request.adapter) for request in requests]
    if len(set(keys)) < len(keys):
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"two requests for {twice[0]} under {twice[1]}: their noise is the same")
    continuations: dict[tuple[str, str], Continuation] = {}

    def settle(finished: list[Continuation]) -> None:
        for continuation in finished:
            continuations[continuation.id, continuation.adapter] = continuation
        if finished and on_finished is not None:
            on_finished(finished)

    limit = model.config.context_length - config.max_new_tokens
    refused, fitting = [], []
    for request in requests:
        if request.length <= limit:
            fitting.append(request)
        else:
            problem = _too_long(request, model, config.max_new_tokens)
            refused.append(Continuation(request.id, request.adapter, (), "", None, problem))

    settle(refused)
    if fitting:
        # With `decode_params`, which may be a second copy of the layers: room is what is left then.
        room = cache_room(model.config, model.mesh, model.decode_params["embed"].dtype)
        plan = make_plan(fitting, config, model.mesh, prefix, few_shapes, room)
        batch = _Batch(model, adapters, plan, config, seed, min_new_tokens, stats)
        batch.run(settle, on_growing)
    return [continuations[key] for key in keys]


class _Row(NamedTuple):
    """A request and its new tokens."""

    request: Request
    new: Sequence[int]


class _Batch:
    """The slots of one call of `decode`, and the request that runs in each of them."""

    def __init__(
        self,
        model: Model,
        adapters: Mapping[str, tuple[LoraParams, float]],
        plan: Plan,
        config: DecodeConfig,
        seed: int,
        min_new_tokens: int,
        stats: DecodeStats | None,
    ):
        self._model, self._plan, self._seed = model, plan, seed
        self._limit = config.max_new_tokens
        self._stats = DecodeStats() if stats is None else stats
        self._run = programs(model.mesh)

        self._spec = DecodeSpec(
            model.config,
            config.temperature,
            config.top_p,
            config.top_k,
            model.tokenizer.stop_ids,
            min_new_tokens,
            model.mesh,
        )

        # Number 0 is the base model, whether any request is for it or not.
        names = [name for name, (weights, _) in adapters.items() if weights]
        self._numbers = {name: 1 + index for index, name in enumerate(names)}
        self._weights = joint_weights(model, [adapters[name] for name in names])

        self._waiting = deque(plan.order)
        self._ended_after: dict[str, list[int]] = defaultdict(list)
        self._rows: list[Request | None] = [None] * plan.slots
        self._texts: list[list[int]] = [[] for _ in range(plan.slots)]
        self._pages = None
        if plan.pages > 1:
            self._pages = PageTable(plan.slots, plan.pages, plan.new_tokens)
        self._ended: list[_Row] = []

    def run(self, settle: Receiver, on_growing: Receiver | None) -> None:
        """Decode until no request waits and none runs; `settle` gets those that have ended."""
        prefix = self._prefix()
        pool = (self._plan.slots, self._plan.positions)
        if self._pages is not None:
            pool = (self._pages.size, PAGE)

        slots = self._run.empty_slots(
            self._spec, self._plan.slots, *pool, self._weights.base["embed"].dtype
        )
        self._count_shape()

        growing: list[_Row] | None = None
        while self._waiting or any(self._rows):
            slots = self._fill(slots, prefix)
            new_tokens = None
            if any(self._rows):
                slots = self._shrink(slots)
                slots, new_tokens = self._begin_block(slots, prefix)

            # Texts are made, stored and shown while the devices are at the next block. That begins
            # once the tokens of the last one are read, and not before: a row that has ended would
            # be idle for all of it.
            self._tell(growing, settle, on_growing)
            if new_tokens is not None:
                self._read_block(new_tokens, slots.count)
            growing = self._growing()
        self._tell(growing, settle, on_growing)

    def _tell(
        self, growing: list[_Row] | None, settle: Receiver, on_growing: Receiver | None
    ) -> None:
        """Hand on the texts of rows that have ended, and of those that went on after a block."""
        tokenizer = self._model.tokenizer
        finished = [whole_answer(*row, tokenizer) for row in self._ended]
        self._ended = []
        settle(finished)
        if growing is not None and on_growing is not None:
            on_growing([answer_so_far(*row, tokenizer) for row in growing])

    def _prefix(self) -> KVCache | None:
        """Prefill the shared prefix under every model; None where there is none."""
        tokens = self._plan.prefix
        if not tokens:
            return None
        models = len(self._weights.scales)
        self._stats.prefilled("prefix", models, len(tokens), models * len(tokens))
        return self._run.prefill_prefix(
            self._weights, self._place(np.asarray(tokens, np.int32)), self._spec
        )

    def _fill(self, slots: Slots, prefix: KVCache | None) -> Slots:
        """Give free slots to waiting prompts, as many at a time as are prefilled together."""
        self._order_last()
        while self._waiting:
            free = [index for index, row in enumerate(self._rows) if row is None]
            T, rows = self._plan.prefill_shape(self._waiting)
            wanted = min(rows, len(self._waiting))
            # A part of a prefill takes as long as a whole one: rather decode on until more is free.
            if len(free) < wanted and any(self._rows):
                break

            chosen = [self._waiting.popleft() for _ in range(min(wanted, len(free)))]
            taken = free[: len(chosen)]
            lengths = [request.length - len(self._plan.prefix) for request in chosen]
            reserved = {
                index: aligned(length) for index, length in zip(taken, lengths, strict=True)
            }
            slots = self._reserve(slots, reserved)

            prompts = self._prompts(chosen, T, rows)
            cache, tokens = self._run.prefill(self._weights, prefix, prompts, self._spec)
            # Rows without a prompt repeat the first: its slot gets the same content again.
            at = taken + taken[:1] * (rows - len(taken))
            places = self._place(self._places(at, T))
            at = self._place(np.asarray(at, np.int32))
            slots = self._run.admit(slots, prompts, cache, tokens, at, places, self._spec)

            self._stats.prefilled("prefill", rows, T, sum(lengths))
            for request, index, token in zip(chosen, taken, to_host(tokens).tolist(), strict=False):
                self._rows[index], self._texts[index] = request, []
                self._extend(index, [token])
        return slots

    def _order_last(self) -> None:
        """Near the queue's end, move the models to the front whose answers are long.

        Their rows would otherwise be the last to run, in a nearly empty batch: of 128 pairs of 114
        and 51 tokens, in 64 slots, a seventh of the time went to the steps of 32 rows and fewer.
        """
        if len(self._waiting) <= 4 * self._plan.slots:
            mean = {name: sum(counts) / len(counts) for name, counts in self._ended_after.items()}
            by_length = sorted(self._waiting, key=lambda r: -mean.get(r.adapter, self._limit))
            self._waiting = deque(by_length)

    def _reserve(self, slots: Slots, positions: dict[int, int]) -> Slots:
        """Assign pages for the positions that each row needs, in a larger pool if they lack."""
        if self._pages is None:
            return slots
        lacking = self._pages.lacking(positions)
        if lacking:
            slots = self._move(slots, range(len(self._rows)), self._pages.grow(lacking))
        self._pages.give(positions)
        return slots

    def _places(self, rows: Sequence[int], positions: int) -> np.ndarray:
        """Pages of the first `positions` of these rows; without pages, the rows themselves."""
        if self._pages is None:
            return np.asarray(rows, np.int32)[:, None]
        return self._pages.of_rows(rows, positions)

    def _move(self, slots: Slots, rows: Sequence[int], places: np.ndarray) -> Slots:
        """Go on with these rows and places only; the shape is new and is counted."""
        self._count_shape()
        rows = np.asarray(rows, np.int32)
        return self._run.move(slots, self._place(rows), self._place(places), self._spec)

    def _count_shape(self) -> None:
        self._stats.shape("slots", len(self._rows), self._plan.positions)
        if self._pages is not None:
            self._stats.shape("pages", self._pages.size, PAGE)

    def _prompts(self, chosen: list[Request], T: int, rows: int) -> Prompts:
        """Arrays of `rows` requests, padded to T tokens; the first request fills empty rows."""
        chosen = chosen + chosen[:1] * (rows - len(chosen))
        without_prefix = [request.tokens[len(self._plan.prefix) :] for request in chosen]
        tokens = np.zeros((rows, T), np.int32)
        for index, row in enumerate(without_prefix):
            tokens[index, : len(row)] = row

        place = self._place
        return Prompts(
            tokens=to_devices(tokens, sharding_of(self._model.mesh, ("batch", None), tokens.shape)),
            lengths=place(np.asarray([len(row) for row in without_prefix], np.int32)),
            limit=place(np.full((rows,), self._limit, np.int32)),
            model=place(np.asarray([self._numbers.get(r.adapter, 0) for r in chosen], np.int32)),
            keys=row_keys(self._seed, [request.id for request in chosen]),
        )

    def _shrink(self, slots: Slots) -> Slots:
        """Once nothing waits, go on with fewer slots that hold the running rows, if that pays."""
        running = [index for index, row in enumerate(self._rows) if row is not None]
        steps = self._limit - min(len(self._texts[index]) for index in running)
        size = self._plan.smaller(len(self._rows), len(running), steps)
        if self._waiting or size == len(self._rows):
            return slots

        idle = [index for index in range(len(self._rows)) if self._rows[index] is None]
        # Each size is compiled: idle rows fill up the next of the plan's few.
        keep = running + idle[: size - len(running)]
        self._rows = [self._rows[index] for index in keep]
        self._texts = [self._texts[index] for index in keep]
        places = np.asarray(keep, np.int32) if self._pages is None else self._pages.shrink(keep)
        return self._move(slots, keep, places)

    def _begin_block(self, slots: Slots, prefix: KVCache | None) -> tuple[Slots, jax.Array]:
        """Have the devices decode one block for all rows, without waiting for its tokens."""
        going = np.asarray([row is not None for row in self._rows])
        slots = self._reserve(slots, self._positions_needed())
        pages = None
        if self._pages is not None:
            table, owner, start = self._pages.arrays()
            pages = Pages(self._place(table), self._place(owner), self._place(start))

        self._stats.decoded(len(going), BLOCK)
        return self._run.decode_block(
            slots, self._weights, prefix, self._place(going), pages, self._spec
        )

    def _read_block(self, new_tokens: jax.Array, counts: jax.Array) -> None:
        """Wait for the tokens of a block, and add them to the rows' texts."""
        tokens, counts = to_host((new_tokens, counts))
        for index, request in enumerate(self._rows):
            if request is not None:
                count = int(counts[index]) - len(self._texts[index])
                self._extend(index, tokens[index, :count].tolist())

    def _positions_needed(self) -> dict[int, int]:
        """Positions that each running row needs for its next block."""
        needed = {}
        for index, row in enumerate(self._rows):
            if row is not None:
                prompt = aligned(row.length - len(self._plan.prefix))
                needed[index] = prompt + aligned(len(self._texts[index]))
        return needed

    def _extend(self, index: int, tokens: list[int]) -> None:
        """Add new tokens to a row's text; free its slot when it has ended."""
        request = self._rows[index]
        assert request is not None
        text = self._texts[index]
        text += tokens
        # The device ends a row at its first stop token, which is then the last of its tokens.
        is_eos = text[-1] in self._model.tokenizer.stop_ids
        if not is_eos and len(text) < self._limit:
            return

        self._ended.append(_Row(request, tuple(text)))
        self._rows[index] = None
        if self._pages is not None:
            self._pages.take_back(index)
        self._ended_after[request.adapter].append(len(text))
        self._stats.finished(len(text) - is_eos)

    def _growing(self) -> list[_Row]:
        """The rows that go on, as they are now."""
        rows = zip(self._rows, self._texts, strict=True)
        return [_Row(request, tuple(new)) for request, new in rows if request is not None]

    def _place(self, array: np.ndarray) -> jax.Array:
        """Replicate a host array over the mesh."""
        axes = (None,) * array.ndim
        return to_devices(array, sharding_of(self._model.mesh, axes, array.shape))
