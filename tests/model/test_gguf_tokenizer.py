"""Tokenizers out of GGUF metadata give the ids that the models' documented rules give."""

import dataclasses
import json
import subprocess
import sys

import pytest

from dart_jax.model.gguf_metadata import read_gguf
from dart_jax.model.gguf_tokenizer import read_gguf_tokenizer, splitting_of
from dart_jax.model.merged import write_config, write_tokenizer
from dart_jax.model.tokenizer import load_tokenizer
from dart_jax.model.weights import BadCheckpoint

gguf = pytest.importorskip("gguf")
tokenizers = pytest.importorskip("tokenizers")
pytest.importorskip("transformers")

LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN2 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
TEKKEN = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
    r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
SPECIAL = ["<|begin|>", "<|end|>", "<think>"]
CHAT = (
    "{% for m in messages %}{{ m.role }}:{{ m.content }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}assistant:{% endif %}"
)
TALK = [{"role": "user", "content": "What's  12\n\n1. plus 345?"}]
NASTY = [
    "",
    " ",
    "  12",
    "\n\n1.",
    "a\n\nb\r\n\r\n  c\t\td   ",
    "1234567 1,234.56 ½ ① ٣٤",
    "I'm, you'RE, they'll, it's, o'clock 'tis",
    "camelCaseWORDS UPPERlower snake_case",
    "naïve cafe\u0301 café ﬁ Å",
    "中文字符和日本語のテキスト 한국어",
    "हिन्दी ไทย עברית العربية",
    "😀 👩‍👩‍👧 🇩🇪",
    "...?!  --- /path//to/ $5.00 <b>",
    "\u00a0\u3000\u200d\ufeff",
    "a<|end|>b <think> c<|begin|>",
]


def _stages(name):
    """The documented pre-tokenizer of each `tokenizer.ggml.pre`, its `ignore_merges`, NFC."""
    pre = tokenizers.pre_tokenizers
    byte_level = pre.ByteLevel(add_prefix_space=False, use_regex=False)

    def split(pattern):
        return [pre.Split(tokenizers.Regex(pattern), "isolated"), byte_level]

    gpt2 = pre.ByteLevel(add_prefix_space=False, use_regex=True)
    return {
        "llama-bpe": (split(LLAMA3), True, False),
        "llama3": (split(LLAMA3), True, False),
        "smollm": ([pre.Digits(individual_digits=True), gpt2], False, False),
        "starcoder": ([pre.Digits(individual_digits=True), gpt2], False, False),
        "gpt-2": ([gpt2], False, False),
        "qwen2": (split(QWEN2), False, True),
        "tekken": (split(TEKKEN), True, False),
    }[name]


