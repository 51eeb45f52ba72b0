"""The peer's side of the training benchmark: transformers with PEFT, tuned as its users would.

Labels are -100 outside completions; each micro-batch is padded to its longest example, and
micro-batches are cut from the length-sorted examples (less padding than the library's own length
grouping has) and come in random order; scaled-dot-product attention, no key-value cache, no
gradient checkpointing unless the variant asks for it, fused AdamW, one thread a core; the loss is
divided by the step's number of supervised tokens, as in the library's own trainer.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from dart_jax.bench.job import Job, Round, Variant, example_counts
from dart_jax.bench.memory import peak_rss_bytes
from dart_jax.bench.torch_device import (
    describe_device,
    matmul_rate,
    peak_device_bytes,
    start_torch,
    synchronize,
)
from dart_jax.model.architecture import LlamaConfig as ModelShape
from dart_jax.model.architecture import to_hf_config
from dart_jax.sft.examples import Example

IGNORED = -100


def open_session(job: Job, variant: Variant) -> HfSession:
    """Load the job on the GPU if torch sees one, else on the CPU."""
    return HfSession(job, variant)


def micro_batches(examples: Sequence[Example], size: int) -> list[list[Example]]:
    """Length-sorted examples in pieces of `size`, the last of them short."""
    ordered = sorted(examples, key=lambda example: len(example.tokens), reverse=True)
    return [ordered[start : start + size] for start in range(0, len(ordered), size)]


def padded_tokens(examples: Sequence[Example], size: int) -> int:
    """Positions that one epoch in micro-batches of `size` computes."""
    return sum(len(piece) * len(piece[0].tokens) for piece in micro_batches(examples, size))


def collate(examples: Sequence[Example]) -> dict[str, np.ndarray]:
    """Right-padded int64 arrays [B, T] for the model's keyword arguments.

    For the prompt `p q` and the completion `x y`, padded to T = 5:

        input_ids       p    q    x    y    0
        attention_mask  1    1    1    1    0
        labels       -100 -100    x    y -100
    """
    shape = len(examples), max(len(example.tokens) for example in examples)
    arrays = {
        "input_ids": np.zeros(shape, np.int64),
        "attention_mask": np.zeros(shape, np.int64),
        "labels": np.full(shape, IGNORED, np.int64),
    }
    for row, example in enumerate(examples):
        n, prompt = len(example.tokens), example.prompt_length
        arrays["input_ids"][row, :n] = example.tokens
        arrays["attention_mask"][row, :n] = 1
        arrays["labels"][row, prompt:n] = example.tokens[prompt:]
    return arrays


class HfSession:
    """See `bench.job.Session`."""

    def __init__(self, job: Job, variant: Variant):
        import torch

        self._job, self._variant = job, variant
        self._device = start_torch(job.seed)
        self._dtype = getattr(torch, variant.dtype)
        self._model = _adapted_model(job, variant, self._dtype, self._device)
        self._trained = [p for p in self._model.parameters() if p.requires_grad]
        self._optimizer = torch.optim.AdamW(
            self._trained, job.sft.learning_rate, weight_decay=job.sft.weight_decay, fused=True
        )
        self._micro_batches = micro_batches(job.examples, variant.micro_batch)
        self._done = 0

    def describe(self) -> dict[str, Any]:
        """Threads, attention and device."""
        return {
            **describe_device(self._device),
            "attention": self._model.config._attn_implementation,
            "gradient_checkpointing": self._variant.remat == "layer",
            "adapter_dtype": str(self._trained[0].dtype).removeprefix("torch."),
            "trained_parameters": sum(p.numel() for p in self._trained),
        }

    def warm_up(self) -> None:
        """The longest micro-batch, forward and backward, without an update."""
        self._backward(self._micro_batches[0], 1)
        self._optimizer.zero_grad(set_to_none=True)
        synchronize(self._device)

    def round(self, epoch: int) -> Round:
        """Train one epoch."""
        import torch

        order = np.random.default_rng([self._job.seed, epoch]).permutation(len(self._micro_batches))
        per_step = self._job.sft.batch_size // self._variant.micro_batch
        losses: list[Any] = []
        started = time.perf_counter()
        for start in range(0, len(order), per_step):
            step = [self._micro_batches[i] for i in order[start : start + per_step]]
            losses.append(self._update(step))
        loss = float(torch.stack(losses).sum())
        synchronize(self._device)
        seconds = time.perf_counter() - started
        counts = example_counts(self._job.examples)
        return Round(
            seconds=seconds,
            loss=loss / counts["supervised_tokens"],
            padded_tokens=padded_tokens(self._job.examples, self._variant.micro_batch),
            peak_rss_bytes=peak_rss_bytes(),
            peak_device_bytes=peak_device_bytes(self._device),
            **counts,
        )

    def matmul_rate(self) -> float:
        """See `bench.job.Session`; in the base weights' type."""
        return matmul_rate(self._device, self._dtype)

    def _update(self, step: Sequence[Sequence[Example]]) -> Any:
        """One optimizer step; the loss sum over its supervised tokens."""
        import torch

        items = sum(example_counts(tuple(piece))["supervised_tokens"] for piece in step)
        loss = sum(self._backward(piece, items) for piece in step)
        torch.nn.utils.clip_grad_norm_(self._trained, self._job.sft.clip_norm)
        for group in self._optimizer.param_groups:
            group["lr"] = self._job.learning_rates[self._done]
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        self._done += 1
        return loss * items

    def _backward(self, examples: Sequence[Example], items: int) -> Any:
        import torch

        batch = {
            name: torch.from_numpy(array).to(self._device, non_blocking=True)
            for name, array in collate(examples).items()
        }
        loss = self._model(**batch, use_cache=False, num_items_in_batch=items).loss
        loss.backward()
        return loss.detach()


def _adapted_model(job: Job, variant: Variant, dtype: Any, device: Any) -> Any:
    """A PEFT model in training mode; its adapters are float32, as PEFT makes them by default."""
    import peft

    model = base_model(job.model, dtype, device)
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


def base_model(source: str | ModelShape, dtype: Any, device: Any) -> Any:
    """The model of a folder, or one with random weights; scaled-dot-product attention."""
    from transformers import LlamaConfig, LlamaForCausalLM

    if isinstance(source, str):
        model = LlamaForCausalLM.from_pretrained(
            source, dtype=dtype, attn_implementation="sdpa", local_files_only=True
        )
        return model.to(device)
    config = LlamaConfig(**to_hf_config(source), attn_implementation="sdpa")
    with device:
        return LlamaForCausalLM._from_config(config, dtype=dtype)
