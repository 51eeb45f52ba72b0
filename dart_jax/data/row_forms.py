"""The forms in which people have prompts, and the names that they give to what we call otherwise.

    {"question": "May a clinic ..."}                               put within our instructions
    {"messages": [{"role": "user", "content": "Hello?"}]}          the prompt as it is
    {"prompt": "Hello?"}                                           the same, as TRL has it
    {"prompt": [{"role": "user", "content": "Hello?"}]}            the same

`messages` that end in the assistant's turn hold the completion, too. A row needs no `id`: it gets
one from its prompt, which is the same in every run and whatever else the file holds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Annotated, Any

from pydantic import Discriminator, Tag

from dart_jax.records import BadRecord, Turn, digest


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
"""Names by which other tools call a prompt or a part of it, and what to do with each."""

OTHER_COMPLETIONS = {
    "response": _COMPLETION,
    "responses": "keep one, and call it completion",
    "output": _COMPLETION,
    "answer": _COMPLETION,
    "target": _COMPLETION,
    "chosen": "rename it to completion; preference pairs are not trained on",
    "rejected": "leave it out; preference pairs are not trained on",
}
"""The same for a completion."""


def refuse_other_names(
    row: Mapping[str, Any], known: Collection[str], names: Mapping[str, str], where: str
) -> None:
    """Raise BadRecord for a key that we call otherwise, with what to rename it to.

    Args:
        known: Keys that the row may have, whatever other tools mean by them.
        names: `OTHER_PROMPTS`, `OTHER_COMPLETIONS` or both.
        where: The row's file and line.
    """
    for key in row:
        if key not in known and key in names:
            raise BadRecord(f"{where}: {key}: no key of ours; {names[key]}")


def turns_of(prompt: str | Sequence[Turn]) -> tuple[Turn, ...]:
    """A prompt as a conversation: a text is the user's turn."""
    return (Turn("user", prompt),) if isinstance(prompt, str) else tuple(prompt)


def check_id(row_id: str | None) -> None:
    """Raise ValueError for an id that is empty, or that tables and messages cannot show."""
    if row_id is not None and not row_id.strip():
        raise ValueError("id is empty; leave it out, and the row gets one")
    if row_id is not None and any(ord(character) < 32 for character in row_id):
        raise ValueError(f"id {row_id!r} has a control character")


def check_prompt(turns: Sequence[Turn], name: str) -> None:
    """Raise ValueError unless a conversation says something and leaves the answer to the model.

    Args:
        name: The key that it stands under.
    """
    if not any(turn.content.strip() for turn in turns):
        raise ValueError(f"{name}: there is no text before the answer")
    if turns[-1].role == "assistant":
        raise ValueError(f"{name}: it ends with the assistant's turn, which the model is to write")


def ids_of(given: Sequence[str | None], prompts: Sequence[Any]) -> list[str]:
    """Each row's id: its own, or one made from its prompt.

    Args:
        given: The rows' own ids; None where a row has none.
        prompts: What identifies each row, as `digest` takes it.

    Returns:
        `row-` and 12 hexadecimal digits; a prompt that comes again without an id gets `-2`, `-3`
        and so on, in the file's order.
    """
    ids = []
    seen: Counter[str] = Counter()
    for own, prompt in zip(given, prompts, strict=True):
        if own is not None:
            ids.append(own)
            continue
        made = f"row-{digest(prompt)[:12]}"
        seen[made] += 1
        ids.append(made if seen[made] == 1 else f"{made}-{seen[made]}")
    return ids
