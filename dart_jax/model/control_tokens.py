"""Encode the names of control tokens in a text as ordinary characters.

Only the chat template may write control tokens. `<|eot_id|>` in a question, a row or a teacher's
answer is a string of ordinary characters; encoded as the token, it would forge the end of a turn. A
text that holds such a string is encoded by a copy of the tokenizer in which control tokens have
other names, in two characters that occur in no text (U+FDD0 and U+FDD1, here `[` and `]`). The
template's tokens are given these names, the text's strings are not:

    text of a message    a <eot> b
    marked for the template                  a [<eot>] b
    rendered             <head>user</head>   a [<eot>] b   <eot>
    names exchanged    [<head>]user[</head>] a  <eot>  b  [<eot>]
    tokens               <head>user</head>   a < eo t> b   <eot>

Everything else is encoded as by the tokenizer itself, merges, normalisation and blanks included.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tokenizers import Tokenizer

# Noncharacters: Unicode reserves them, so that they occur in no interchanged text.
_OPEN, _CLOSE = "\ufdd0", "\ufdd1"


@dataclass(frozen=True)
class Encoded:
    """Token ids of a text, and the characters `text[start:end]` that each id stands for."""

    ids: list[int]
    offsets: list[tuple[int, int]]


class ControlTokens:
    """A tokenizer's control tokens, and the encoding of texts that hold their names.

    Control tokens are the added tokens that the tokenizer calls special, and all added tokens that
    the template writes around messages: many fine-tunes add `<|im_end|>` as an ordinary one.

    Args:
        tokenizer: A tokenizer of transformers.
        where: Its file or folder, for error messages.
        frame: Text that the chat template writes around messages, see `ChatTemplate.frame`.
    """

    def __init__(self, tokenizer: Any, where: str, frame: str):
        self._tokenizer = tokenizer
        self._where = where
        # Added tokens of blanks alone are left out: any text may hold them.
        self.ids: dict[str, int] = {
            token.content: id
            for id, token in tokenizer.added_tokens_decoder.items()
            if token.content.strip() and (token.special or token.content in frame)
        }
        # Longest first, because the tokenizer takes the longer of two that begin at one place.
        # Without any name, `(?!)` matches nothing; an empty pattern would match everywhere.
        names = "|".join(map(re.escape, sorted(self.ids, key=len, reverse=True))) or "(?!)"
        self._name = re.compile(names)
        self._exchanged = re.compile(f"{_OPEN}({names}){_CLOSE}|({names})")

    def first(self, text: str) -> re.Match[str] | None:
        """Find the first name of a control token in a text."""
        return self._name.search(text)

    def are_in(self, text: str) -> bool:
        """Tell whether the tokenizer would encode a part of this text as a control token."""
        if self.first(text):
            return True
        # Some tokenizers search the normalised text, in which full-width letters are plain ones.
        is_fast = self._tokenizer.is_fast
        normalizer = self._tokenizer.backend_tokenizer.normalizer if is_fast else None
        return normalizer is not None and self.first(normalizer.normalize_str(text)) is not None

    def marked(self, messages: Sequence[dict[str, str]]) -> list[dict[str, str]]:
        """Mark the names of control tokens in messages, before the chat template is rendered.

        Raises:
            ValueError: A text holds one of the two marks.
        """
        for message in messages:
            if _OPEN in message["content"] or _CLOSE in message["content"]:
                raise ValueError(
                    f"{self._where}: a text with the name of a control token holds U+FDD0 or "
                    "U+FDD1, too, which are no characters; take them out"
                )
        return [
            {**m, "content": self._name.sub(f"{_OPEN}\\g<0>{_CLOSE}", m["content"])}
            for m in messages
        ]

    def encode_rendered(self, text: str) -> list[int]:
        """Encode a prompt that was rendered from `marked` messages.

        Raises:
            ValueError: As `encode_plain`, or the template has taken a marked name apart.
        """
        rest = self._exchanged.sub("", text)
        if _OPEN in rest or _CLOSE in rest:
            raise ValueError(
                f"{self._where}: the chat template takes the names of control tokens apart that "
                "stand in a text; take them out of the text"
            )
        named = self._exchanged.sub(lambda m: m[1] or f"{_OPEN}{m[2]}{_CLOSE}", text)
        return self.encode_plain(named).ids

    def encode_plain(self, text: str) -> Encoded:
        """Encode a text in which the names of control tokens are ordinary characters.

        Raises:
            ValueError: The tokenizer has no tokenizer.json, or makes a control token of ordinary
                characters, too.
        """
        copy, home = self._copy
        encoding = copy.encode(text, add_special_tokens=False)
        controls = set(self.ids.values())
        # The template's tokens are added ones of the copy, in `home`. A control id that is not
        # among them was made of ordinary characters.
        forged = [id for id in encoding.ids if id not in home and id in controls]
        if forged:
            name = self._tokenizer.convert_ids_to_tokens(forged[0])
            raise ValueError(
                f"{self._where}: {name!r} in a text cannot be told from the control token, which "
                "this tokenizer makes of ordinary characters, too; take it out of the text"
            )
        return Encoded([home.get(id, id) for id in encoding.ids], encoding.offsets)

    @cached_property
    def _copy(self) -> tuple[Tokenizer, dict[int, int]]:
        """A tokenizer with renamed control tokens, and the original id of each added token."""
        from tokenizers import AddedToken, Tokenizer

        if not self._tokenizer.is_fast:
            raise ValueError(
                f"{self._where}: a text holds the name of a control token, which only a fast "
                "tokenizer can encode as text; add its tokenizer.json, or take it out of the text"
            )

        # No truncation or padding: all of a text is to be encoded, and nothing else.
        raw = json.loads(self._tokenizer.backend_tokenizer.to_str())
        copy = Tokenizer.from_str(
            json.dumps(raw | {"added_tokens": [], "truncation": None, "padding": None})
        )

        # The added tokens come back one by one, under new ids of the copy's own.
        home = {}
        for id, token in sorted(self._tokenizer.added_tokens_decoder.items()):
            is_control = token.content in self.ids
            name = f"{_OPEN}{token.content}{_CLOSE}" if is_control else token.content
            copied = AddedToken(
                name,
                single_word=token.single_word and not is_control,
                lstrip=token.lstrip,
                rstrip=token.rstrip,
                normalized=token.normalized and not is_control,
                special=token.special,
            )
            copy.add_tokens([copied])
            home[copy.token_to_id(name)] = id
        return copy, home
