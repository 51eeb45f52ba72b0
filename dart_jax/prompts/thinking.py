"""Reasoning blocks: what a model wrote for itself, `<think> .. </think>`, apart from its answer.

One rule says what becomes of them:

- Teacher and judge: a closed block is removed before anybody reads the reply (the response store
  keeps the reply as it came). A reply that ends inside a block is a failure.
- Models that are audited: a block is text that a user may see. It stays part of the analysis, and
  is scored, judged and shown with it; a conclusion line in it is a draft and decides nothing.
- Training targets hold no block.

Servers that return the reasoning in a field of its own (`reasoning_content`) need none of this.
"""

import re

_NAMES = "think|thinking|thought|thoughts|reasoning"
_TAG = re.compile(rf"(?i:<\s*(?P<close>/?)\s*(?:{_NAMES})\s*>)|\[(?P<ends>/?)THINK\]")

UNFINISHED = "it ends inside its <think> block"


def thinking_blocks(text: str) -> tuple[list[tuple[int, int]], int | None]:
    """Where the closed blocks of a text are, and where one begins that is not closed.

    A closing tag without an opening one ends a block all the same: some templates write the
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
    """The stretches of a text that lie outside every block, as `(start, end)`."""
    blocks, begun = thinking_blocks(text)
    starts = [0, *(end for _, end in blocks)]
    ends = [*(start for start, _ in blocks), len(text) if begun is None else begun]
    return [(start, end) for start, end in zip(starts, ends, strict=True) if start < end]


def ends_in_thinking(text: str) -> bool:
    """Whether a text ends inside a block: its answer has not begun."""
    return thinking_blocks(text)[1] is not None


def holds_thinking(text: str) -> bool:
    """Whether any tag of a block is in a text."""
    return _TAG.search(text) is not None


def without_thinking(text: str) -> str | None:
    """A reply without its closed blocks, stripped; None where it ends inside one.

    A reply without any block comes back as it is.
    """
    if not holds_thinking(text):
        return text
    if ends_in_thinking(text):
        return None
    return "".join(text[start:end] for start, end in answer_spans(text)).strip()


def json_after_thinking(text: str) -> str | None:
    """The same of a reply that is to be JSON: only a block before it is removed.

    A tag within the JSON stands in a string, as the quote of a text that is judged.
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
