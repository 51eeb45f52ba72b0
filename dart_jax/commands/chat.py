"""Talk to several models at once: all get the same lines, and each sees its own earlier answers."""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from dart_jax.commands.answer_view import Written, view_for
from dart_jax.commands.models_to_ask import Asked
from dart_jax.commands.prompt_file import question_messages
from dart_jax.commands.terminal import undisturbed
from dart_jax.generate.config import DecodeConfig
from dart_jax.generate.continuation import Continuation
from dart_jax.generate.decode import decode
from dart_jax.generate.plan import Request
from dart_jax.prompts.templates import Message
from dart_jax.records import StopReason

Turns = tuple[Message, ...]
Said = Mapping[str, Turns]
"""The turns so far, by model."""


class _Stopped(Exception):
    """Ctrl-C was pressed while the models wrote."""


@dataclass(frozen=True)
class Manner:
    """Settings with which each typed line is put to the models.

    Attributes:
        plain: Put a conversation's first line as it is, without the instructions of training;
            later ones always are.
    """

    config: DecodeConfig
    seed: int
    plain: bool = False


def ask(asked: Asked, manner: Manner, said: Said, line: str) -> Said:
    """Put a line to all models, and show their answers on standard output as they grow.

    Returns:
        What was said, with the line and the answers. A model that wrote nothing, or whose
        conversation has become too long, has not heard the line.
    """
    turns = {name: with_line(said.get(name, ()), line, manner.plain) for name in asked.names}
    encode = asked.model.tokenizer.encode_prompt
    try:
        # The line is the id that keys its noise: it has no other.
        requests = [Request(line, tuple(encode(turns[name])), name) for name in asked.names]
    except ValueError as error:
        print(f"{error}; /reset begins a new conversation")
        return said

    context, new = asked.model.config.context_length, manner.config.max_new_tokens
    fitting = [request for request in requests if request.length + new <= context]
    answers = _answers(asked, manner, fitting) if fitting else {}
    for request in requests:
        if request not in fitting:
            print(
                f"({request.adapter}: the conversation has {request.length} tokens, and with "
                f"{new} new ones exceeds the context of {context}; /reset begins a new one, and a "
                "lower --max-new-tokens leaves more room)"
            )

    for note, names in _notes(fitting, answers).items():
        print(f"({', '.join(names)}: {note})")
    heard = {
        name: (*turns[name], {"role": "assistant", "content": answer.text.strip()})
        for name, answer in answers.items()
        if answer.text.strip()
    }
    return {**said, **heard}


def with_line(before: Turns, line: str, plain: bool) -> Turns:
    """Add a person's line to the turns; the first one gets the instructions unless `plain`."""
    if not before and not plain:
        return question_messages(line)
    return (*before, {"role": "user", "content": line})


def _answers(asked: Asked, manner: Manner, requests: Sequence[Request]) -> dict[str, Continuation]:
    """Decode until all models have ended, or Ctrl-C is pressed; what each has written, by name."""
    names = [request.adapter for request in requests]
    view = view_for(names, sys.stdout)
    answers: dict[str, Continuation] = {}

    def keep(rows: list[Continuation]) -> None:
        answers.update({row.adapter: row for row in rows})

    def show(rows: list[Continuation]) -> None:
        keep(rows)
        view.show({name: Written(row.text, row.stop is not None) for name, row in answers.items()})
        if ctrl_c_pressed():
            raise _Stopped

    with undisturbed() as ctrl_c_pressed:
        view.show({})
        with suppress(_Stopped):
            decode(
                asked.model,
                asked.adapters,
                requests,
                manner.config,
                seed=manner.seed,
                # Every turn has other lengths, also of what the prompts have in common.
                prefix=(),
                few_shapes=True,
                on_finished=keep,
                on_growing=show,
            )
        # After Ctrl-C, a model that has not begun ends as well: the view waits for no one.
        ended = {name: Written("", True) for name in names}
        view.show(ended | {name: Written(row.text, True) for name, row in answers.items()})
    return answers


def _notes(
    requests: Sequence[Request], answers: Mapping[str, Continuation]
) -> dict[str, list[str]]:
    """Note each answer that is missing, stopped or cut off, with the models of which it is true."""
    notes = defaultdict(list)
    for name in [request.adapter for request in requests]:
        answer = answers.get(name)
        if answer is None or not answer.text.strip():
            notes["no answer; the line is forgotten"].append(name)
        elif answer.stop is None:
            notes["stopped"].append(name)
        elif answer.stop is StopReason.LENGTH:
            notes[f"cut off after {len(answer.tokens)} tokens, --max-new-tokens"].append(name)
    return notes
