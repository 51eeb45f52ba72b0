"""One BOS whoever writes it, and the same ids in training and in decoding."""

import itertools

import pytest

from dart_jax.model.gguf_metadata import read_gguf
from dart_jax.model.gguf_tokenizer import read_gguf_tokenizer
from dart_jax.model.tokenizer import ChatTokenizer, load_tokenizer

TALK = [{"role": "system", "content": "be kind"}, {"role": "user", "content": "is it so"}]
WORDS = ["be", "kind", "is", "it", "so", "yes", "no", "a", "b", "user", "assistant", "system"]
SPECIAL = ["<bos>", "<eos>", "<head>", "</head>", "<eot>", "<unk>"]
BODY = (
    "{% for m in messages %}<head>{{ m.role }}</head>{{ m.content }}<eot>{% endfor %}"
    "{% if add_generation_prompt %}<head>assistant</head>{% endif %}"
)


@pytest.fixture
def build(tmp_path):
    """A function: a word tokenizer saved to a folder and loaded as a model's would be."""
    tokenizers = pytest.importorskip("tokenizers")
    from transformers import PreTrainedTokenizerFast

    def run(template, adds_bos=False, bos="<bos>"):
        vocab = {word: index for index, word in enumerate(SPECIAL + WORDS)}
        raw = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocab, unk_token="<unk>"))
        raw.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
        raw.add_special_tokens(SPECIAL)
        if adds_bos:
            raw.post_processor = tokenizers.processors.TemplateProcessing(
                single="<bos> $A", special_tokens=[("<bos>", vocab["<bos>"])]
            )
        wrapped = PreTrainedTokenizerFast(
            tokenizer_object=raw, bos_token=bos, eos_token="<eos>", unk_token="<unk>"
        )
        wrapped.chat_template = template
        wrapped.save_pretrained(tmp_path)
        return load_tokenizer(tmp_path)

    return run


def _ids(text):
    return [(SPECIAL + WORDS).index(word) for word in text.split()]


PROMPT = _ids(
    "<head> system </head> be kind <eot> "
    "<head> user </head> is it so <eot> <head> assistant </head>"
)


@pytest.mark.parametrize(("written", "added"), list(itertools.product([True, False], repeat=2)))
def test_exactly_one_bos(written, added, build):
    """Written by the template, added by the tokenizer, by both, or by neither (then none)."""
    tokenizer = build(("{{ bos_token }}" if written else "") + BODY, adds_bos=added)
    expected = _ids("<bos>") + PROMPT if written or added else PROMPT
    assert tokenizer.encode_prompt(TALK) == expected


def test_model_without_bos(build):
    assert build(BODY, bos=None).encode_prompt(TALK) == PROMPT


@pytest.mark.parametrize("added", [True, False])
def test_completions_and_plain_text_have_no_bos(added, build):
    tokenizer = build("{{ bos_token }}" + BODY, adds_bos=added)
    assert tokenizer.encode_completion("yes it is") == _ids("yes it is <eot>")
    assert tokenizer.encode_text("yes it is") == _ids("yes it is")


def test_end_of_turn_is_the_templates(build):
    tokenizer = build(BODY)
    assert tokenizer.end_of_turn == _ids("<eot>")[0]
    assert set(tokenizer.stop_ids) == set(_ids("<eot> <eos>"))


def test_end_of_turn_is_eos_where_the_template_writes_none(build):
    bare = BODY.replace("<eot>", "{{ '<eot>' if m.role != 'assistant' else '' }}")
    tokenizer = build(bare)
    assert [tokenizer.end_of_turn] == list(tokenizer.stop_ids) == _ids("<eos>")


def test_template_that_rewrites_the_answer(build):
    """A word before it: a completion would not follow on the prompt. For a blank, see
    `test_turn_end`.
    """
    worded = "{{ 'is ' if m.role == 'assistant' }}{{ m.content }}"
    tokenizer = build(BODY.replace("{{ m.content }}", worded))
    assert tokenizer.encode_prompt(TALK) == PROMPT
    with pytest.raises(ValueError, match="rewrites the assistant's answer"):
        tokenizer.encode_completion("yes")


def test_decode_leaves_special_tokens_out(build):
    tokenizer = build(BODY)
    assert tokenizer.decode(tokenizer.encode_completion("yes it is")) == "yes it is"


def test_no_chat_template(build, tmp_path):
    with pytest.raises(ValueError, match=f"{tmp_path}: the tokenizer has no chat template"):
        build(None)


def test_saved_is_the_same(build, tmp_path):
    tokenizer = build("{{ bos_token }}" + BODY, adds_bos=True)
    tokenizer.save(tmp_path / "copy")
    again = load_tokenizer(tmp_path / "copy")
    assert again.encode_prompt(TALK) == tokenizer.encode_prompt(TALK)
    assert again.stop_ids == tokenizer.stop_ids


@pytest.fixture(scope="module")
def smollm2(smollm2_path) -> ChatTokenizer:
    return load_tokenizer(smollm2_path)


@pytest.fixture(scope="module")
def smollm2_ids(smollm2_path):
    """A function: ids of a text in which control tokens are control tokens."""
    raw = read_gguf_tokenizer(read_gguf(smollm2_path))
    return lambda text: raw(text, add_special_tokens=False)["input_ids"]


def test_smollm2_prompt(smollm2, smollm2_ids):
    text = "<|im_start|>system\nbe kind<|im_end|>\n<|im_start|>user\nis it so<|im_end|>\n"
    expected = smollm2_ids(text + "<|im_start|>assistant\n")
    assert smollm2.encode_prompt(TALK) == expected
    assert [smollm2.end_of_turn] == smollm2_ids("<|im_end|>")


@pytest.mark.parametrize(
    "answer",
    ["Yes, it is.\nConclusion: YES", "Ça va — naïve 👍\n\nConclusion: NO", "1. two\n\t- three  "],
)
def test_smollm2_prompt_and_completion_are_the_whole_conversation(answer, smollm2, smollm2_ids):
    """Encoding in two parts cuts no token that encoding the whole would have made."""
    whole = "".join(f"<|im_start|>{m['role']}\n{m['content']}<|im_end|>\n" for m in TALK)
    whole += f"<|im_start|>assistant\n{answer}<|im_end|>\n"
    expected = smollm2_ids(whole)
    parts = smollm2.encode_prompt(TALK) + smollm2.encode_completion(answer)
    assert parts == expected[: len(parts)]
    assert len(parts) == len(expected) - 1  # the template's last newline
    assert smollm2.decode(smollm2.encode_completion(answer)) == answer
