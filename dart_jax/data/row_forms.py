"""The forms of a row's prompt, and the names that other tools give to its parts.

    {"question": "May a clinic ..."}                               put within our instructions
    {"messages": [{"role": "user", "content": "Hello?"}]}          the whole prompt
    {"prompt": "Hello?"}                                           the same, as TRL has it
    {"prompt": [{"role": "user", "content": "Hello?"}]}            the same

`messages` that end in the assistant's turn hold the completion, too. A row without `id` gets one
that is made from its prompt, so that it is the same in every run, whatever else the file holds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Annotated, Any

from pydantic import Discriminator, Tag

from dart_jax.records import BadRecord, Turn, digest


# Told before validation, so that an error is about the form that was meant, not about both.
def _form(value: Any) -> str:
    return "text" if isinstance(value, str) else "messages"


TextOrTurns = Annotated[
    Annotated[str, Tag("text")] | Annotated[list[Turn], Tag("messages")], Discriminator(_form)
]
"""A text, or a list of `{role, content}`."""

_COMPLETION = "rename it to completion"
OTHER_PROMPTS = {
    "instruction": "rename it to prompt",
    "input": "put its text into prompt, after the instruction",
    "query": "rename it to prompt",
    "text": "split it into prompt and completion",
    "conversations": "rename it to messages, and in it from and value to role and content",
    "conversation": "rename it to messages",
    "chat": "rename it to messages",
    "system": "make it the first turn of messages, with the role system",
}
"""Keys by which other tools call a prompt or a part of it, and what to do with each."""

OTHER_COMPLETIONS = {
    "response": _COMPLETION,
    "responses": "keep one, and call it completion",
    "output": _COMPLETION,
    "answer": _COMPLETION,
    "target": _COMPLETION,
    "chosen": "rename it to completion; preference pairs are not trained on",
    "rejected": "leave it out; preference pairs are not trained on",
}
"""Keys by which other tools call a completion, and what to do with each."""


def refuse_other_names(
    row: Mapping[str, Any], known: Collection[str], names: Mapping[str, str], where: str
) -> None:
    """Raise BadRecord for a key of another tool, saying what to do with it.

    Args:
        known: Keys that the row may have, even if other tools use them otherwise.
        names: `OTHER_PROMPTS`, `OTHER_COMPLETIONS` or both.
        where: The row's file and line.
    """
    for key in row:
        if key not in known and key in names:
            raise BadRecord(f"{where}: {key}: no key of ours; {names[key]}")


def turns_of(prompt: str | Sequence[Turn]) -> tuple[Turn, ...]:
    """Make a conversation of a prompt: a text is the user's turn."""
    return (Turn("user", prompt),) if isinstance(prompt, str) else tuple(prompt)


def check_id(row_id: str | int | None) -> None:
    """Raise ValueError for an id that is empty or has a control character."""
    if not isinstance(row_id, str):
        return
    if not row_id.strip():
        raise ValueError("id is empty; leave it out, and the row gets one")
    if any(ord(character) < 32 for character in row_id):
        raise ValueError(f"id {row_id!r} has a control character")


def check_prompt(turns: Sequence[Turn], name: str) -> None:
    """Raise ValueError unless a conversation has text and leaves the answer to the model.

    Args:
        name: Key under which it stands in the row, for messages.
    """
    if not any(turn.content.strip() for turn in turns):
        raise ValueError(f"{name}: there is no text before the answer")
    if turns[-1].role == "assistant":
        raise ValueError(f"{name}: it ends with the assistant's turn, which the model is to write")


def ids_of(given: Sequence[str | None], prompts: Sequence[Any]) -> list[str]:
    """Give each row an id: the one in the file, or one made from its prompt.

    Args:
        given: The ids in the file; None for a row without one.
        prompts: Each row's prompt, as a value that `digest` takes.

    Returns:
        Ids, those that are made of `row-` and 12 hexadecimal digits. A prompt that is repeated
        without an id gets `-2`, `-3` and so on, in the file's order.
    """
    ids = []
    seen: Counter[str] = Counter()
    for given_id, prompt in zip(given, prompts, strict=True):
        if given_id is not None:
            ids.append(given_id)
            continue

        made = f"row-{digest(prompt)[:12]}"
        seen[made] += 1
        ids.append(made if seen[made] == 1 else f"{made}-{seen[made]}")
    return ids
