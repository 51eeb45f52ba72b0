"""The program of vLLM: requests of the base and of the adapter in one call.

Run as a module by the Python of its environment; see `protocol`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dart_jax.bench.foreign.protocol import Answers, Order, serve

# Room for an adapter comes in these ranks.
RANKS = (8, 16, 32, 64, 128, 256, 320, 512)


def load(order: Order) -> tuple[dict[str, Any], Callable[[], Answers]]:
    """Load the base with room for one adapter, and answer a few prompts to warm up."""
    # Its documents advise to load Intel's OpenMP first, in every process of it.
    openmp = Path(sys.prefix, "lib/libiomp5.so")
    if openmp.exists():
        os.environ["LD_PRELOAD"] = str(openmp)
    from vllm import LLM, SamplingParams, __version__
    from vllm.lora.request import LoRARequest

    [base, adapted] = order.models
    longest = max(len(prompt) for prompt in order.prompts)
    engine = LLM(
        order.models[base],
        skip_tokenizer_init=True,
        dtype=order.dtype,
        enable_lora=True,
        max_loras=1,
        max_lora_rank=next(rank for rank in RANKS if rank >= order.rank),
        enable_prefix_caching=True,
        max_num_seqs=order.rows,
        max_model_len=longest + order.new_tokens,
        kv_cache_memory_bytes=order.cache_bytes,
    )
    adapters = {base: None, adapted: LoRARequest(adapted, 1, order.adapter)}

    def sampling(new_tokens: int) -> Any:
        return SamplingParams(
            temperature=0.0,
            max_tokens=new_tokens,
            ignore_eos=not order.natural_stops,
            stop_token_ids=order.stop_ids if order.natural_stops else [],
            detokenize=False,
        )

    def run(prompts: list[list[int]], new_tokens: int) -> Answers:
        # Otherwise the prompts of the round before would be there already.
        engine.reset_prefix_cache()
        requests, loras = [], []
        for name in order.models:
            requests += [{"prompt_token_ids": prompt} for prompt in prompts]
            loras += [adapters[name]] * len(prompts)
        found = engine.generate(requests, sampling(new_tokens), use_tqdm=False, lora_request=loras)
        rows = [list(request.outputs[0].token_ids) for request in found]
        return {base: rows[: len(prompts)], adapted: rows[len(prompts) :]}

    run(order.prompts[: order.rows], 4)
    facts = {
        "version": __version__,
        "adapter": "applied to its requests in the mixed batch",
        "models_in_memory": "one base, adapter apart",
    }
    return facts, lambda: run(order.prompts, order.new_tokens)


if __name__ == "__main__":
    serve(load)
