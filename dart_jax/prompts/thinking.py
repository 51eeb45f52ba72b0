"""Reasoning blocks, `<think> .. </think>`, which a model writes before its answer.

One rule treats them everywhere:

- Teacher and judge: a closed block is removed before the reply is read (the response store keeps
  the reply unchanged). A reply that ends inside a block is a failure.
- Audited models: a block is text that a user may see. It stays part of the analysis, and is
  scored, judged and shown with it; a conclusion line in it is a draft and decides nothing.
- Training targets hold no block.

Servers that return the reasoning in a separate field (`reasoning_content`) need none of this.
"""

import re

_NAMES = "think|thinking|thought|thoughts|reasoning"
_TAG = re.compile(rf"(?i:<\s*(?P<close>/?)\s*(?:{_NAMES})\s*>)|\[(?P<ends>/?)THINK\]")

UNFINISHED = "it ends inside its <think> block"


def thinking_blocks(text: str) -> tuple[list[tuple[int, int]], int | None]:
    """Locate the closed blocks of a text, and the beginning of one that is not closed.

    A closing tag without an opening one also ends a block: some templates write the
    opening tag into the prompt, so that the reply begins inside the block.

    Returns:
        `(start, end)` of each closed block, tags included; the start of the open one, or None.

    Example:
        "a <think>b</think> c"    [(2, 18)], None
        "b</think> c"             [(0, 9)], None
        "a <think>b"              [], 2
    """
    blocks: list[tuple[int, int]] = []
    begun = None
    for tag in _TAG.finditer(text):
        if not _closes(tag):
            begun = tag.start() if begun is None else begun
            continue
        after_last = blocks[-1][1] if blocks else 0
        blocks.append((after_last if begun is None else begun, tag.end()))
        begun = None

    return blocks, begun


def answer_spans(text: str) -> list[tuple[int, int]]:
    """Locate the stretches of a text outside of every block, as `(start, end)`."""
    blocks, open_block = thinking_blocks(text)
    text_end = len(text) if open_block is None else open_block
    spans = []
    previous_end = 0
    for start, end in [*blocks, (text_end, text_end)]:
        if previous_end < start:
            spans.append((previous_end, start))
        previous_end = end
    return spans


def ends_in_thinking(text: str) -> bool:
    """Say whether a text ends inside a block, so that its answer has not begun."""
    return thinking_blocks(text)[1] is not None


def holds_thinking(text: str) -> bool:
    """Say whether a text holds any tag of a block."""
    return _TAG.search(text) is not None


def without_thinking(text: str) -> str | None:
    """Remove the closed blocks of a reply and strip it; None where it ends inside one.

    A reply without any block is returned unchanged.
    """
    if not holds_thinking(text):
        return text
    if ends_in_thinking(text):
        return None
    return "".join(text[start:end] for start, end in answer_spans(text)).strip()


def json_after_thinking(text: str) -> str | None:
    """Remove the block before a reply that has to be JSON; None where no answer follows it.

    A tag within the JSON is part of a string, such as a quote of the judged text.
    """
    if text.lstrip().startswith(("{", "`")):
        return text
    tags = list(_TAG.finditer(text))
    ends = [tag.end() for tag in tags if _closes(tag)]
    if ends:
        return text[ends[0] :].strip()
    return None if tags else text


def _closes(tag: re.Match) -> bool:
    return bool(tag["close"] or tag["ends"])
