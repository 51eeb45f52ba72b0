"""The peer: transformers with PEFT on torch, tuned as its users would; see README.md.

Scaled-dot-product attention, one thread a core; loading and merging are not timed.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dart_jax.bench.jobs import (
    ADAPTED,
    BASE,
    Answers,
    DecodeJob,
    Epoch,
    Round,
    TrainJob,
    Variant,
    micro_batches,
    padded_tokens,
    supervised_tokens,
)
from dart_jax.bench.worker import memory_bytes, product_rate
from dart_jax.machine import cores
from dart_jax.model.architecture import LlamaConfig, to_hf_config
from dart_jax.model.tokenizer import load_tokenizer
from dart_jax.records import StopReason
from dart_jax.sft.examples import Example

IGNORED = -100


class Training:
    """A training session, see `Worker`.

    Micro-batches are cut from the length-sorted examples (less padding than the library's own
    length grouping has) and come in random order; fused AdamW; the loss is divided by the step's
    number of supervised tokens, as in the library's own trainer.
    """

    def __init__(self, job: TrainJob, variant: Variant):
        self._job, self._variant, self._device = job, variant, Device(job.seed, variant.dtype)
        self._torch = self._device.torch
        self._model = _adapted_model(job, variant, self._device)
        self._trained = [p for p in self._model.parameters() if p.requires_grad]
        self._optimizer = self._torch.optim.AdamW(
            self._trained, job.sft.learning_rate, weight_decay=job.sft.weight_decay, fused=True
        )
        self._micro_batches = micro_batches(job.examples, variant.batch)
        self._steps_done = 0
        # The longest micro-batch, forward and backward, without an update.
        self._backward(self._micro_batches[0], 1)
        self._optimizer.zero_grad(set_to_none=True)

    def facts(self) -> dict[str, Any]:
        """Threads, attention and device."""
        return {
            **self._device.facts(),
            "attention": self._model.config._attn_implementation,
            "gradient_checkpointing": self._variant.remat == "layer",
            "adapter_dtype": str(self._trained[0].dtype).removeprefix("torch."),
            "trained_parameters": sum(p.numel() for p in self._trained),
        }

    def round(self, epoch: int) -> Round:
        """Train one epoch."""
        order = np.random.default_rng([self._job.seed, epoch]).permutation(len(self._micro_batches))
        per_step = self._job.sft.batch_size // self._variant.batch
        losses: list[Any] = []
        started = time.perf_counter()
        for start in range(0, len(order), per_step):
            step = [self._micro_batches[i] for i in order[start : start + per_step]]
            losses.append(self._update(step))
        loss = float(self._torch.stack(losses).sum()) / supervised_tokens(self._job.examples)
        self._device.synchronize()
        seconds = time.perf_counter() - started
        padded = padded_tokens(self._job.examples, self._variant.batch)
        return self._device.round(seconds, Epoch(loss, padded))

    def _update(self, step: Sequence[Sequence[Example]]) -> Any:
        """One optimizer step; the loss sum over its supervised tokens."""
        items = sum(supervised_tokens(piece) for piece in step)
        loss = sum(self._backward(piece, items) for piece in step)
        self._torch.nn.utils.clip_grad_norm_(self._trained, self._job.sft.clip_norm)
        for group in self._optimizer.param_groups:
            group["lr"] = self._job.learning_rates[self._steps_done]
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        self._steps_done += 1
        return loss * items

    def _backward(self, examples: Sequence[Example], items: int) -> Any:
        batch = {name: rows.to(self._device.place) for name, rows in collate(examples).items()}
        loss = self._model(**batch, use_cache=False, num_items_in_batch=items).loss
        loss.backward()
        return loss.detach()


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
            model = _base_model(self._job.model, self._device).eval()
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


class Device:
    """The GPU if torch sees one, else the CPU with one thread a core; and a type to compute in."""

    def __init__(self, seed: int, dtype: str):
        import torch

        torch.set_num_threads(cores())
        torch.manual_seed(seed)
        self.torch, self.dtype = torch, getattr(torch, dtype)
        self._is_gpu = torch.cuda.is_available()
        self.place = torch.device("cuda" if self._is_gpu else "cpu")

    def facts(self) -> dict[str, Any]:
        """Device, threads, and the rate in large matrix products of the type."""
        size = 8192 if self._is_gpu else 1024
        square = self.torch.ones(size, size, dtype=self.dtype, device=self.place)
        return {
            "device": self.torch.cuda.get_device_name() if self._is_gpu else "cpu",
            "platform": self.place.type,
            "threads": self.torch.get_num_threads(),
            "matmul_flops_per_second": product_rate(
                lambda: square @ square, self.synchronize, size
            ),
        }

    def synchronize(self, *_: Any) -> None:
        """Wait for the device's work."""
        if self._is_gpu:
            self.torch.cuda.synchronize()

    def round(self, seconds: float, result: Epoch | Answers) -> Round:
        """A round that ends now."""
        device_bytes = self.torch.cuda.max_memory_allocated() if self._is_gpu else None
        return Round(seconds, result, memory_bytes("VmHWM"), device_bytes)


def padded(rows: Sequence[Sequence[int]], value: int, side: str = "right") -> Any:
    """Rows of token ids as one int64 tensor [B, T], filled up with a value."""
    import torch

    tensors = [torch.tensor(row, dtype=torch.int64) for row in rows]
    return torch.nn.utils.rnn.pad_sequence(tensors, True, value, side)


def collate(examples: Sequence[Example]) -> dict[str, Any]:
    """Right-padded int64 tensors [B, T] for the model's keyword arguments.

    For the prompt `p q` and the completion `x y`, padded to T = 5:

        input_ids       p    q    x    y    0
        attention_mask  1    1    1    1    0
        labels       -100 -100    x    y -100
    """
    labels = []
    for example in examples:
        prompt = example.prompt_length
        labels.append([*[IGNORED] * prompt, *example.tokens[prompt:]])
    return {
        "input_ids": padded([example.tokens for example in examples], 0),
        "attention_mask": padded([[1] * len(example.tokens) for example in examples], 0),
        "labels": padded(labels, IGNORED),
    }


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


def _adapted_model(job: TrainJob, variant: Variant, device: Device) -> Any:
    """A PEFT model in training mode; its adapters are float32, as PEFT makes them by default."""
    import peft

    model = _base_model(job.model, device)
    if variant.remat == "layer":
        model.activation_checkpointing_enable({"use_reentrant": False})
    lora = peft.LoraConfig(
        r=job.lora.rank,
        lora_alpha=job.lora.alpha,
        lora_dropout=job.lora.dropout,
        target_modules=[f"{target}_proj" for target in job.lora.targets],
        task_type="CAUSAL_LM",
    )
    if job.adapter is None:
        return peft.get_peft_model(model, lora).train()
    adapted = peft.PeftModel.from_pretrained(model, job.adapter, is_trainable=True, config=lora)
    return adapted.train()


def _base_model(source: str | LlamaConfig, device: Device) -> Any:
    """The model of a folder, or one with random weights."""
    import transformers

    if isinstance(source, str):
        model = transformers.AutoModelForCausalLM.from_pretrained(
            source, dtype=device.dtype, attn_implementation="sdpa", local_files_only=True
        )
        return model.to(device.place)
    config = transformers.AutoConfig.for_model(**to_hf_config(source))
    with device.place:
        return transformers.AutoModelForCausalLM.from_config(
            config, dtype=device.dtype, attn_implementation="sdpa"
        )
