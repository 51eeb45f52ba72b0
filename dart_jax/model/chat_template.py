"""Render a checkpoint's chat template, and check that it renders messages in full.

A template is a program that writes messages as one text. One that refuses a message, leaves it out
or changes its words raises an error. Text that the template adds, such as today's date, is the same
for a whole run.

Where a template has the switch `enable_thinking` (Qwen3's), it is off. A prompt then ends behind an
empty think block, and so does it in the template's whole conversations: answers are asked for where
they are trained on.
"""

from __future__ import annotations

import datetime
import string
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from jinja2 import TemplateError

_CLOCK = "strftime_now"
_THINKING = "enable_thinking"
_GGUF_METADATA_BYTES = 64 << 20
# Llama 3.2's and other templates call `strftime_now(format)`, which transformers answers by the
# clock. It cannot be replaced by a variable of that name, which transformers overwrites; a macro of
# that name before the template hides it. Jinja removes the newline behind the macro.
_FROZEN_CLOCK = (
    "{%- macro strftime_now(format) %}"
    "{%- set written = namespace(text=format) %}"
    "{%- for directive, value in frozen_day.items() %}"
    "{%- set written.text = written.text | replace(directive, value) %}"
    "{%- endfor %}"
    "{{- written.text }}"
    "{%- endmacro %}\n"
)
_REMEDY = (
    "use a model whose template takes them, or change chat_template in its tokenizer_config.json "
    "or chat_template.jinja (a system text can stand before the first user's)"
)

_QUESTION = {"role": "user", "content": "a"}
_ANSWER = {"role": "assistant", "content": "b"}

Messages = Sequence[dict[str, str]]


def asks_for_date(path: Path) -> bool:
    """Tell whether the chat template of a Hugging Face folder or GGUF file may write today's date.

    It only looks for the name of the clock function, so that no tokenizer has to be loaded; a
    template that has the name and never calls it counts, too.
    """
    return _names(path, _CLOCK)


def switches_thinking(path: Path) -> bool:
    """Tell whether the chat template of a Hugging Face folder or GGUF file has the switch."""
    return _names(path, _THINKING)


def _names(path: Path, word: str) -> bool:
    name = word.encode()
    if path.is_file():
        # The metadata come before the tensors; with a large vocabulary they take some 10 MB.
        with open(path, "rb") as file:
            return name in file.read(_GGUF_METADATA_BYTES)
    patterns = ("tokenizer_config.json", "chat_template.*", "additional_chat_templates/*")
    files = [file for pattern in patterns for file in path.glob(pattern) if file.is_file()]
    return any(name in file.read_bytes() for file in files)


