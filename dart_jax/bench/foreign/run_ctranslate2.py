"""The program of CTranslate2: the base, then the merged model, converted to its format.

Run as a module by the Python of its environment; see `protocol`.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from dart_jax.bench.foreign.protocol import Loaded, Order, serve, warmed_up


def load(order: Order) -> Loaded:
    """Convert and load both models, and answer a few prompts to warm up."""
    import ctranslate2

    generators = {}
    for name, folder in order.models.items():
        with tempfile.TemporaryDirectory(prefix="ctranslate2_") as converted:
            convert(Path(folder), order.shape, converted)
            generators[name] = ctranslate2.Generator(
                converted, "cpu", compute_type=order.dtype, intra_threads=order.threads
            )

    def run(name: str, prompts: list[list[int]], new_tokens: int) -> list[list[int]]:
        found = generators[name].generate_batch(
            [[str(token) for token in prompt] for prompt in prompts],
            max_batch_size=order.rows,
            end_token=order.stop_ids,
            return_end_token=True,
            max_length=new_tokens,
            min_length=0 if order.natural_stops else new_tokens,
            include_prompt_in_result=False,
        )
        return [list(one.sequences_ids[0]) for one in found]

    return warmed_up(order, ctranslate2.__version__, run)


def convert(folder: Path, shape: dict[str, Any], out: str) -> None:
    """Write a Llama model of float32 safetensors in the library's format.

    Its tokens are called by their ids, so that no tokenizer is needed.

    Raises:
        ValueError: The model has something that is not written here.
    """
    from ctranslate2 import specs

    if shape["rope_scaling"] or shape["qkv_bias"] or shape["qk_norm"]:
        raise ValueError("scaled RoPE, biases and normed heads are not converted to CTranslate2")
    spec = specs.TransformerDecoderModelSpec.from_config(
        shape["num_layers"],
        shape["num_heads"],
        activation=specs.Activation.SWISH,
        pre_norm=True,
        ffn_glu=True,
        rms_norm=True,
        rotary_dim=0,  # all of a head
        rotary_interleave=False,
        rotary_base=shape["rope_theta"],
        num_heads_kv=shape["num_kv_heads"],
        head_dim=shape["head_dim"],
    )
    _fill(spec.decoder, _tensors(folder))
    spec.config.layer_norm_epsilon = shape["norm_eps"]
    spec.register_vocabulary([str(token) for token in range(shape["vocab_size"])])
    spec.config.bos_token = spec.config.eos_token = spec.config.unk_token = "0"
    spec.validate()
    spec.save(out)


def _tensors(folder: Path) -> dict[str, Any]:
    from safetensors.numpy import load_file

    tensors = {}
    for path in folder.glob("*.safetensors"):
        tensors |= load_file(path)
    return tensors


def _fill(decoder: Any, tensors: dict[str, Any]) -> None:
    """Copy the weights of a Hugging Face checkpoint to the places that they have there."""
    import numpy as np

    decoder.scale_embeddings = False
    decoder.embeddings.weight = tensors["model.embed_tokens.weight"]
    decoder.layer_norm.gamma = tensors["model.norm.weight"]
    # A tied head is not stored.
    decoder.projection.weight = tensors.get("lm_head.weight", tensors["model.embed_tokens.weight"])
    for index, layer in enumerate(decoder.layer):

        def weight(name: str, prefix: str = f"model.layers.{index}.") -> Any:
            return tensors[f"{prefix}{name}.weight"]

        attention, ffn = layer.self_attention, layer.ffn
        attention.layer_norm.gamma = weight("input_layernorm")
        qkv = [weight(f"self_attn.{name}_proj") for name in "qkv"]
        attention.linear[0].weight = np.concatenate(qkv)
        attention.linear[1].weight = weight("self_attn.o_proj")
        ffn.layer_norm.gamma = weight("post_attention_layernorm")
        ffn.linear_0.weight = weight("mlp.gate_proj")
        ffn.linear_0_noact.weight = weight("mlp.up_proj")
        ffn.linear_1.weight = weight("mlp.down_proj")


if __name__ == "__main__":
    serve(load)
