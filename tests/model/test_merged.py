"""Base and adapter as one folder: the same logits in transformers, and here again."""

import dataclasses
import json
from pathlib import Path

import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from dart_jax.model.architecture import from_hf_config
from dart_jax.model.load import open_checkpoint
from dart_jax.model.lora import merge_lora
from dart_jax.model.merged import write_config, write_merged, write_tokenizer
from dart_jax.model.tokenizer import load_tokenizer
from dart_jax.model.weights import BadCheckpoint, load_params
from tests.tiny_model import random_adapter

transformers = pytest.importorskip("transformers")

CHAT = (
    "{% for m in messages %}<head>{{ m.role }} {{ m.content }}<eot>{% endfor %}"
    "{% if add_generation_prompt %}<head>assistant {% endif %}"
)
TALK = [{"role": "user", "content": "are they alike"}]
SPECIAL = ["<eos>", "<head>", "<eot>"]


def _bytes_vocabulary(size):
    """Byte-level tokens: special ones, the letters, one pair and fillers."""
    tokens = [*SPECIAL, "Ġ", *"abcdefghijklmnopqrstuvwxyz", "ab"]
    return tokens + [f"filler{i}" for i in range(size - len(tokens))]


@pytest.fixture
def hf_base(config, hf_model, tmp_path):
    """A Hugging Face folder: weights in two files, tokenizer, terms."""
    tokenizers = pytest.importorskip("tokenizers")
    folder = tmp_path / "base"
    hf_model(config).save_pretrained(folder, max_shard_size="20KB")
    vocabulary = {token: i for i, token in enumerate(_bytes_vocabulary(config.vocab_size))}
    raw = tokenizers.Tokenizer(tokenizers.models.BPE(vocabulary, [], unk_token="<eos>"))
    raw.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    wrapped = transformers.PreTrainedTokenizerFast(
        tokenizer_object=raw,
        eos_token="<eos>",
        additional_special_tokens=SPECIAL[1:],
        chat_template=CHAT,
    )
    wrapped.save_pretrained(folder)
    (folder / "LICENSE.txt").write_text("terms")
    (folder / "notes.txt").write_text("not for others")
    return folder


