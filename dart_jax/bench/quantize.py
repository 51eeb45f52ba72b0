"""The quantised base against the plain one: bytes, logits, and what training on it comes to.

Rows are the mini suite's questions with their rationales. Every scheme sees the same rows, and
trains the same fresh adapter on the same batches; no trained row is measured. README.md has what
each number of `--out` is.
"""

from __future__ import annotations

import dataclasses
import json
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from dart_jax.bench.options import QuantizeOptions
from dart_jax.bench.prepare import mini_targets
from dart_jax.machine import machine, versions
from dart_jax.model.architecture import LlamaConfig
from dart_jax.model.attention import dense_attention, segment_mask
from dart_jax.model.config import LoraConfig, MeshConfig, ModelConfig
from dart_jax.model.llama import forward, logits_of, param_shapes
from dart_jax.model.load import Model, load_model
from dart_jax.model.lora import LoraParams, init_lora
from dart_jax.model.presets import PRESETS
from dart_jax.model.quantize import SCHEMES, quantize_params, stored_bytes
from dart_jax.model.sharding import make_mesh
from dart_jax.sft.config import SftConfig
from dart_jax.sft.examples import Example, tokenize
from dart_jax.sft.loop import train

_BATCH = 8
_LENGTH_BUCKET = 64
_LORA = LoraConfig(dropout=0.0)


def run(options: QuantizeOptions) -> dict[str, Any]:
    """Measure and print; what was printed. Raises ValueError where there are not enough texts."""
    model = load_model(ModelConfig(path=options.model), make_mesh(MeshConfig(), jax.devices()[:1]))
    wanted = options.rows + _BATCH * options.steps
    targets, questions = mini_targets(wanted)
    if len(targets) < wanted:
        raise ValueError(f"--rows and --steps ask for {wanted} texts; there are {len(targets)}")
    by_id = {question.id: question for question in questions}
    examples = tokenize(targets, by_id, model.tokenizer, model.config.context_length)
    rows, training = examples[: options.rows], examples[options.rows :]

    shapes = param_shapes(PRESETS["llama-3-8b"])
    llama_3_8b = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, jnp.bfloat16), shapes)
    result: dict[str, Any] = {}
    for scheme in SCHEMES:
        quantize = partial(quantize_params, scheme=scheme)
        found = difference(model, jax.jit(quantize)(model.base_params), rows, training)
        plain = result.get("none", found)
        for key in ("loss", "trained_loss"):
            found[f"{key}_difference"] = found[key] - plain[key]
        found["llama_3_8b_bytes"] = stored_bytes(jax.eval_shape(quantize, llama_3_8b))
        result[scheme] = found
    settings = {"model": options.model, "rows": options.rows, "steps": options.steps}
    result |= {"settings": settings, "machine": machine(), "versions": versions(("jax", "qwix"))}
    print(json.dumps(result, indent=1))
    return result


def difference(
    model: Model, base: PyTree, rows: Sequence[Example], training: Sequence[Example]
) -> dict[str, float]:
    """Measure how far another base is from the model's own."""
    plain = partial(_sums, model.config, model.base_params, base)
    sums = _add_up(plain, {}, rows)
    predicted = sum(len(row.tokens) - 1 for row in rows)
    completion = sum(len(row.tokens) - row.prompt_length for row in rows)
    logits = predicted * model.config.vocab_size
    trained = _add_up(
        plain, train_adapter(dataclasses.replace(model, base_params=base), training), rows
    )
    return {
        "bytes": stored_bytes(base),
        "logits_max_abs_error": sums["max"],
        "logits_rms_error": (sums["squares"] / logits) ** 0.5,
        "logits_rms": (sums["logit_squares"] / logits) ** 0.5,
        "kl_nats": sums["kl"] / predicted,
        "top1_changed_share": sums["changed"] / predicted,
        "loss": sums["loss"] / completion,
        "trained_loss": trained["loss"] / completion,
    }


def train_adapter(model: Model, examples: Sequence[Example]) -> LoraParams:
    """An adapter after one epoch on a base, from the same start whatever the base."""
    sft = SftConfig(learning_rate=1e-3, batch_size=_BATCH)
    with tempfile.TemporaryDirectory() as folder:
        return train(
            examples,
            model,
            init_lora(jax.random.key(0), model.config, _LORA),
            Path(folder),
            base={},
            lora=_LORA,
            sft=sft,
            epochs=1,
            learning_rate=sft.learning_rate,
            seed=0,
            title="bench quantize",
        )


def _add_up(sums_of: Any, lora_params: PyTree, rows: Sequence[Example]) -> dict[str, float]:
    """`_sums` over all rows, padded to one length; of `max` the largest."""
    length = -(-max(len(row.tokens) for row in rows) // _LENGTH_BUCKET) * _LENGTH_BUCKET
    found = []
    for row in rows:
        tokens = np.zeros(length, np.int32)
        tokens[: len(row.tokens)] = row.tokens
        found.append(
            jax.device_get(sums_of(lora_params, tokens, len(row.tokens), row.prompt_length))
        )
    totals = {key: float(sum(one[key] for one in found)) for key in found[0]}
    return totals | {"max": float(max(one["max"] for one in found))}


@partial(jax.jit, static_argnames="config")
def _sums(
    config: LlamaConfig,
    plain: PyTree,
    other: PyTree,
    lora_params: PyTree,
    tokens: Array,
    count: Array,
    prompt_length: Array,
) -> dict[str, Array]:
    """Sums over the positions of one row [T] that predict one of its first `count` tokens.

    Args:
        lora_params: On the other base; the plain one has none.
    """
    # Padding comes last, so that causality keeps it away.
    positions = jnp.arange(tokens.shape[0])[None]
    attention = dense_attention(segment_mask(positions, jnp.ones_like(positions)))

    def logits(base: PyTree, adapter: PyTree) -> Array:
        hidden, _ = forward(
            config, base, adapter, tokens[None], positions, attention, lora_scale=_LORA.scale
        )
        return logits_of(base, hidden[0])[:-1]

    expected, found = logits(plain, {}), logits(other, lora_params)
    target = jnp.arange(1, tokens.shape[0])
    is_token, is_completion = target < count, (target < count) & (target >= prompt_length)
    error = jnp.where(is_token[:, None], found - expected, 0.0)
    p, q = jax.nn.log_softmax(expected), jax.nn.log_softmax(found)
    kl = (jnp.exp(p) * (p - q)).sum(-1)
    log_probs = jnp.take_along_axis(q, tokens[1:, None], axis=1)[:, 0]
    return {
        "max": jnp.abs(error).max(),
        "squares": (error**2).sum(),
        "logit_squares": jnp.where(is_token[:, None], expected**2, 0.0).sum(),
        "kl": jnp.where(is_token, kl, 0.0).sum(),
        "changed": (is_token & (expected.argmax(-1) != found.argmax(-1))).sum(),
        "loss": -jnp.where(is_completion, log_probs, 0.0).sum(),
    }
