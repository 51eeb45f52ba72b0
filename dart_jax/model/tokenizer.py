"""Encode prompts and completions to token ids, the same way in training and decoding."""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

from dart_jax.model.chat_template import ChatTemplate
from dart_jax.model.control_tokens import ControlTokens, Encoded
from dart_jax.model.folder_tokenizer import read_folder_tokenizer
from dart_jax.model.stops import folder_stop_ids, gguf_stop_ids


class ChatTokenizer:
    """A Hugging Face tokenizer with a chat template; training and decoding share its methods.

    The text of messages and completions never becomes a control token, see `control_tokens`.

    Args:
        tokenizer: A tokenizer of transformers.
        where: Its file or folder, for error messages.
        extra_stop_ids: Further stop tokens, such as those that `generation_config.json` names.
        vocab_size: Rows of the model's embedding, beyond which an id is an error; None if unknown.
        date: Date for chat templates that ask for today's; None is today.
    """

    def __init__(
        self,
        tokenizer: Any,
        where: str,
        *,
        extra_stop_ids: Sequence[int] = (),
        vocab_size: int | None = None,
        date: datetime.date | None = None,
    ):
        if not tokenizer.chat_template:
            raise ValueError(
                f"{where}: the tokenizer has no chat template; "
                "use an instruct model, or add chat_template to tokenizer_config.json"
            )
        self._tokenizer = tokenizer
        self.where = where
        self.date = date or datetime.date.today()
        self._extra_stop_ids = tuple(extra_stop_ids)
        self._vocab_size = vocab_size
        self._template = ChatTemplate(tokenizer, where, self.date)

    def encode_prompt(self, messages: Sequence[dict[str, str]], row: str = "") -> list[int]:
        """Encode a conversation up to the point where the assistant's answer begins.

        Exactly one BOS stands in front if the model uses one, whether the template writes it
        (Llama 3) or the tokenizer adds it.

        Args:
            row: Id of the question that the messages belong to, for error messages.

        Raises:
            ValueError: The template refuses, changes or leaves out a message, or a token is
                beyond the model's embedding.
        """
        with _naming(row):
            text = self._template.prompt(messages)
            if any(self._control.are_in(message["content"]) for message in messages):
                marked = self._template.prompt(self._control.marked(messages))
                ids = self._checked(self._control.encode_rendered(marked))
            else:
                ids = self._encode(text).ids

        bos = self._tokenizer.bos_token_id
        if bos is None:
            return ids
        body = ids
        while body and body[0] == bos:
            body = body[1:]
        return [bos, *body] if len(body) < len(ids) or self._adds_bos else body

    def prompt_text(self, messages: Sequence[dict[str, str]]) -> str:
        """Render a conversation as `encode_prompt` does before it is encoded."""
        return self._template.prompt(messages)

    def encode_completion(self, text: str, row: str = "") -> list[int]:
        r"""Encode an assistant's whole answer, ended as the template ends it.

        A template may write more text between the answer and the token that ends its turn. A model
        of that template writes it, too, so that it is trained on; decoding removes it again.

            template's turn    <head>assistant\n  It is.   \n  <eot>  \n
            completion                            It is.   \n  <eot>
            decoded text                          It is.

        So is white space that it writes between the prompt and the answer (`opening`). If the
        template writes no control token behind an answer, EOS follows it directly.

        Args:
            row: Id of the question that the answer belongs to, for error messages.

        Raises:
            ValueError: The template ends no turn, or a token is beyond the model's embedding.
        """
        with _naming(row):
            # In one piece: a token may hold the end of the answer and the beginning of the closing.
            whole = self._encode_text(self.opening + text + self.closing)
            return [*whole.ids, self.end_of_turn]

    def completion_offsets(self, text: str) -> list[tuple[int, int]]:
        """Find the characters `text[start:end]` that each token of `encode_completion` stands for.

        Tokens that the template writes behind the answer are at `(len(text), len(text))`.

        Raises:
            ValueError: The tokenizer has no offsets (transformers' "slow" ones).
        """
        if not self._tokenizer.is_fast:
            raise ValueError(
                f"{self.where}: token weights need a tokenizer that knows its tokens' places in "
                "the text; add its tokenizer.json"
            )
        begin, end = len(self.opening), len(text)
        offsets = self._encode_text(self.opening + text + self.closing).offsets
        clipped = [
            (min(max(start - begin, 0), end), min(max(stop - begin, 0), end))
            for start, stop in offsets
        ]
        return [*clipped, (end, end)]

    def encode_text(self, text: str, row: str = "") -> list[int]:
        """Encode plain text, without BOS or end of turn; raises as `encode_completion`."""
        with _naming(row):
            return self._encode_text(text).ids

    def decode(self, ids: Sequence[int]) -> str:
        """Decode ids to text, without special tokens."""
        return self._tokenizer.decode(
            list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False
        )

    def decode_answer(self, ids: Sequence[int]) -> str:
        """Decode an answer, without what the template writes in front of one."""
        return self.decode(ids).removeprefix(self.opening)

    @property
    def end_of_turn(self) -> int:
        """The first control token that the template writes behind an answer; without one, EOS."""
        return self._turn_end[1]

    @property
    def opening(self) -> str:
        """White space that the template writes between a prompt and an answer; usually none."""
        return self._template.around[0]

    @property
    def closing(self) -> str:
        """Text that the template writes between an answer and `end_of_turn`; usually none."""
        return self._turn_end[0]

    @cached_property
    def stop_ids(self) -> tuple[int, ...]:
        """Tokens that end a generation."""
        ends = {self.end_of_turn, self._tokenizer.eos_token_id, *self._extra_stop_ids}
        return tuple(sorted(end for end in ends if end is not None))

    def special_ids(self) -> dict[str, int | list[int]]:
        """BOS, padding and stop tokens, by their keys in `generation_config.json`."""
        stops = list(self.stop_ids)
        ids = {
            "bos_token_id": self._tokenizer.bos_token_id,
            "eos_token_id": stops[0] if len(stops) == 1 else stops,
            "pad_token_id": self._tokenizer.pad_token_id,
        }
        return {key: value for key, value in ids.items() if value is not None}

    @property
    def control_tokens(self) -> dict[str, int]:
        """Ids of the tokens that only the template may write, by name."""
        return dict(self._control.ids)

    @property
    def vocabulary(self) -> dict[str, int]:
        """Ids of all tokens by their form."""
        return self._tokenizer.get_vocab()

    def check(self) -> None:
        """Raise ValueError if no conversation can be encoded.

        A token that is never used (a `<pad>` that a fine-tune added to the tokenizer alone) may be
        beyond the embedding; one that the template writes, or that ends a turn, may not.
        """
        self.encode_prompt([{"role": "user", "content": "a"}])
        self._checked(list(self.stop_ids))

    def save(self, folder: Path) -> None:
        """Write the tokenizer's files to a folder, for `transformers`."""
        self._tokenizer.save_pretrained(folder)

    @cached_property
    def _control(self) -> ControlTokens:
        return ControlTokens(self._tokenizer, self.where, self._template.frame)

    @cached_property
    def _turn_end(self) -> tuple[str, int]:
        """`closing` and `end_of_turn`."""
        ending = self._template.around[1]
        written = self._control.first(ending)
        if written:
            return ending[: written.start()], self._control.ids[written.group()]
        if self._tokenizer.eos_token_id is None:
            raise ValueError(
                f"{self.where}: the chat template writes {ending!r} behind an answer, with no "
                "special token to end it, and the tokenizer has no EOS; set eos_token in "
                "tokenizer_config.json"
            )
        return "", self._tokenizer.eos_token_id

    @cached_property
    def _adds_bos(self) -> bool:
        return self._tokenizer("a").input_ids[0] == self._tokenizer.bos_token_id

    def _encode_text(self, text: str) -> Encoded:
        """Encode a text that no template wrote, in which there can be no control token."""
        if not self._control.are_in(text):
            return self._encode(text)
        encoded = self._control.encode_plain(text)
        self._checked(encoded.ids)
        return encoded

    def _encode(self, text: str) -> Encoded:
        """Encode a text whose control tokens the tokenizer is to recognise."""
        is_fast = self._tokenizer.is_fast
        encoding = self._tokenizer(text, add_special_tokens=False, return_offsets_mapping=is_fast)
        offsets = [tuple(pair) for pair in encoding["offset_mapping"]] if is_fast else []
        return Encoded(self._checked(list(encoding["input_ids"])), offsets)

    def _checked(self, ids: list[int]) -> list[int]:
        """Return ids as they are; raise ValueError for one that the embedding has no row for."""
        largest = max(ids, default=0)
        if self._vocab_size is not None and largest >= self._vocab_size:
            name = self._tokenizer.convert_ids_to_tokens(largest)
            raise ValueError(
                f"{self.where}: token {name!r} has the id {largest}, and the model's embedding "
                f"only {self._vocab_size} rows; use the tokenizer that belongs to the weights, or "
                "resize the embedding and save the model again"
            )
        return ids


@contextmanager
def _naming(row: str) -> Iterator[None]:
    """Put the row's id in front of the message of a ValueError."""
    try:
        yield
    except ValueError as error:
        if not row:
            raise
        raise ValueError(f"{row}: {error}") from error


def load_tokenizer(
    path: Path, *, vocab_size: int | None = None, date: str | None = None
) -> ChatTokenizer:
    """Load the tokenizer of a Hugging Face folder or a GGUF file.

    Args:
        vocab_size, date: As for `ChatTokenizer`; the date as YYYY-MM-DD.
    """
    if path.is_file():
        # Imported here because they import jax, which a benchmark's PyTorch side does without.
        from dart_jax.model.gguf_metadata import read_gguf
        from dart_jax.model.gguf_tokenizer import read_gguf_tokenizer

        file = read_gguf(path)
        tokenizer = read_gguf_tokenizer(file)
        stop_ids = gguf_stop_ids(file)
    else:
        tokenizer = read_folder_tokenizer(path)
        stop_ids = folder_stop_ids(path)
    return ChatTokenizer(
        tokenizer,
        str(path),
        extra_stop_ids=stop_ids,
        vocab_size=vocab_size,
        date=None if date is None else datetime.date.fromisoformat(date),
    )
