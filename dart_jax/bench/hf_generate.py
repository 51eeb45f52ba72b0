"""The peer in decoding: transformers' generate, tuned as its users would; see README.md.

Loading and merging are not timed.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dart_jax.bench.hf import Device, base_model
from dart_jax.bench.jobs import ADAPTED, BASE, Answers, DecodeJob, Round, Variant
from dart_jax.bench.peer_batches import padded
from dart_jax.model.tokenizer import load_tokenizer
from dart_jax.records import StopReason


class Decoding:
    """A decoding session, see `Worker`; `release` keeps both models in memory.

    The base answers every prompt, then the base with the adapter merged in (faster than PEFT's
    unmerged layers), in batches that are cut from the length-sorted prompts.
    """

    def __init__(self, job: DecodeJob, variant: Variant):
        self._job, self._device = job, Device(job.seed, variant.dtype)
        self._keeps_both = variant.framework == "release"
        self._stop_ids = load_tokenizer(Path(job.model)).stop_ids
        self._prompts = list(job.prompts.values())
        indices = range(len(self._prompts))
        ordered = sorted(indices, key=lambda i: len(self._prompts[i]), reverse=True)
        starts = range(0, len(ordered), variant.batch)
        self._batches = [ordered[start : start + variant.batch] for start in starts]
        self._models: dict[str, Any] = {}
        self._model(ADAPTED)
        self._answer(self._model(BASE), self._batches[0], 4)

    def facts(self) -> dict[str, Any]:
        """Threads, attention, device, and what holds the models."""
        return {
            **self._device.facts(),
            "attention": self._models[BASE].config._attn_implementation,
            "adapter": "merged",
            "models_in_memory": "both" if self._keeps_both else "one at a time",
        }

    def round(self, epoch: int) -> Round:
        """Answer every prompt with the base, then with the adapted model; timed apart."""
        self._device.torch.manual_seed(self._job.seed + epoch)
        seconds, tokens, stops = 0.0, {}, {}
        for name in (BASE, ADAPTED):
            model = self._model(name)
            rows: list[list[int]] = [[] for _ in self._prompts]
            self._device.synchronize()
            started = time.perf_counter()
            for batch in self._batches:
                answers = self._answer(model, batch, self._job.new_tokens)
                for index, row in zip(batch, answers, strict=True):
                    rows[index] = row
            seconds += time.perf_counter() - started
            tokens[name], stops[name] = cut(rows, self._stop_ids)
        return self._device.round(seconds, Answers(tokens, stops))

    def _model(self, name: str) -> Any:
        """A model, loaded if it is not there, and then with every weight touched once."""
        import peft

        if name not in self._models:
            if not self._keeps_both:
                self._models.clear()
            model = base_model(self._job.model, self._device).eval()
            if name == ADAPTED:
                adapted = peft.PeftModel.from_pretrained(model, self._job.adapter)
                model = adapted.merge_and_unload().eval()
            self._models[name] = model
            self._answer(model, self._batches[-1][-1:], 2)
        return self._models[name]

    def _answer(self, model: Any, batch: Sequence[int], new_tokens: int) -> list[list[int]]:
        """New tokens of one batch of prompts, in its order."""
        import transformers

        job, pad = self._job, self._stop_ids[0]
        rows = [self._prompts[index] for index in batch]
        ids = padded(rows, pad, "left").to(self._device.place)
        mask = padded([[1] * len(row) for row in rows], 0, "left").to(self._device.place)
        sampling = {"temperature": job.temperature, "top_p": job.top_p, "top_k": 0}
        settings = transformers.GenerationConfig(
            max_new_tokens=new_tokens,
            min_new_tokens=None if job.natural_stops else new_tokens,
            eos_token_id=list(self._stop_ids),
            pad_token_id=pad,
            do_sample=job.temperature > 0,
            **(sampling if job.temperature > 0 else {}),
        )
        with self._device.torch.inference_mode():
            found = model.generate(input_ids=ids, attention_mask=mask, generation_config=settings)
        return found[:, ids.shape[1] :].tolist()


def cut(
    rows: Sequence[Sequence[int]], stop_ids: Sequence[int]
) -> tuple[list[list[int]], list[str]]:
    """Answers without what follows their end (a finished row is filled up), and why they ended."""
    answers, reasons = [], []
    for row in rows:
        end = next((i for i, token in enumerate(row) if token in stop_ids), None)
        answers.append(list(row[:end]))
        reasons.append(StopReason.LENGTH.value if end is None else StopReason.EOS.value)
    return answers, reasons
