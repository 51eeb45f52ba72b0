"""Token ids that the embedding has no row for: refused, by name, where they would be used."""

import dataclasses
import json

import jax
import pytest

from dart_jax.model.config import MeshConfig, ModelConfig
from dart_jax.model.load import load_model
from dart_jax.model.sharding import make_mesh

TEMPLATE = (
    "{% for m in messages %}<head>{{ m.role }}</head>{{ m.content }}<eot>{% endfor %}"
    "{% if add_generation_prompt %}<head>assistant</head>{% endif %}"
)
TALK = [{"role": "user", "content": "is it so"}]


@pytest.fixture(scope="module")
def size(chat_tokenizer):
    """Tokens of the tokenizer without any that was added later."""
    return len(chat_tokenizer(TEMPLATE)._tokenizer)


def test_a_token_that_nobody_writes_may_be_beyond(chat_tokenizer, size):
    """A `<pad>` that a fine-tune added to the tokenizer alone; in a text it is text."""
    tokenizer = chat_tokenizer(TEMPLATE, vocab_size=size)
    tokenizer._tokenizer.add_special_tokens({"pad_token": "<padding>"})
    assert tokenizer._tokenizer.pad_token_id == size
    tokenizer.check()
    asked = tokenizer.encode_prompt([{"role": "user", "content": "is <padding> so"}])
    assert max(asked) < size


def test_an_added_word_is_refused_where_it_is_used(chat_tokenizer, size):
    tokenizer = chat_tokenizer(TEMPLATE, added=["zebra"], vocab_size=size)
    tokenizer.check()
    assert tokenizer.encode_prompt(TALK)
    message = rf"^D1-7: here: token 'zebra' has the id {size}, .* only {size} rows"
    asked = [{"role": "user", "content": "a zebra <eot>"}]
    for content in ("a zebra", "a zebra <eot>"):
        with pytest.raises(ValueError, match=message):
            tokenizer.encode_prompt([{"role": "user", "content": content}], row="D1-7")
        with pytest.raises(ValueError, match=message):
            tokenizer.encode_completion(content, row="D1-7")
        with pytest.raises(ValueError, match=message):
            tokenizer.encode_text(content, row="D1-7")
        with pytest.raises(ValueError, match=message.removeprefix("^D1-7: ")):
            tokenizer.completion_offsets(content)
    assert chat_tokenizer(TEMPLATE, added=["zebra"]).encode_prompt(asked)


@pytest.mark.parametrize("stop_ids", [(400,), (7, 1000)])
def test_a_stop_beyond_is_refused_at_load(stop_ids, chat_tokenizer):
    tokenizer = chat_tokenizer(TEMPLATE, extra_stop_ids=stop_ids, vocab_size=400)
    with pytest.raises(ValueError, match=rf"has the id {max(stop_ids)}, .* only 400 rows"):
        tokenizer.check()


def test_an_end_of_turn_beyond_the_embedding_is_refused_at_load(
    config, hf_model, chat_tokenizer, size, tmp_path
):
    """The fine-tune's tokenizer beside the weights of its base."""
    hf_model(dataclasses.replace(config, vocab_size=size)).save_pretrained(tmp_path)
    (tmp_path / "generation_config.json").unlink(missing_ok=True)
    raw = json.loads((tmp_path / "config.json").read_text()) | {"eos_token_id": 1}
    (tmp_path / "config.json").write_text(json.dumps(raw))
    mesh = make_mesh(MeshConfig(), jax.devices()[:1])
    chat_tokenizer(TEMPLATE).save(tmp_path)
    model = load_model(ModelConfig(path=str(tmp_path)), mesh)
    assert model.tokenizer.encode_prompt(TALK)

    ends = chat_tokenizer(TEMPLATE.replace("<eot>", "<end>"), added=["<end>"])
    ends.save(tmp_path)
    with pytest.raises(ValueError, match=rf"token '<end>' has the id {size}, .* {size} rows"):
        load_model(ModelConfig(path=str(tmp_path)), mesh)
