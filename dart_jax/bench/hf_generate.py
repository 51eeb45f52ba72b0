"""The peer in decoding: transformers' generate in three ways, tuned as its users would.

A model after the other in batches (`hf`, `release`), or in one call of `generate_batch`, with
pages and continuous batching (`hf_continuous`); or both in each batch, the adapter applied to its
rows (`hf_mixed`). Loading and merging are not timed.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dart_jax.bench.hf import Device, base_model
from dart_jax.bench.jobs import ADAPTED, BASE, Answers, DecodeJob, Round, Variant, cut
from dart_jax.bench.peer_batches import padded
from dart_jax.model.tokenizer import load_tokenizer

# The model of both, and its name for rows without an adapter.
MIXED, PLAIN = "mixed", "__base__"
# Positions that a step of continuous batching computes at most, most of them of new prompts.
STEP_TOKENS = 1024
PAGE = 256

# (index of a prompt, model)
Request = tuple[int, str]


class Decoding:
    """A decoding session, see `Worker`.

    Batches are cut from the length-sorted requests. One model after the other has the adapter
    merged in, which is faster than PEFT's unmerged layers.
    """

    def __init__(self, job: DecodeJob, variant: Variant):
        self._job, self._rows, self._device = job, variant.batch, Device(job.seed, variant.dtype)
        self._framework = variant.framework
        self._stop_ids = load_tokenizer(Path(job.model)).stop_ids
        self._prompts = list(job.prompts.values())
        self._models: dict[str, Any] = {}
        passes = self._passes()
        for name, requests in reversed(passes.items()):
            self._answer(self._model(name), requests[: self._rows], 4)

    def facts(self) -> dict[str, Any]:
        """Threads, attention, device, and what holds the models."""
        held = {"release": "both", "hf_mixed": "one base, adapter apart"}
        model = next(iter(self._models.values()))
        return {
            **self._device.facts(),
            "attention": model.config._attn_implementation,
            "adapter": "its rows of a batch" if self._framework == "hf_mixed" else "merged",
            "models_in_memory": held.get(self._framework, "one at a time"),
        }

    def round(self, epoch: int) -> Round:
        """Answer every prompt with the base and with the adapted model; loading is not timed."""
        self._device.torch.manual_seed(self._job.seed + epoch)
        seconds, rows = 0.0, {}
        for name, requests in self._passes().items():
            model = self._model(name)
            self._device.synchronize()
            started = time.perf_counter()
            rows |= zip(requests, self._answer(model, requests, self._job.new_tokens), strict=True)
            seconds += time.perf_counter() - started

        tokens, stops = {}, {}
        stop_ids = self._stop_ids if self._job.natural_stops else ()
        for name in (BASE, ADAPTED):
            in_order = [rows[index, name] for index in range(len(self._prompts))]
            tokens[name], stops[name] = cut(in_order, stop_ids)
        return self._device.round(seconds, Answers(tokens, stops))

    def _passes(self) -> dict[str, list[Request]]:
        """The requests of each pass, the longest first, by the model that it takes."""
        indices = range(len(self._prompts))
        ordered = sorted(indices, key=lambda index: len(self._prompts[index]), reverse=True)
        if self._framework == "hf_mixed":
            return {MIXED: [(index, name) for index in ordered for name in (BASE, ADAPTED)]}
        return {name: [(index, name) for index in ordered] for name in (BASE, ADAPTED)}

    def _model(self, name: str) -> Any:
        """A model, loaded if it is not there, and then with every weight touched once."""
        import peft

        if name not in self._models:
            if self._framework != "release":
                self._models.clear()
            model = base_model(self._job.model, self._device).eval()
            if name == ADAPTED:
                adapted = peft.PeftModel.from_pretrained(model, self._job.adapter)
                model = adapted.merge_and_unload().eval()
            elif name == MIXED:
                # In the type of the base: to float32 and back would cost time at every layer.
                model = peft.PeftModel.from_pretrained(
                    model, self._job.adapter, ADAPTED, autocast_adapter_dtype=False
                ).eval()
            self._models[name] = model
            self._answer(model, self._passes()[name][-1:], 2)
        return self._models[name]

    def _answer(self, model: Any, requests: Sequence[Request], new_tokens: int) -> list[list[int]]:
        """New tokens of the requests, in their order."""
        if self._framework == "hf_continuous":
            return self._continuous(model, requests, new_tokens)
        answers = []
        for start in range(0, len(requests), self._rows):
            answers += self._batch(model, requests[start : start + self._rows], new_tokens)
        return answers

    def _batch(self, model: Any, requests: Sequence[Request], new_tokens: int) -> list[list[int]]:
        rows = [self._prompts[index] for index, _ in requests]
        place = self._device.place
        ids = padded(rows, self._stop_ids[0], "left").to(place)
        mask = padded([[1] * len(row) for row in rows], 0, "left").to(place)
        names = {}
        if self._framework == "hf_mixed":
            names["adapter_names"] = [PLAIN if name == BASE else name for _, name in requests]
        with self._device.torch.inference_mode():
            found = model.generate(
                input_ids=ids,
                attention_mask=mask,
                generation_config=self._settings(new_tokens),
                **names,
            )
        return found[:, ids.shape[1] :].tolist()

    def _settings(self, new_tokens: int) -> Any:
        import transformers

        job = self._job
        sampling = {"temperature": job.temperature, "top_p": job.top_p, "top_k": 0}
        return transformers.GenerationConfig(
            max_new_tokens=new_tokens,
            min_new_tokens=None if job.natural_stops else new_tokens,
            eos_token_id=list(self._stop_ids),
            pad_token_id=self._stop_ids[0],
            do_sample=job.temperature > 0,
            **(sampling if job.temperature > 0 else {}),
        )

    def _continuous(
        self, model: Any, requests: Sequence[Request], new_tokens: int
    ) -> list[list[int]]:
        """One call; it goes on after an error of its own, which is one here.

        Raises:
            RuntimeError: A request was not answered.
        """
        import transformers

        prompts = [list(self._prompts[index]) for index, _ in requests]
        pages = -(-(max(map(len, prompts)) + new_tokens) // PAGE)
        batching = transformers.ContinuousBatchingConfig(
            page_size=PAGE,
            num_blocks=self._rows * pages,
            max_requests_per_batch=self._rows,
            max_batch_tokens=STEP_TOKENS,
        )
        settings = self._settings(new_tokens)
        if not self._job.natural_stops:
            # It has no least number of tokens: nothing stops it but the most.
            settings.min_new_tokens, settings.eos_token_id = None, -1
        found = model.generate_batch(
            prompts,
            generation_config=settings,
            continuous_batching_config=batching,
            warmup=False,
        )
        answers = list(found.values())
        errors = [answer.error for answer in answers if answer.error]
        if errors or len(answers) < len(prompts):
            raise RuntimeError(
                f"generate_batch gave {len(answers)} answers to {len(prompts)} prompts: {errors}"
            )
        return [answer.generated_tokens for answer in answers]