def _trained():
    """Vocabulary and merges learned from the strings above, with words that no merge reaches."""
    stages, *_ = _stages("llama-bpe")
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Sequence(stages)
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=600,
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([text for text in NASTY if "<|" not in text] * 5, trainer)
    model = json.loads(tokenizer.to_str())["model"]
    merges = [tuple(merge) for merge in model["merges"]]
    return [*sorted(model["vocab"], key=model["vocab"].get), *SPECIAL], merges[: len(merges) // 2]


def _reference(tokens, merges, stages, ignore_merges, normal_form_c):
    ids = {token: index for index, token in enumerate(tokens)}
    model = tokenizers.models.BPE(ids, merges, ignore_merges=ignore_merges)
    reference = tokenizers.Tokenizer(model)
    if normal_form_c:
        reference.normalizer = tokenizers.normalizers.NFC()
    reference.pre_tokenizer = tokenizers.pre_tokenizers.Sequence(stages)
    for token in SPECIAL:
        added = tokenizers.AddedToken(token, normalized=False, special=token != "<think>")
        reference.add_tokens([added])
    return reference


@pytest.fixture
def write(tmp_path):
    """A function: a GGUF file of nothing but a tokenizer; a value of None leaves its key out."""

    def run(tokens, merges, pre, **changes):
        path = tmp_path / "model.gguf"
        writer = gguf.GGUFWriter(path, "llama")
        types = [1] * (len(tokens) - len(SPECIAL)) + [3, 3, 4]
        settings = {
            "tokenizer_model": "gpt2",
            "tokenizer_pre": pre,
            "token_types": types,
            "bos_token_id": len(tokens) - 3,
            "eos_token_id": len(tokens) - 2,
            "chat_template": CHAT,
        } | changes
        writer.add_token_list(tokens)
        writer.add_token_merges([" ".join(merge) for merge in merges])
        for name, value in settings.items():
            if value is not None:
                getattr(writer, f"add_{name}")(value)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        return path

    return run


@pytest.fixture
def small(write):
    """A function: a GGUF file with a small vocabulary, a rule's name and changed metadata."""

    def run(pre="llama-bpe", **changes):
        return write(*_trained(), pre, **changes)

    return run


@pytest.mark.parametrize(
    "pre", ["llama-bpe", "llama3", "smollm", "starcoder", "gpt-2", "qwen2", "tekken"]
)
def test_same_ids_as_the_documented_rule(pre, write):
    stages, ignore_merges, normal_form_c = _stages(pre)
    tokens, merges = _trained()
    reference = _reference(tokens, merges, stages, ignore_merges, normal_form_c)
    # Not a ChatTokenizer, for which the names of special tokens in a text are text.
    built = read_gguf_tokenizer(read_gguf(write(tokens, merges, pre)))

    for text in NASTY:
        expected = reference.encode(text, add_special_tokens=False)
        found = built(text, add_special_tokens=False, return_offsets_mapping=True)
        assert found["input_ids"] == expected.ids, text
        assert found["offset_mapping"] == expected.offsets, text


def test_these_strings_tell_the_rules_apart():
    """With one vocabulary each rule has its own ids, and merges and normal form matter to all."""
    tokens, merges = _trained()
    rules = [_stages(name) for name in ("llama-bpe", "smollm", "gpt-2", "qwen2", "tekken")]
    ids = [_ids(tokens, merges, *rule) for rule in rules]
    assert all(ids.count(each) == 1 for each in ids)
    for stages, ignore_merges, normal_form_c in rules:
        found = _ids(tokens, merges, stages, ignore_merges, normal_form_c)
        assert found != _ids(tokens, merges, stages, not ignore_merges, normal_form_c)
        assert found != _ids(tokens, merges, stages, ignore_merges, not normal_form_c)


def _ids(tokens, merges, stages, ignore_merges, normal_form_c):
    reference = _reference(tokens, merges, stages, ignore_merges, normal_form_c)
    return [reference.encode(text).ids for text in NASTY]


def test_decodes_to_the_text(small):
    tokenizer = load_tokenizer(small())
    for text in NASTY[:-1]:
        assert tokenizer.decode(tokenizer.encode_text(text)) == text


def test_special_tokens(small):
    """BOS as the file says or, without a word, as Llama 3 has it; EOS ends a turn."""
    path = small()
    bos, end = ([load_tokenizer(path).control_tokens[token]] for token in SPECIAL[:2])
    prompt = load_tokenizer(path).encode_prompt(TALK)
    assert prompt[:1] == bos and prompt.count(bos[0]) == 1
    assert load_tokenizer(path).encode_completion("a")[-1:] == end
    without = load_tokenizer(small(add_bos_token=False)).encode_prompt(TALK)
    assert without == prompt[1:]
    assert load_tokenizer(small("gpt-2")).encode_prompt(TALK)[:1] != bos


@pytest.mark.parametrize(
    ("pre", "changes", "message"),
    [
        (None, {}, r"model.gguf: tokenizer.ggml.pre is missing.*llama-bpe.*Hugging Face folder"),
        ("default", {}, r"tokenizer.ggml.pre is 'default'"),
        ("hunyuan", {}, r"tokenizer.ggml.pre is 'hunyuan'"),
        ("default", {"tokenizer_model": "llama"}, r"tokenizer.ggml.model is 'llama'.*folder"),
        ("gpt-2", {"tokenizer_model": None}, r"metadata key tokenizer.ggml.model is missing"),
        ("gpt-2", {"token_types": None}, r"metadata key tokenizer.ggml.token_type is missing"),
        ("gpt-2", {"token_types": [1]}, r"token_type has 1 entries"),
        ("gpt-2", {"bos_token_id": 9999}, r"bos_token_id is 9999, of \d+ tokens"),
    ],
)
def test_refused(pre, changes, message, small):
    with pytest.raises(BadCheckpoint, match=message):
        load_tokenizer(small(pre, **changes))


def test_broken_vocabulary(write):
    with pytest.raises(BadCheckpoint, match=r"merge 0, 'a x', needs the token 'x'"):
        load_tokenizer(write(["a", *SPECIAL], [("a", "x")], "gpt-2"))
    with pytest.raises(BadCheckpoint, match=r"'a' is both token 0 and token 1"):
        load_tokenizer(write(["a", "a", *SPECIAL], [], "gpt-2"))
    with pytest.raises(BadCheckpoint, match=r"token 1 is empty"):
        load_tokenizer(write(["a", "", *SPECIAL], [("a", "")], "gpt-2"))


def test_llama3_is_known_by_its_vocabulary(tmp_path):
    """Conversions from before the rules had names have none, or a name that says nothing."""
    tokens = [str(index) for index in range(128_256)]
    tokens[128_000:128_002] = ["<|begin_of_text|>", "<|end_of_text|>"]
    for name in (None, "default", "smaug-bpe"):
        assert splitting_of(name, tokens, tmp_path) is splitting_of("llama-bpe", [], tmp_path)
    with pytest.raises(BadCheckpoint, match="'hunyuan'"):
        splitting_of("hunyuan", tokens, tmp_path)
    with pytest.raises(BadCheckpoint, match="is missing"):
        splitting_of(None, ["shifted", *tokens], tmp_path)
    with pytest.raises(BadCheckpoint, match="is missing"):
        splitting_of(None, tokens[:128_001], tmp_path)


PROGRAM = """
import json, sys
from pathlib import Path

sys.modules["torch"] = None  # as on a machine without it
from dart_jax.model.tokenizer import load_tokenizer

talk, texts = json.loads(sys.argv[1])
found = []
for path in sys.argv[2:]:
    tokenizer = load_tokenizer(Path(path))
    found.append([tokenizer.encode_prompt(talk), *map(tokenizer.encode_text, texts)])
print(json.dumps(found))
"""


@pytest.mark.parametrize("pre", ["llama-bpe", "qwen2"])
def test_without_torch_from_the_file_and_from_what_is_saved(pre, small, config, tmp_path):
    path, folder = small(pre), tmp_path / "saved"
    folder.mkdir()
    config = dataclasses.replace(config, vocab_size=1000)
    write_config(folder, path, config, "checkpoint")
    write_tokenizer(folder, path)
    arguments = [json.dumps([TALK, NASTY]), str(path), str(folder)]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    tokenizer = load_tokenizer(path)
    expected = [tokenizer.encode_prompt(TALK), *map(tokenizer.encode_text, NASTY)]
    assert json.loads(done.stdout) == [expected, expected]


def test_smollm2_takes_digits_one_by_one(smollm2_path):
    """The embedded model's own rule; GPT-2's, which the file's reader had before, gives others."""
    reader = gguf.GGUFReader(smollm2_path)
    tokens = reader.get_field("tokenizer.ggml.tokens").contents()
    merges = [
        tuple(merge.split(" ")) for merge in reader.get_field("tokenizer.ggml.merges").contents()
    ]
    found = load_tokenizer(smollm2_path)
    pieces = {text: [tokens[i] for i in found.encode_text(text)] for text in ("  12", "\n\n1.")}
    assert pieces == {"  12": ["ĠĠ", "1", "2"], "\n\n1.": ["ĊĊ", "1", "."]}
    reference = tokenizers.Tokenizer(
        tokenizers.models.BPE({token: index for index, token in enumerate(tokens)}, merges)
    )
    reference.pre_tokenizer = tokenizers.pre_tokenizers.Sequence(_stages("smollm")[0])
    for text in NASTY[:-1]:
        assert found.encode_text(text) == reference.encode(text).ids
