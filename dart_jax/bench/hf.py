"""The peer: torch's device and the base model, for training and decoding alike; see README.md.

Scaled-dot-product attention, one thread a core.
"""

from __future__ import annotations

from typing import Any

from dart_jax.bench.jobs import Answers, Epoch, Round
from dart_jax.bench.worker import memory_bytes, product_rate
from dart_jax.machine import cores
from dart_jax.model.architecture import LlamaConfig, to_hf_config


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


def base_model(source: str | LlamaConfig, device: Device) -> Any:
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