@pytest.fixture
def gguf_base(config, tmp_path):
    """A GGUF file with random weights and a tokenizer."""
    gguf = pytest.importorskip("gguf")
    shapes = {
        "attn_norm": (32,),
        "attn_q": (32, 32),
        "attn_k": (16, 32),
        "attn_v": (16, 32),
        "attn_output": (32, 32),
        "ffn_norm": (32,),
        "ffn_gate": (48, 32),
        "ffn_up": (48, 32),
        "ffn_down": (32, 48),
    }
    writer = gguf.GGUFWriter(tmp_path / "model.gguf", "llama")
    writer.add_context_length(config.context_length)
    writer.add_embedding_length(config.embed_dim)
    writer.add_block_count(config.num_layers)
    writer.add_feed_forward_length(config.ffn_dim)
    writer.add_head_count(config.num_heads)
    writer.add_head_count_kv(config.num_kv_heads)
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_rope_freq_base(100.0)  # not the default, which a reader may take in its place
    writer.add_layer_norm_rms_eps(config.norm_eps)
    writer.add_vocab_size(config.vocab_size)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(_bytes_vocabulary(config.vocab_size))
    writer.add_token_types([3] * len(SPECIAL) + [1] * (config.vocab_size - len(SPECIAL)))
    writer.add_token_merges(["a b"])
    writer.add_eos_token_id(0)
    writer.add_chat_template(CHAT)
    rng = np.random.default_rng(0)
    writer.add_tensor("token_embd.weight", rng.normal(size=(67, 32)).astype(np.float32))
    writer.add_tensor("output_norm.weight", np.ones(32, np.float32))
    for layer in range(config.num_layers):
        for name, shape in shapes.items():
            weight = rng.normal(size=shape) * shape[-1] ** -0.5
            writer.add_tensor(f"blk.{layer}.{name}.weight", weight.astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return tmp_path / "model.gguf"


@pytest.fixture
def merge(lora, lora_params, tmp_path):
    """A function: (folder, report) of a base merged with the adapter."""

    def run(base: Path, dtype="checkpoint", max_shard_bytes=10**9):
        folder = tmp_path / f"merged-{dtype}"
        folder.mkdir()
        config, source = open_checkpoint(base)
        write_config(folder, base, config, dtype)
        write_tokenizer(folder, base)
        report = write_merged(
            folder, source, lora_params, lora.scale, dtype=dtype, max_shard_bytes=max_shard_bytes
        )
        return folder, report

    return run


def _check_logits(base, folder, lora, lora_params, tokens, logits, hf_logits):
    config, source = open_checkpoint(base)
    params = load_params(config, source, np.float32)
    adapted = logits(config, params, tokens, lora_params, lora.scale)
    assert np.abs(adapted - logits(config, params, tokens)).max() > 0.1
    theirs = transformers.AutoModelForCausalLM.from_pretrained(folder)
    np.testing.assert_allclose(hf_logits(theirs.eval(), tokens), adapted, atol=1e-4)
    again, merged = open_checkpoint(folder)
    assert again == config
    ours = logits(config, load_params(config, merged, np.float32), tokens)
    np.testing.assert_allclose(ours, adapted, atol=1e-4)


def test_of_a_folder(hf_base, merge, lora, lora_params, tokens, logits, hf_logits):
    folder, report = merge(hf_base, max_shard_bytes=20_000)
    _check_logits(hf_base, folder, lora, lora_params, tokens, logits, hf_logits)
    assert report.shards == len(list(folder.glob("model-*-of-*.safetensors"))) > 1
    assert report.rounding == 0
    assert report.dtypes == ("float32",)


@pytest.mark.parametrize("name", ["qwen2", "qwen3"])
def test_of_another_family(name, shapes, hf_model, lora, tokens, logits, hf_logits, tmp_path):
    """All seven projections; biases and norms are taken over as they are."""
    base, folder = tmp_path / "base", tmp_path / "merged"
    folder.mkdir()
    hf_model(shapes[name]).save_pretrained(base)
    config, source = open_checkpoint(base)
    adapter = random_adapter(config, lora)
    write_config(folder, base, config, "checkpoint")
    write_merged(folder, source, adapter, lora.scale, dtype="checkpoint", max_shard_bytes=10**9)
    _check_logits(base, folder, lora, adapter, tokens, logits, hf_logits)


def test_of_a_gguf_file(gguf_base, merge, lora, lora_params, tokens, logits, hf_logits):
    folder, _ = merge(gguf_base)
    _check_logits(gguf_base, folder, lora, lora_params, tokens, logits, hf_logits)
    theirs = transformers.AutoTokenizer.from_pretrained(folder)
    ids = load_tokenizer(gguf_base).encode_prompt(TALK)
    prompt = theirs.apply_chat_template(TALK, add_generation_prompt=True, return_dict=True)
    assert prompt["input_ids"] == ids == load_tokenizer(folder).encode_prompt(TALK)
    raw = json.loads((folder / "config.json").read_text())
    assert raw["eos_token_id"] == [0, 2]  # <eos>, and <eot> from the chat template
    assert raw["rope_theta"] == 100.0  # where earlier transformers look for it
    assert json.loads((folder / "generation_config.json").read_text())["eos_token_id"] == [0, 2]


def test_what_is_taken_over_from_a_folder(hf_base, merge):
    folder, _ = merge(hf_base)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "LICENSE.txt"):
        assert (folder / name).read_bytes() == (hf_base / name).read_bytes()
    assert not (folder / "notes.txt").exists()
    assert (folder / "config.json").read_text() == (
        hf_base / "config.json"
    ).read_text().strip() + "\n"


