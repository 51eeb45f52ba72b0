"""The program of OpenVINO GenAI: the base, then the merged model, converted by optimum-intel.

Run as a module by the Python of its environment; see `protocol`.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from dart_jax.bench.foreign.protocol import Loaded, Order, serve, warmed_up

PRECISIONS = {"float32": "f32", "bfloat16": "bf16"}


def load(order: Order) -> Loaded:
    """Convert and load both models, and answer a few prompts to warm up."""
    import numpy as np
    import openvino
    import openvino_genai

    scheduler = openvino_genai.SchedulerConfig()
    scheduler.max_num_seqs = order.rows
    # Nothing empties it between rounds: the next one would find all its prompts there.
    scheduler.enable_prefix_caching = False

    precision = PRECISIONS[order.dtype]
    properties = {
        "INFERENCE_NUM_THREADS": order.threads,
        "INFERENCE_PRECISION_HINT": precision,
        # By default keys and values are kept in 8 bits, whatever the models compute in.
        "KV_CACHE_PRECISION": precision,
    }
    pipelines = {}
    for name, folder in order.models.items():
        with tempfile.TemporaryDirectory(prefix="openvino_") as converted:
            convert(folder, converted)
            pipelines[name] = openvino_genai.ContinuousBatchingPipeline(
                converted, scheduler, "CPU", properties
            )

    def run(name: str, prompts: list[list[int]], new_tokens: int) -> list[list[int]]:
        config = openvino_genai.GenerationConfig(
            max_new_tokens=new_tokens,
            min_new_tokens=0 if order.natural_stops else new_tokens,
            # Otherwise those of the model's own files.
            eos_token_id=order.stop_ids[0],
            stop_token_ids=set(order.stop_ids),
            do_sample=False,
        )
        inputs = [openvino.Tensor(np.array([prompt], np.int64)) for prompt in prompts]
        found = pipelines[name].generate(inputs, [config] * len(prompts))
        return [list(one.m_generation_ids[0]) for one in found]

    return warmed_up(order, openvino_genai.__version__, run)


def convert(folder: str, out: str) -> None:
    """Write a model in OpenVINO's format, in float32 and without a tokenizer.

    A process of its own does it, so that its memory is not counted.

    Raises:
        CalledProcessError: It failed; what it printed is in the log.
    """
    command = [str(Path(sys.prefix, "bin/optimum-cli")), "export", "openvino", "--model", folder]
    task = ["--task", "text-generation-with-past", "--weight-format", "fp32"]
    subprocess.run(
        [*command, *task, "--disable-convert-tokenizer", out],
        check=True,
        stdin=subprocess.DEVNULL,
        env=os.environ | {"HF_HUB_OFFLINE": "1"},
    )


if __name__ == "__main__":
    serve(load)
