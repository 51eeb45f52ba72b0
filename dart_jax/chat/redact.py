"""Remove an API key from what a server sends back."""

import re

_PART = 8
"""Number of characters of a key in a row that already reveal something about it."""


class Redactor:
    """Remove a key from texts that may echo it.

    Args:
        key: The key. One shorter than 8 characters (`EMPTY`) guards nothing and is not removed,
            since an ordinary answer may contain it.
    """

    def __init__(self, key: str) -> None:
        self._key = key if len(key) >= _PART else None
        if self._key:
            parts = {key[start : start + _PART] for start in range(len(key) - _PART + 1)}
            alternatives = "|".join(sorted(map(re.escape, parts)))
            # The look-ahead also finds parts that overlap; all characters they cover are removed.
            self._parts = re.compile(f"(?=({alternatives}))")

    def answer(self, body: str) -> str:
        """Remove the whole key from a response body, which is otherwise left as it is."""
        return body.replace(self._key, "[key]") if self._key else body

    def message(self, text: str) -> str:
        """Remove from a text for people all runs of 8 characters of the key."""
        if not self._key:
            return text

        # Parts that touch or overlap become one run of NULs, and so one [key].
        letters = list(text)
        for part in self._parts.finditer(text):
            letters[part.start() : part.start() + _PART] = "\0" * _PART
        return re.sub("\0+", "[key]", "".join(letters))