class ChatTemplate:
    """A tokenizer's chat template, rendered with a fixed date.

    Args:
        tokenizer: A tokenizer of transformers with a chat template.
        where: Its file or folder, for error messages.
        date: Date for templates that ask for today's.
    """

    def __init__(self, tokenizer: Any, where: str, date: datetime.date):
        self._tokenizer = tokenizer
        self._where = where
        self._source = tokenizer.get_chat_template()
        self._variables: dict[str, Any] = {}
        if _CLOCK in self._source:
            self._source = _FROZEN_CLOCK + self._source
            self._variables["frozen_day"] = _directives(date)
        if _THINKING in self._source:
            self._variables[_THINKING] = False
        self._proven: set[tuple[bool, tuple[str, ...]]] = set()

    def prompt(self, messages: Messages) -> str:
        """Render a conversation up to where the assistant's answer begins.

        Raises:
            ValueError: The template refuses the messages, or not all of their text is in the
                prompt (white space at either end of a message may be missing).
        """
        return self._render(messages, add_generation_prompt=True)

    def conversation(self, messages: Messages) -> str:
        """Render a whole conversation, its last turn ended; raises as `prompt`."""
        return self._render(messages, add_generation_prompt=False)

    @cached_property
    def around(self) -> tuple[str, str]:
        r"""Text that the template writes in front of an assistant's answer and behind it.

        In front there is most often nothing. Mistral's `[/INST]` ends a prompt, and a blank follows
        it where there is an answer. Behind it stands `<|im_end|>\n` or the like.

        Raises:
            ValueError: The rendered conversation does not begin with the prompt, white space if
                any, and the answer.
        """
        prompt, answer = self.prompt([_QUESTION]), _ANSWER["content"]
        whole = self.conversation([_QUESTION, _ANSWER])
        opening, _, ending = whole.removeprefix(prompt).partition(answer)
        if not whole.startswith(prompt) or opening.strip():
            raise ValueError(
                f"{self._where}: the chat template rewrites the assistant's answer: with one it "
                f"writes {whole!r}, which does not begin with the prompt and the answer, "
                f"{prompt + answer!r}; change chat_template so that it does"
            )
        return opening, ending

    @cached_property
    def frame(self) -> str:
        """A rendered prompt and conversation of one-letter messages: the template's own text."""
        return self.prompt([_QUESTION]) + self.conversation([_QUESTION, _ANSWER])

    def _render(self, messages: Messages, add_generation_prompt: bool) -> str:
        self._prove([message["role"] for message in messages], add_generation_prompt)
        text = self._written(messages, add_generation_prompt)

        for number, message in enumerate(messages, 1):
            content = message["content"].strip()
            if content not in text:
                raise ValueError(
                    f"{self._where}: the chat template changes the text of message {number} "
                    f"({message['role']}), {_shortened(content)!r}; {_REMEDY}"
                )
        return text

    def _prove(self, roles: Sequence[str], add_generation_prompt: bool) -> None:
        """Raise for a template that leaves out a message of a conversation with these roles.

        The messages' own text does not show it: a short one that was left out may occur in another.
        So the template is rendered once with unique probes.
        """
        key = (add_generation_prompt, tuple(roles))
        if key in self._proven:
            return
        probes = [
            {"role": role, "content": f"probe {number} of {len(roles)}"}
            for number, role in enumerate(roles, 1)
        ]
        text = self._written(probes, add_generation_prompt)

        for number, probe in enumerate(probes, 1):
            if probe["content"] not in text:
                raise ValueError(
                    f"{self._where}: the chat template leaves out message {number} of "
                    f"{', '.join(roles)}; {_REMEDY}"
                )
        self._proven.add(key)

    @cached_property
    def _takes_parts(self) -> bool:
        """Tell whether a content is a list of parts, as in Llama Guard 3 1B's template."""
        probe = {"role": "user", "content": "a probe of the form"}
        for messages, is_answer in (([probe], False), (_in_parts([probe]), True)):
            try:
                if probe["content"] in self._apply(messages, add_generation_prompt=True):
                    return is_answer
            except TemplateError:
                continue  # said with the messages themselves, where no form is taken
        return False

    def _written(self, messages: Messages, add_generation_prompt: bool) -> str:
        try:
            text = self._apply(
                _in_parts(messages) if self._takes_parts else list(messages), add_generation_prompt
            )
        except TemplateError as error:
            roles = ", ".join(message["role"] for message in messages)
            raise ValueError(
                f"{self._where}: the chat template refuses messages of {roles}: {error}; {_REMEDY}"
            ) from error

        # Llama Guard 3 8B's template writes a blank before its BOS, which would count as text that
        # needs another BOS in front.
        bos = self._tokenizer.bos_token
        return text.lstrip() if bos and text.lstrip().startswith(bos) else text

    def _apply(self, messages: Sequence[dict[str, Any]], add_generation_prompt: bool) -> str:
        return self._tokenizer.apply_chat_template(
            messages,
            tokenize=False,
            chat_template=self._source,
            add_generation_prompt=add_generation_prompt,
            **self._variables,
        )


def _in_parts(messages: Messages) -> list[dict[str, Any]]:
    """Write each content as a list of one text part, the form of models that also see images."""
    return [{**m, "content": [{"type": "text", "text": m["content"]}]} for m in messages]


def _directives(date: datetime.date) -> dict[str, str]:
    """Map each `strftime` directive to its value at the beginning of a day, `%-d` before `%d`."""
    moment = datetime.datetime.combine(date, datetime.time())
    names = [f"%{flag}{letter}" for flag in ("-", "") for letter in string.ascii_letters]
    return {name: moment.strftime(name) for name in names} | {"%%": "%"}


def _shortened(text: str, most: int = 60) -> str:
    return text if len(text) <= most else f"{text[:most]}..."
