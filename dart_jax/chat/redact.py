"""Keep a key out of what a server says back."""

import re

_PART = 8
"""So many characters of a key in a row tell something about it."""


class Redactor:
    """Removes a key from texts that may echo it.

    Args:
        key: The key; one shorter than 8 characters (`EMPTY`) guards nothing, and is left alone,
            since an ordinary answer may contain it.
    """

    def __init__(self, key: str) -> None:
        self._key = key if len(key) >= _PART else None
        if self._key:
            parts = (key[start : start + _PART] for start in range(len(key) - _PART + 1))
            part = "|".join(sorted({re.escape(part) for part in parts}))
            # Overlapping parts are found with a look-ahead, and everything they cover goes.
            self._parts = re.compile(f"(?=({part}))")

    def answer(self, body: str) -> str:
        """A response body without the whole key. Other texts stay what the server wrote."""
        return body.replace(self._key, "[key]") if self._key else body

    def message(self, text: str) -> str:
        """A text for people without any 8 characters of the key in a row."""
        if not self._key:
            return text
        hidden = {
            position
            for found in self._parts.finditer(text)
            for position in range(found.start(), found.start() + _PART)
        }
        shown = ("\0" if index in hidden else letter for index, letter in enumerate(text))
        return re.sub("\0+", "[key]", "".join(shown))
