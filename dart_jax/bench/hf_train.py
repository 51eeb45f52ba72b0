"""The peer in training: transformers with PEFT on torch, plain and at its best; see README.md.

What `PeerSettings` has can be combined; loading and compiling are not timed.
"""

from __future__ import annotations

import time
from typing import Any

from dart_jax.bench.hf import Device, base_model
from dart_jax.bench.jobs import Epoch, Round, TrainJob, Variant, supervised_tokens
from dart_jax.bench.peer_batches import (
    IGNORED,
    MicroBatch,
    epoch_steps,
    positions,
    tensors,
)


class Training:
    """A training session, see `Worker`.

    Fused AdamW; the loss is divided by the step's number of supervised tokens, as in the library's
    own trainer.
    """

    def __init__(self, job: TrainJob, variant: Variant):
        self._job, self._variant, self._device = job, variant, Device(job.seed, variant.dtype)
        self._settings, self._torch = variant.settings, self._device.torch
        self._model = _adapted_model(job, variant, self._device)
        self._causal = self._model.get_base_model()
        self._trained = [p for p in self._model.parameters() if p.requires_grad]
        self._optimizer = self._torch.optim.AdamW(
            self._trained, job.sft.learning_rate, weight_decay=job.sft.weight_decay, fused=True
        )
        self._steps_done = 0
        if self._settings.compiled:
            self._compile()
        self._warm_up()

    def facts(self) -> dict[str, Any]:
        """Threads, attention, device, and how it trains."""
        settings = self._settings
        facts = {
            **self._device.facts(),
            "attention": self._causal.config._attn_implementation,
            "gradient_checkpointing": self._variant.remat == "layer",
            "adapter_dtype": str(self._trained[0].dtype).removeprefix("torch."),
            "trained_parameters": sum(p.numel() for p in self._trained),
            "kind": self._variant.kind,
            "logits": "supervised positions" if settings.supervised_logits else "all positions",
            "autocast": settings.autocast,
            "packing": "segments" if settings.packed else "none",
        }
        if settings.compiled:
            facts["compiled_graphs"] = self._torch._dynamo.utils.counters["stats"]["unique_graphs"]
        return facts

    def _compile(self) -> None:
        """Compile each layer, which all share one program, unlike the model as a whole."""
        # Otherwise a program too many would be run uncompiled, without a word.
        self._torch._dynamo.config.fail_on_recompile_limit_hit = True
        for layer in self._causal.model.layers:
            layer.compile(dynamic=True)

    def _warm_up(self) -> None:
        """Run the largest micro-batch without an update, and compiled ones in every shape."""
        steps = []
        for epoch in range(self._job.sft.epochs if self._settings.compiled else 1):
            steps += epoch_steps(self._job, self._variant, epoch)
        by_shape = {}
        for micro_batch in (micro_batch for step in steps for micro_batch in step):
            by_shape[len(micro_batch), positions(micro_batch)] = micro_batch

        largest_first = sorted(by_shape.values(), key=positions, reverse=True)
        for micro_batch in largest_first if self._settings.compiled else largest_first[:1]:
            self._backward(micro_batch, 1)
        self._optimizer.zero_grad(set_to_none=True)

    def round(self, epoch: int) -> Round:
        """Train one epoch."""
        steps = epoch_steps(self._job, self._variant, epoch)
        losses: list[Any] = []
        started = time.perf_counter()
        for step in steps:
            losses.append(self._update(step))
        loss = float(self._torch.stack(losses).sum()) / supervised_tokens(self._job.examples)
        self._device.synchronize()
        seconds = time.perf_counter() - started

        computed = sum(positions(micro_batch) for step in steps for micro_batch in step)
        return self._device.round(seconds, Epoch(loss, computed))

    def _update(self, step: list[MicroBatch]) -> Any:
        """One optimizer step; the loss sum over its supervised tokens."""
        rows = [row for micro_batch in step for row in micro_batch]
        items = sum(supervised_tokens(row) for row in rows)
        loss = sum(self._backward(micro_batch, items) for micro_batch in step)
        self._torch.nn.utils.clip_grad_norm_(self._trained, self._job.sft.clip_norm)
        for group in self._optimizer.param_groups:
            group["lr"] = self._job.learning_rates[self._steps_done]
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        self._steps_done += 1
        return loss * items

    def _backward(self, micro_batch: MicroBatch, items: int) -> Any:
        torch, place = self._torch, self._device.place
        batch = tensors(micro_batch, packed=self._settings.packed)
        batch = {name: tensor.to(place) for name, tensor in batch.items()}
        with torch.autocast(place.type, torch.bfloat16, enabled=self._settings.autocast):
            if self._settings.supervised_logits:
                loss = self._supervised_loss(**batch) / items
            else:
                loss = self._model(**batch, use_cache=False, num_items_in_batch=items).loss
        loss.backward()
        return loss.detach()

    def _supervised_loss(self, labels: Any, **batch: Any) -> Any:
        """Cross-entropy sum; only hidden states that predict a label meet the vocabulary."""
        hidden = self._causal.model(**batch, use_cache=False).last_hidden_state
        following = labels[:, 1:]
        supervised = following != IGNORED
        logits = self._causal.lm_head(hidden[:, :-1][supervised])
        return self._torch.nn.functional.cross_entropy(
            logits.float(), following[supervised], reduction="sum"
        )


def _adapted_model(job: TrainJob, variant: Variant, device: Device) -> Any:
    """A PEFT model in training mode; its adapters are float32 unless the settings say otherwise."""
    import peft

    model = base_model(job.model, device)
    if variant.remat == "layer":
        model.activation_checkpointing_enable({"use_reentrant": False})
    lora = peft.LoraConfig(
        r=job.lora.rank,
        lora_alpha=job.lora.alpha,
        lora_dropout=job.lora.dropout,
        target_modules=[f"{target}_proj" for target in job.lora.targets],
        task_type="CAUSAL_LM",
    )
    cast = {"autocast_adapter_dtype": not variant.settings.adapter_in_dtype}
    if job.adapter is None:
        return peft.get_peft_model(model, lora, **cast).train()
    adapted = peft.PeftModel.from_pretrained(
        model, job.adapter, is_trainable=True, config=lora, **cast
    )
    return adapted.train()
