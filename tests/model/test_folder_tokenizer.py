"""A folder's tokenizer.json is read as it is, whichever class its tokenizer_config.json names."""

import json

import pytest

from dart_jax.model.folder_tokenizer import read_folder_tokenizer
from dart_jax.model.merged import write_tokenizer
from dart_jax.model.tokenizer import load_tokenizer

tokenizers = pytest.importorskip("tokenizers")
transformers = pytest.importorskip("transformers")

TEXTS = ["  12", "\n\n1.", " 2024", "a\n\nb  c", "Å <end> e\u0301"]
CHAT = (
    "{% for m in messages %}{{ m.role }}:{{ m.content }}<end>{% endfor %}"
    "{% if add_generation_prompt %}assistant:{% endif %}"
)


@pytest.fixture
def folder(tmp_path):
    """A folder like SmolLM2's: digits one by one, and a class that knows nothing of it."""
    pre = tokenizers.pre_tokenizers
    raw = tokenizers.Tokenizer(tokenizers.models.BPE())
    raw.pre_tokenizer = pre.Sequence(
        [pre.Digits(individual_digits=True), pre.ByteLevel(add_prefix_space=False)]
    )
    raw.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=300, initial_alphabet=pre.ByteLevel.alphabet(), show_progress=False
    )
    raw.train_from_iterator(["  12   3\n\n1. a\n\nb  c"] * 5, trainer)
    raw.add_special_tokens(["<end>"])
    base = tmp_path / "base"
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=raw, eos_token="<end>", chat_template=CHAT
    ).save_pretrained(base)
    (base / "config.json").write_text(json.dumps({"model_type": "llama"}))
    return base


def name_class(folder, name):
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"tokenizer_class": name}))


def ids_of(tokenizer):
    return [tokenizer(text, add_special_tokens=False).input_ids for text in TEXTS]


@pytest.mark.parametrize("name", ["GPT2Tokenizer", "Qwen2Tokenizer", "PreTrainedTokenizerFast"])
def test_the_class_changes_no_id(name, folder):
    raw = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    expected = [raw.encode(text, add_special_tokens=False).ids for text in TEXTS]
    name_class(folder, name)
    assert ids_of(read_folder_tokenizer(folder)) == expected
    assert [load_tokenizer(folder).encode_text(text) for text in TEXTS[:-1]] == expected[:-1]
    # What the class would have made of the same file.
    automatic = ids_of(transformers.AutoTokenizer.from_pretrained(folder))
    assert (automatic == expected) == (name == "PreTrainedTokenizerFast")


def test_a_merged_export_is_read_everywhere_as_it_was_trained(folder, tmp_path):
    name_class(folder, "GPT2Tokenizer")
    expected = ids_of(read_folder_tokenizer(folder))
    out = tmp_path / "out"
    out.mkdir()
    (out / "config.json").write_text(json.dumps({"model_type": "llama"}))
    write_tokenizer(out, folder)
    assert ids_of(transformers.AutoTokenizer.from_pretrained(out)) == expected
