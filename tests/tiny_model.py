"""The tiny decoder of all tests: its shape, random weights and adapters, tokenizers and folders.

Weights are drawn by numpy: jax would compile a program for the numbers of each shape.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import dart_jax.prompts
from dart_jax.data.mini_suite import load_mini
from dart_jax.model.architecture import LlamaConfig, to_hf_config
from dart_jax.model.config import LoraConfig
from dart_jax.model.llama import param_shapes
from dart_jax.model.lora import init_lora

CONFIG = LlamaConfig(
    vocab_size=67,
    num_layers=2,
    embed_dim=32,
    num_heads=4,
    num_kv_heads=2,
    head_dim=8,
    ffn_dim=48,
    rope_theta=10000.0,
    rope_scaling=None,
    norm_eps=1e-5,
    tied_head=False,
    context_length=256,
)
SPECIAL = ("<unk>", "<eos>", "<head>", "</head>", "<eot>")
CHARACTERS = ("\n", *map(chr, range(32, 127)))
TEMPLATE = (
    "{% for m in messages %}<head>{{ m.role }}</head>{{ m.content }}<eot>{% endfor %}"
    "{% if add_generation_prompt %}<head>assistant</head>{% endif %}"
)


def random_params(config: LlamaConfig, seed: int = 0) -> Any:
    """Float32 weights that make logits of order 1; the norms are not all ones."""
    rng = np.random.default_rng(seed)

    def draw(path: tuple, leaf: jax.ShapeDtypeStruct) -> jax.Array:
        noise = rng.normal(size=leaf.shape)
        values = 1 + 0.2 * noise if path[-1].key.endswith("norm") else 0.16 * noise
        return jnp.asarray(values, jnp.float32)

    return jax.tree_util.tree_map_with_path(draw, param_shapes(config))


def random_adapter(
    config: LlamaConfig, lora: LoraConfig, seed: int = 1, size_of_b: float = 0.1
) -> Any:
    """An adapter whose B is not zero, so that it changes the model and A has a gradient."""
    rng = np.random.default_rng(seed)

    def draw(size: float, shape: tuple[int, ...]) -> jax.Array:
        return jnp.asarray(size * rng.normal(size=shape), jnp.float32)

    shapes = jax.eval_shape(lambda: init_lora(jax.random.key(0), config, lora))
    adapter = {}
    for target in lora.targets:  # in this order, which jax.tree.map would not keep
        a, b = shapes[target]["A"].shape, shapes[target]["B"].shape
        adapter[target] = {"A": draw(a[1] ** -0.5, a), "B": draw(size_of_b, b)}
    return adapter


def hf_twin(config: LlamaConfig, seed: int = 0) -> Any:
    """A random model of transformers of a configuration's family, with logits of order 1."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**to_hf_config(config)))
    with torch.no_grad():
        for name, weight in model.named_parameters():
            spread = 0.2 if "norm" in name else weight.shape[-1] ** -0.5
            weight.copy_(("norm" in name) + spread * torch.randn(weight.shape))
    return model.eval()


def character_tokenizer(further: Sequence[str] = (), template: str = TEMPLATE) -> Any:
    """A tokenizer with one id a character; `further` tokens are only ever decoded.

    The ids are places in `character_vocabulary(further)`.
    """
    import tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = {token: index for index, token in enumerate(character_vocabulary(further))}
    raw = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="<unk>"))
    raw.pre_tokenizer = tokenizers.pre_tokenizers.Split(tokenizers.Regex(r"[\s\S]"), "isolated")
    raw.decoder = tokenizers.decoders.Fuse()
    raw.add_special_tokens(list(SPECIAL))
    return PreTrainedTokenizerFast(
        tokenizer_object=raw, eos_token="<eos>", unk_token="<unk>", chat_template=template
    )


def character_vocabulary(further: Sequence[str] = ()) -> list[str]:
    """The tokens of `character_tokenizer`, in the order of their ids."""
    return [*SPECIAL, *CHARACTERS, *further]


def write_model(folder: Path, **changes: Any) -> None:
    """Write a random Llama in Hugging Face's form with a tokenizer of the suite's words.

    Args:
        changes: Of its shape.
    """
    import tokenizers
    from transformers import PreTrainedTokenizerFast

    prompts = Path(dart_jax.prompts.__file__).parent / "text"
    texts = [f"{item.question.text} {item.rationale}" for item in load_mini()]
    texts += [path.read_text("utf-8") for path in sorted(prompts.glob("*.txt"))]
    raw = tokenizers.ByteLevelBPETokenizer()
    raw.train_from_iterator(
        texts, vocab_size=1500, special_tokens=list(SPECIAL), show_progress=False
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw._tokenizer,
        eos_token="<eos>",
        unk_token="<unk>",
        additional_special_tokens=["<head>", "</head>", "<eot>"],
        chat_template=TEMPLATE,
    )
    tokenizer.save_pretrained(folder)
    config = dataclasses.replace(
        CONFIG, vocab_size=len(tokenizer), tied_head=True, context_length=1024, **changes
    )
    hf_twin(config).save_pretrained(folder)
