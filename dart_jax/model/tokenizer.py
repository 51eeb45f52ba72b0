"""Text to token ids: one function for prompts, wherever they are used, and one for completions."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any


class ChatTokenizer:
    """A Hugging Face tokenizer with a chat template; training and decoding share its methods."""

    def __init__(self, tokenizer: Any, where: str):
        if not tokenizer.chat_template:
            raise ValueError(
                f"{where}: the tokenizer has no chat template; "
                "use an instruct model, or add chat_template to tokenizer_config.json"
            )
        self._tokenizer = tokenizer
        self.where = where

    def encode_prompt(self, messages: Sequence[dict[str, str]]) -> list[int]:
        """Ids of a conversation up to the point where the assistant's answer begins.

        Exactly one BOS stands in front when the model uses one, whether the template writes it
        (Llama 3) or the tokenizer adds it.
        """
        text = self._tokenizer.apply_chat_template(
            list(messages), tokenize=False, add_generation_prompt=True
        )
        ids = self._encode(text)
        bos = self._tokenizer.bos_token_id
        if bos is None:
            return ids
        body = ids
        while body and body[0] == bos:
            body = body[1:]
        return [bos, *body] if len(body) < len(ids) or self._adds_bos else body

    def encode_completion(self, text: str) -> list[int]:
        """Ids of an assistant's whole answer, with the token that ends its turn."""
        return [*self._encode(text), self.end_of_turn]

    def completion_offsets(self, text: str) -> list[tuple[int, int]]:
        """Which characters of an answer each token of `encode_completion` stands for.

        The end of turn is `(len(text), len(text))`. Raises ValueError for a tokenizer that does
        not tell (transformers' "slow" ones).
        """
        if not self._tokenizer.is_fast:
            raise ValueError(
                f"{self.where}: token weights need a tokenizer that knows its tokens' places in "
                "the text; add its tokenizer.json"
            )
        encoded = self._tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        return [*map(tuple, encoded["offset_mapping"]), (len(text), len(text))]

    def encode_text(self, text: str) -> list[int]:
        """Ids of plain text: no BOS, no end of turn."""
        return self._encode(text)

    def decode(self, ids: Sequence[int]) -> str:
        """Text of ids, without special tokens."""
        return self._tokenizer.decode(
            list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False
        )

    @cached_property
    def end_of_turn(self) -> int:
        """The token that the chat template puts after an assistant's answer."""
        talk = [{"role": "user", "content": "a"}]
        before = self._tokenizer.apply_chat_template(
            talk, tokenize=False, add_generation_prompt=True
        )
        after = self._tokenizer.apply_chat_template(
            [*talk, {"role": "assistant", "content": "b"}], tokenize=False
        )
        if not after.startswith(before + "b"):
            raise ValueError(f"{self.where}: the chat template rewrites the assistant's answer")
        ending = self._encode(after[len(before) + 1 :])
        return ending[0] if ending else self._tokenizer.eos_token_id

    @cached_property
    def stop_ids(self) -> tuple[int, ...]:
        """Tokens that end a generation."""
        ends = {self.end_of_turn, self._tokenizer.eos_token_id}
        return tuple(sorted(end for end in ends if end is not None))

    @cached_property
    def _adds_bos(self) -> bool:
        return self._tokenizer("a").input_ids[0] == self._tokenizer.bos_token_id

    def _encode(self, text: str) -> list[int]:
        return list(self._tokenizer(text, add_special_tokens=False).input_ids)

    def save(self, folder: Path) -> None:
        """Write the tokenizer's files for `transformers`."""
        self._tokenizer.save_pretrained(folder)


def load_tokenizer(path: Path) -> ChatTokenizer:
    """The tokenizer of a Hugging Face folder or a GGUF file."""
    if path.is_file():
        # Imports jax, which a benchmark's PyTorch side does without.
        from dart_jax.model.gguf_tokenizer import read_gguf_tokenizer

        return ChatTokenizer(read_gguf_tokenizer(path), str(path))

    from transformers import AutoTokenizer

    return ChatTokenizer(AutoTokenizer.from_pretrained(path, local_files_only=True), str(path))
