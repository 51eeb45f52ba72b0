"""The peer's side of the decoding benchmark: transformers' generate, as its users would tune it.

Two passes: the base model answers every prompt, then the base with the adapter merged in (PEFT's
`merge_and_unload`: faster than its unmerged layers). Batches are cut from the length-sorted
prompts and padded on the left; scaled-dot-product attention, key-value cache, one thread a core.
Loading and merging are not timed.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dart_jax.bench.generate_job import (
    ADAPTED,
    BASE,
    Answer,
    BenchPrompt,
    GenerateJob,
    GenerateVariant,
    PairsRound,
)
from dart_jax.bench.hf_train import base_model
from dart_jax.bench.memory import peak_rss_bytes
from dart_jax.bench.torch_device import (
    describe_device,
    matmul_rate,
    peak_device_bytes,
    start_torch,
    synchronize,
)
from dart_jax.model.tokenizer import load_tokenizer
from dart_jax.records import StopReason


def open_session(job: GenerateJob, variant: GenerateVariant) -> HfSession:
    """Load the job on the GPU if torch sees one, else on the CPU."""
    return HfSession(job, variant)


def batches(prompts: Sequence[BenchPrompt], size: int) -> list[list[int]]:
    """Indices of the prompts, longest first, in pieces of `size`, the last of them short."""
    ordered = sorted(range(len(prompts)), key=lambda i: len(prompts[i].tokens), reverse=True)
    return [ordered[start : start + size] for start in range(0, len(ordered), size)]


def pad_left(rows: Sequence[Sequence[int]], pad: int) -> tuple[np.ndarray, np.ndarray]:
    """Token ids and attention mask, int64 [B, S]. For the prompts `p q r` and `s`:

    input_ids         p    q    r        attention_mask    1    1    1
                    pad  pad    s                          0    0    1
    """
    ids = np.full((len(rows), max(map(len, rows))), pad, np.int64)
    mask = np.zeros_like(ids)
    for index, row in enumerate(rows):
        ids[index, -len(row) :] = row
        mask[index, -len(row) :] = 1
    return ids, mask


class HfSession:
    """See `bench.job.Session`."""

    def __init__(self, job: GenerateJob, variant: GenerateVariant):
        import torch

        self._job, self._variant = job, variant
        self._device, self._dtype = start_torch(job.seed), getattr(torch, variant.dtype)
        self._tokenizer = load_tokenizer(Path(job.model))
        self._batches = batches(job.prompts, variant.rows)
        self._models: dict[str, Any] = {}
        self._model(ADAPTED)
        self._model(BASE)

    def describe(self) -> dict[str, Any]:
        """Threads, attention, device, and what holds the models."""
        both = self._variant.framework == "release"
        return {
            **describe_device(self._device),
            "attention": self._models[BASE].config._attn_implementation,
            "adapter": "merged",
            "models_in_memory": "both" if both else "one at a time",
        }

    def warm_up(self) -> None:
        """A few tokens of the longest batch."""
        self._answer(self._models[BASE], self._batches[0], 4)

    def round(self, epoch: int) -> PairsRound:
        """Answer every prompt with the base, then with the adapted model; timed apart."""
        import torch

        torch.manual_seed(self._job.seed + epoch)
        seconds, answers = 0.0, {}
        for name in (BASE, ADAPTED):
            model = self._model(name)
            synchronize(self._device)
            started = time.perf_counter()
            found: dict[int, Answer] = {}
            for batch in self._batches:
                rows = self._answer(model, batch, self._job.new_tokens)
                found |= zip(batch, rows, strict=True)
            seconds += time.perf_counter() - started
            answers[name] = tuple(found[index] for index in range(len(found)))
        return PairsRound(
            seconds=seconds,
            answers=answers,
            peak_rss_bytes=peak_rss_bytes(),
            peak_device_bytes=peak_device_bytes(self._device),
        )

    def matmul_rate(self) -> float:
        """See `bench.job.Session`; in the base weights' type."""
        return matmul_rate(self._device, self._dtype)

    def _model(self, name: str) -> Any:
        """A model, loaded if it is not there, and then with every weight touched once."""
        if name not in self._models:
            if self._variant.framework != "release":
                self._models.clear()
            self._models[name] = _load(self._job, name, self._dtype, self._device)
            self._answer(self._models[name], self._batches[-1][-1:], 2)
        return self._models[name]

    def _answer(self, model: Any, batch: Sequence[int], new_tokens: int) -> list[Answer]:
        """Answers of one batch of prompts, in its order."""
        import torch

        stop_ids = self._tokenizer.stop_ids
        prompts = [self._job.prompts[index].tokens for index in batch]
        ids, mask = (torch.from_numpy(a).to(self._device) for a in pad_left(prompts, stop_ids[0]))
        with torch.inference_mode():
            found = model.generate(
                input_ids=ids,
                attention_mask=mask,
                generation_config=self._settings(new_tokens),
            )
        rows = found[:, ids.shape[1] :].tolist()
        return [_cut(row, stop_ids) for row in rows]

    def _settings(self, new_tokens: int) -> Any:
        from transformers import GenerationConfig

        job, stop_ids = self._job, self._tokenizer.stop_ids
        sampling = {"temperature": job.temperature, "top_p": job.top_p, "top_k": 0}
        return GenerationConfig(
            max_new_tokens=new_tokens,
            min_new_tokens=None if job.natural_stops else new_tokens,
            do_sample=job.temperature > 0,
            eos_token_id=list(stop_ids),
            pad_token_id=stop_ids[0],
            use_cache=True,
            **(sampling if job.temperature > 0 else {}),
        )


def _load(job: GenerateJob, name: str, dtype: Any, device: Any) -> Any:
    import peft

    model = base_model(job.model, dtype, device).eval()
    if name == BASE:
        return model
    return peft.PeftModel.from_pretrained(model, job.adapter).merge_and_unload().eval()


def _cut(row: Sequence[int], stop_ids: Sequence[int]) -> Answer:
    """Without what follows the end: a finished row is filled up with a stop token."""
    end = next((i for i, token in enumerate(row) if token in stop_ids), None)
    if end is not None:
        return Answer(tuple(row[:end]), StopReason.EOS.value)
    return Answer(tuple(row), StopReason.LENGTH.value)
