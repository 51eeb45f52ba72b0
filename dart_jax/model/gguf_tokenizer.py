"""Build the tokenizer of a GGUF file from the file's metadata.

The metadata hold a byte-level BPE vocabulary, but not the rule by which a text is cut into words
before their pieces are merged; that rule changes the ids of ordinary prompts. The file only names
it, in `tokenizer.ggml.pre`. `_SPLITTINGS` has the rules of models whose `tokenizer.json` is known;
a file that names another rule, or none, is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dart_jax.extras import without_advice_on_torch
from dart_jax.model.gguf_metadata import GgufFile
from dart_jax.model.weights import BadCheckpoint

# The regular expressions are those of the models' own tokenizer.json files.
_LLAMA3_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_QWEN2_WORDS = _LLAMA3_WORDS.replace(r"\p{N}{1,3}", r"\p{N}")
_TEKKEN_WORDS = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
    r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


@dataclass(frozen=True)
class Splitting:
    """Rule by which a text is cut into words (pre-tokenization), each of which is then encoded.

    Attributes:
        words: Regular expression of a word; None for GPT-2's, which the library has built in.
        single_digits: Every digit is cut off as a word before `words` is applied.
        whole_words: A word that is in the vocabulary becomes one token, whatever the merges say.
        normal_form_c: The text is brought into Unicode's normal form C first.
        adds_bos: Whether BOS is added where the file does not say.
    """

    words: str | None = None
    single_digits: bool = False
    whole_words: bool = False
    normal_form_c: bool = False
    adds_bos: bool = False


_LLAMA3 = Splitting(_LLAMA3_WORDS, whole_words=True, adds_bos=True)
_SMOLLM = Splitting(single_digits=True)
_SPLITTINGS = {
    "llama-bpe": _LLAMA3,
    "llama-v3": _LLAMA3,
    "llama3": _LLAMA3,
    "smollm": _SMOLLM,
    "starcoder": _SMOLLM,
    "refact": _SMOLLM,
    "gpt-2": Splitting(),
    "qwen2": Splitting(_QWEN2_WORDS, normal_form_c=True),
    "tekken": Splitting(_TEKKEN_WORDS, whole_words=True, adds_bos=True),
}
# Names that tell nothing of the rule: a converter writes `default` if it did not recognise the
# model, and conversions of Llama 3 from before these names existed have none. Llama 3 has been
# called "smaug-bpe", too.
_UNSPECIFIC = (None, "default", "smaug-bpe")
# A vocabulary with these two tokens at these ids is Llama 3's (3, 3.1, 3.2, 3.3 and models trained
# from them), whatever the conversion called it.
_LLAMA3_MARKS = {128_000: "<|begin_of_text|>", 128_001: "<|end_of_text|>"}

_CONTROL, _USER_DEFINED = 3, 4  # values of tokenizer.ggml.token_type
_SPECIAL_KEYS = {
    "bos_token": "tokenizer.ggml.bos_token_id",
    "eos_token": "tokenizer.ggml.eos_token_id",
    "unk_token": "tokenizer.ggml.unknown_token_id",
    "pad_token": "tokenizer.ggml.padding_token_id",
}
_ADVICE = (
    "take the model's Hugging Face folder (its tokenizer.json says everything), or convert it "
    "again with a current llama.cpp"
)


def read_gguf_tokenizer(file: GgufFile) -> Any:
    """Build a `transformers.PreTrainedTokenizerFast`, without torch.

    Raises:
        BadCheckpoint: A vocabulary or a splitting rule that would give other ids than the model was
            trained with, or metadata that contradict each other; names the key and what to do.
    """
    without_advice_on_torch()
    from transformers import PreTrainedTokenizerFast

    path = file.path
    model = file.require("tokenizer.ggml.model")
    if model != "gpt2":
        # Where a SentencePiece model puts its leading spaces is not in the file.
        raise BadCheckpoint(
            f"{path}: tokenizer.ggml.model is {model!r}; only byte-level BPE ('gpt2') can be "
            "rebuilt exactly from a GGUF file; take the model's Hugging Face folder"
        )
    tokens = _read_tokens(file)
    splitting = splitting_of(file.get("tokenizer.ggml.pre"), tokens, path)
    special = _special_tokens(file, tokens)
    adds_bos = bool(file.get("tokenizer.ggml.add_bos_token", splitting.adds_bos))

    return PreTrainedTokenizerFast(
        tokenizer_object=_build(file, tokens, splitting),
        chat_template=file.get("tokenizer.chat_template"),
        add_bos_token=adds_bos and "bos_token" in special,
        clean_up_tokenization_spaces=False,
        **special,
    )


def splitting_of(name: str | None, tokens: Sequence[str], path: Path) -> Splitting:
    """Look up the rule that `tokenizer.ggml.pre` names, or that the vocabulary is known to need.

    Raises:
        BadCheckpoint: An unknown name, or none and a vocabulary that is not Llama 3's.
    """
    if name in _SPLITTINGS:
        return _SPLITTINGS[name]
    if name in _UNSPECIFIC and is_llama3_vocabulary(tokens):
        return _LLAMA3
    what = "is missing" if name is None else f"is {name!r}"
    raise BadCheckpoint(
        f"{path}: tokenizer.ggml.pre {what}, so that it is not known how this model cuts text into "
        f"words (known: {', '.join(_SPLITTINGS)}); {_ADVICE}"
    )


def is_llama3_vocabulary(tokens: Sequence[str]) -> bool:
    """Tell whether Llama 3's first special tokens stand where only its vocabulary has them."""
    return len(tokens) > max(_LLAMA3_MARKS) and all(
        tokens[index] == token for index, token in _LLAMA3_MARKS.items()
    )


