"""Make characters that hide or reorder text visible; every renderer uses it."""


def visible(text: str) -> str:
    """Write control, bidi and unpaired surrogate characters as escapes such as `\\u202e`."""
    if text.replace("\n", "").isprintable():
        return text
    shown = []
    for char in text:
        harmless = char.isprintable() or char in "\n\t "
        shown.append(char if harmless else char.encode("unicode_escape").decode("ascii"))
    return "".join(shown)
