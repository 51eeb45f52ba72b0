"""Our side of the decoding benchmark: the decoder that the stages use, both models in one call."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from dart_jax.bench.generate_job import (
    ADAPTED,
    BASE,
    Answer,
    GenerateJob,
    GenerateVariant,
    PairsRound,
)
from dart_jax.bench.memory import peak_rss_bytes
from dart_jax.bench.ours_train import matmul_rate
from dart_jax.generate.config import DecodeConfig
from dart_jax.generate.decode import Continuation, decode
from dart_jax.generate.plan import Request
from dart_jax.model.config import MeshConfig, ModelConfig
from dart_jax.model.load import load_model
from dart_jax.model.peft_file import load_peft, load_peft_config
from dart_jax.model.sharding import make_mesh


def open_session(job: GenerateJob, variant: GenerateVariant) -> OursSession:
    """Load the job on one device, as the peer has one."""
    return OursSession(job, variant)


class OursSession:
    """See `bench.job.Session`."""

    def __init__(self, job: GenerateJob, variant: GenerateVariant):
        self._job, self._variant = job, variant
        mesh = make_mesh(MeshConfig(), jax.devices()[:1])
        self._model = load_model(ModelConfig(path=job.model, dtype=variant.dtype), mesh)
        folder = Path(job.adapter)
        lora = load_peft_config(folder)
        self._adapter = load_peft(folder, self._model.config, lora), lora.scale
        self._config = DecodeConfig(
            temperature=job.temperature,
            top_p=job.top_p,
            max_new_tokens=job.new_tokens,
            slots=variant.rows,
        )

    def describe(self) -> dict[str, Any]:
        """Device, and what holds the models."""
        return {
            "device": jax.devices()[0].device_kind,
            "platform": jax.default_backend(),
            "models_in_memory": "one base, adapter apart",
        }

    def warm_up(self) -> None:
        """Compile everything: one round, untimed."""
        self._decode()

    def round(self, epoch: int) -> PairsRound:
        """Answer every prompt with both models; `epoch` changes nothing."""
        started = time.perf_counter()
        found = self._decode()
        seconds = time.perf_counter() - started
        count = len(self._job.prompts)
        answers = [Answer(one.tokens, one.stop.value) for one in found]
        stats = jax.devices()[0].memory_stats() or {}
        return PairsRound(
            seconds=seconds,
            answers={BASE: tuple(answers[:count]), ADAPTED: tuple(answers[count:])},
            peak_rss_bytes=peak_rss_bytes(),
            peak_device_bytes=stats.get("peak_bytes_in_use"),
        )

    def matmul_rate(self) -> float:
        """See `bench.job.Session`; in the base weights' type."""
        return matmul_rate(jnp.dtype(self._variant.dtype))

    def _decode(self) -> Sequence[Continuation]:
        """Both models' answers in one call: the base's to every prompt, then the adapter's."""
        job = self._job
        requests = [Request(p.id, p.tokens, name) for name in (BASE, ADAPTED) for p in job.prompts]
        return decode(
            self._model,
            {ADAPTED: self._adapter},
            requests,
            self._config,
            seed=job.seed,
            min_new_tokens=0 if job.natural_stops else job.new_tokens,
        )
