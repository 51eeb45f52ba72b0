"""The program of vLLM: the base, then the merged model.

Run as a module by the Python of its environment; see `protocol`.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from dart_jax.bench.foreign.protocol import Loaded, Order, serve, warmed_up


def load(order: Order) -> Loaded:
    """Load both models into engines of their own, and answer a few prompts to warm up."""
    from vllm import LLM, SamplingParams, __version__

    longest = max(len(prompt) for prompt in order.prompts)
    engines = {}
    for name, folder in order.models.items():
        engines[name] = LLM(
            folder,
            skip_tokenizer_init=True,
            dtype=order.dtype,
            enable_prefix_caching=True,
            max_num_seqs=order.rows,
            max_model_len=longest + order.new_tokens,
            kv_cache_memory_bytes=order.cache_bytes,
        )

    def run(name: str, prompts: list[list[int]], new_tokens: int) -> list[list[int]]:
        # Otherwise the prompts of the round before would be there already.
        engines[name].reset_prefix_cache()
        sampling = SamplingParams(
            temperature=0.0,
            max_tokens=new_tokens,
            ignore_eos=not order.natural_stops,
            stop_token_ids=order.stop_ids if order.natural_stops else [],
            detokenize=False,
        )
        requests = [{"prompt_token_ids": prompt} for prompt in prompts]
        found = engines[name].generate(requests, sampling, use_tqdm=False)
        return [list(request.outputs[0].token_ids) for request in found]

    return warmed_up(order, __version__, run)


def main() -> None:
    """Serve, in a process with the settings that have to be there before it starts."""
    # Its documents advise to load Intel's OpenMP first.
    openmp = str(Path(sys.prefix, "lib/libiomp5.so"))
    if openmp in os.environ.get("LD_PRELOAD", ""):
        serve(load)
        return
    settings = {
        "LD_PRELOAD": openmp,
        # A scheduler in a process of its own would keep one core from computing.
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "OMP_NUM_THREADS": str(len(os.sched_getaffinity(0))),
    }
    module = [sys.executable, "-m", "dart_jax.bench.foreign.run_vllm"]
    os.execve(sys.executable, module, os.environ | settings)


if __name__ == "__main__":
    main()