def test_bfloat16_and_what_it_costs(hf_base, merge, lora, lora_params):
    folder, report = merge(hf_base, dtype="bfloat16")
    config, source = open_checkpoint(folder)
    assert json.loads((folder / "config.json").read_text())["dtype"] == "bfloat16"
    stored = load_params(config, source, np.float32)["layers"]["q"]
    base = load_params(config, open_checkpoint(hf_base)[1], np.float32)
    exact = merge_lora(base, lora_params, lora.scale)["layers"]["q"]
    np.testing.assert_array_equal(stored, np.asarray(exact).astype(ml_dtypes.bfloat16))
    assert report.dtypes == ("bfloat16",)
    # Rounding to 8 bits loses at most 2^-9 of each weight.
    weights = np.sqrt(sum(np.sum(np.square(w)) for w in base["layers"].values()))
    update = np.sqrt(
        sum(np.sum(np.square(w["A"] @ w["B"] * lora.scale)) for w in lora_params.values())
    )
    assert 0 < report.rounding < 2**-8 * (weights + update) / update


def test_a_bfloat16_checkpoint_stays_one(hf_base, merge):
    once, _ = merge(hf_base, dtype="bfloat16")
    twice, report = merge(once)
    assert report.dtypes == ("bfloat16",)
    assert report.rounding > 0
    assert json.loads((twice / "config.json").read_text())["dtype"] == "bfloat16"


def test_numbers_that_the_type_cannot_hold(hf_base, hf_model, config, lora_params, tmp_path):
    """float16 ends at 65504; what is written is no checkpoint, and the message names a way out."""
    hf_model(config).half().save_pretrained(hf_base, max_shard_size="20KB")
    _, source = open_checkpoint(hf_base)
    large = {target: {**w, "B": 1e6 * w["B"]} for target, w in lora_params.items()}
    out = {"max_shard_bytes": 10**9}
    with pytest.raises(BadCheckpoint, match=r"layers\.\d\..*float16 cannot hold.*--dtype bfloat16"):
        write_merged(tmp_path, source, large, 1.0, dtype="checkpoint", **out)
    assert not list(tmp_path.glob("*.safetensors"))
    report = write_merged(tmp_path, source, large, 1.0, dtype="bfloat16", **out)
    assert report.dtypes == ("bfloat16",) and 0 < report.rounding < 2**-8

    overflowing = {target: {**w, "B": 1e38 * w["B"]} for target, w in lora_params.items()}
    with pytest.raises(BadCheckpoint, match=r"not finite, .* once the adapter is added"):
        write_merged(tmp_path, source, overflowing, 1e3, dtype="float32", **out)


def test_adapter_of_another_shape(hf_base, lora_params, tmp_path):
    _, source = open_checkpoint(hf_base)
    wrong = {"q": {"A": lora_params["down"]["A"], "B": lora_params["down"]["B"]}}
    with pytest.raises(BadCheckpoint, match=r"q_proj.weight is \(32, 32\).* for \(32, 48\)"):
        write_merged(tmp_path, source, wrong, 1.0, dtype="checkpoint", max_shard_bytes=10**9)
    deeper = {"q": {k: jnp.concatenate([w, w]) for k, w in lora_params["q"].items()}}
    with pytest.raises(BadCheckpoint, match=r"missing model\.layers\.3\.self_attn\.q_proj"):
        write_merged(tmp_path, source, deeper, 1.0, dtype="checkpoint", max_shard_bytes=10**9)


@pytest.mark.parametrize("name", ["llama31_rope", "gqa_tied", "mqa_wide_heads", "qwen2", "qwen3"])
def test_configuration_of_a_gguf_file(name, shapes, tmp_path):
    config = dataclasses.replace(shapes[name], norm_eps=2e-5)
    write_config(tmp_path, Path("model.gguf"), config, "checkpoint")
    raw = json.loads((tmp_path / "config.json").read_text())
    assert from_hf_config(raw, "") == config
    theirs = transformers.AutoConfig.from_pretrained(tmp_path)
    assert theirs.rope_parameters["rope_theta"] == config.rope_theta
    if config.rope_scaling is not None:
        assert theirs.rope_parameters["factor"] == config.rope_scaling.factor
        old = {key: value for key, value in raw.items() if key != "rope_parameters"}
        assert from_hf_config(old, "") == config  # as earlier transformers read it
