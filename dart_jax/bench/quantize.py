"""The quantised base against the plain one: bytes, logits, and what training on it comes to.

Rows are the mini suite's questions with their rationales. Every scheme sees the same rows, and
trains the same fresh adapter on the same batches; no trained row is measured.
"""

from __future__ import annotations

import argparse
import json
from functools import partial
from typing import TYPE_CHECKING, Any

from dart_jax.bench.prepare import mini_targets
from dart_jax.machine import machine, versions
from dart_jax.model.config import LoraConfig, MeshConfig, ModelConfig
from dart_jax.sft.config import SftConfig

if TYPE_CHECKING:
    from jaxtyping import PyTree

    from dart_jax.model.load import Model
    from dart_jax.sft.examples import Example

_BATCH = 8


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `python -m dart_jax.bench quantize`."""
    parser.add_argument("--model", default=ModelConfig.path, help="as model.path")
    parser.add_argument("--rows", type=int, default=16, help="texts to measure on (default 16)")
    parser.add_argument(
        "--steps", type=int, default=8, help=f"training steps of {_BATCH} texts (default 8)"
    )


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Measure and print; what was printed.

    Returns:
        Under each scheme: bytes of the base, and of a Llama-3-8B in bfloat16; over all tokens of
        the rows, the largest and the root-mean-square difference of its logits from the plain
        base's (whose own root-mean-square is `logits_rms`), the KL divergence of its next token
        from the plain base's in nats, and the share of positions with another first choice; the
        loss of the completions in nats a token before and after training, and how far each is
        from the plain base's.

    Raises:
        ValueError: There are not that many texts.
    """
    import jax

    from dart_jax.model.load import load_model
    from dart_jax.model.quantize import SCHEMES, quantize_params
    from dart_jax.model.sharding import make_mesh

    if args.rows < 1 or args.steps < 1:
        raise ValueError(f"--rows {args.rows}, --steps {args.steps}: both must be at least 1")
    mesh = make_mesh(MeshConfig(), jax.devices()[:1])
    model = load_model(ModelConfig(path=args.model), mesh)
    rows, training = _examples(model, args.rows, _BATCH * args.steps)
    result: dict[str, Any] = {}
    for scheme in SCHEMES:
        base = jax.jit(partial(quantize_params, scheme=scheme))(model.base_params)
        found = _measure(model, base, rows, training)
        plain = result.get("none", found)
        for key in ("loss", "trained_loss"):
            found[f"{key}_difference"] = found[key] - plain[key]
        result[scheme] = {**found, "llama_3_8b_bytes": _llama_3_8b_bytes(scheme)}
    settings = {"model": args.model, "rows": args.rows, "steps": args.steps}
    result |= {"settings": settings, "machine": machine(), "versions": versions(("jax", "qwix"))}
    print(json.dumps(result, indent=1))
    return result


def _examples(model: Model, rows: int, training: int) -> tuple[list[Example], list[Example]]:
    """Texts to measure on and to train on, spread over families and conditions."""
    from dart_jax.sft.examples import tokenize

    targets, questions = mini_targets(rows + training)
    if len(targets) < rows + training:
        raise ValueError(
            f"--rows and --steps ask for {rows + training} texts; there are {len(targets)}"
        )
    by_id = {question.id: question for question in questions}
    examples = tokenize(targets, by_id, model.tokenizer, model.config.context_length)
    return examples[:rows], examples[rows:]


def _measure(
    model: Model, base: PyTree, rows: list[Example], training: list[Example]
) -> dict[str, Any]:
    from dart_jax.bench.base_difference import completion_loss, logits_difference, train_adapter
    from dart_jax.model.quantize import stored_bytes

    lora, sft = LoraConfig(dropout=0.0), SftConfig(learning_rate=1e-3, batch_size=_BATCH)
    trained = train_adapter(model, base, training, lora, sft)
    return {
        "bytes": stored_bytes(base),
        **logits_difference(model, base, rows),
        "loss": completion_loss(model.config, base, {}, 0.0, rows),
        "trained_loss": completion_loss(model.config, base, trained, lora.scale, rows),
    }


def _llama_3_8b_bytes(scheme: str) -> int:
    import jax
    import jax.numpy as jnp

    from dart_jax.model.llama import param_shapes
    from dart_jax.model.presets import PRESETS
    from dart_jax.model.quantize import quantize_params, stored_bytes

    shapes = param_shapes(PRESETS["llama-3-8b"])
    half = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, jnp.bfloat16), shapes)
    return stored_bytes(jax.eval_shape(partial(quantize_params, scheme=scheme), half))