def _read_tokens(file: GgufFile) -> list[str]:
    """Read the vocabulary; refuse an empty or repeated token."""
    tokens = file.require("tokenizer.ggml.tokens")
    first_index: dict[str, int] = {}

    for index, token in enumerate(tokens):
        if not token:
            raise BadCheckpoint(
                f"{file.path}: tokenizer.ggml.tokens: token {index} is empty; {_ADVICE}"
            )
        # The tokenizer finds ids by text: one of the two ids would never be used.
        if token in first_index:
            raise BadCheckpoint(
                f"{file.path}: tokenizer.ggml.tokens: {token!r} is both token "
                f"{first_index[token]} and token {index}; {_ADVICE}"
            )
        first_index[token] = index
    return tokens


def _special_tokens(file: GgufFile, tokens: Sequence[str]) -> dict[str, str]:
    """Read the texts of BOS, EOS, unknown and padding token, as far as the file names them."""
    special = {}
    for name, key in _SPECIAL_KEYS.items():
        index = file.get(key)
        if index is None:
            continue
        if not 0 <= index < len(tokens):
            raise BadCheckpoint(f"{file.path}: {key} is {index}, of {len(tokens)} tokens")
        special[name] = tokens[index]
    return special


def _build(file: GgufFile, tokens: Sequence[str], splitting: Splitting) -> Any:
    """Build the `tokenizers.Tokenizer`: vocabulary, merges, splitting, and added tokens."""
    from tokenizers import AddedToken, Tokenizer, decoders, normalizers
    from tokenizers.models import BPE

    ids = {token: index for index, token in enumerate(tokens)}
    merges = _read_merges(file, ids)
    tokenizer = Tokenizer(BPE(ids, merges, ignore_merges=splitting.whole_words))

    if splitting.normal_form_c:
        tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = _pre_tokenizer(splitting)
    tokenizer.decoder = decoders.ByteLevel()

    types = file.require("tokenizer.ggml.token_type")
    if len(types) != len(tokens):
        raise BadCheckpoint(
            f"{file.path}: tokenizer.ggml.token_type has {len(types)} entries for "
            f"{len(tokens)} tokens; {_ADVICE}"
        )

    added = []
    for token, kind in zip(tokens, types, strict=True):
        if kind in (_CONTROL, _USER_DEFINED):
            added.append(AddedToken(token, normalized=False, special=kind == _CONTROL))
    # No need for add_special_tokens: a special token is recognised by its own flag.
    tokenizer.add_tokens(added)
    return tokenizer


def _read_merges(file: GgufFile, ids: dict[str, int]) -> list[tuple[str, str]]:
    """Read the merges; refuse one whose parts or result are not in the vocabulary."""
    merges = []
    for index, merge in enumerate(file.require("tokenizer.ggml.merges")):
        left, _, right = merge.partition(" ")
        for token in (left, right, left + right):
            if token not in ids:
                raise BadCheckpoint(
                    f"{file.path}: tokenizer.ggml.merges: merge {index}, {merge!r}, needs the "
                    f"token {token!r}, which the vocabulary does not have; {_ADVICE}"
                )
        merges.append((left, right))
    return merges


def _pre_tokenizer(splitting: Splitting) -> Any:
    from tokenizers import Regex
    from tokenizers.pre_tokenizers import ByteLevel, Digits, Sequence, Split

    stages = []
    if splitting.single_digits:
        stages.append(Digits(individual_digits=True))
    if splitting.words is not None:
        stages.append(Split(Regex(splitting.words), behavior="isolated"))
    stages.append(ByteLevel(add_prefix_space=False, use_regex=splitting.words is None))
    return Sequence(stages)
