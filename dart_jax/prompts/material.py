"""Quote texts under judgement so that nothing in them can act on the judge's prompt."""

import json


def quoted(text: str) -> str:
    """Write a text as a JSON string literal on one line, which it cannot close from within.

    Beyond what JSON requires, `<`, `[` and every character that does not print are written as JSON
    escapes: a server that reads special tokens in plain text (`<|eot_id|>`, `[INST]`) finds none,
    and neither line separators nor direction marks can disguise where the string ends. A JSON
    parser gives back the text unchanged.

    Example:
        `quoted('a "b"\\n<|eot_id|>')` is `"a \\"b\\"\\n\\u003c|eot_id|>"`.
    """
    return "".join(map(_escaped, json.dumps(text, ensure_ascii=False)))


def quoted_object(fields: dict[str, str]) -> str:
    """Write a JSON object on one line, with strings quoted as by `quoted`."""
    members = [f"{quoted(key)}: {quoted(text)}" for key, text in fields.items()]
    return "{" + ", ".join(members) + "}"


def _escaped(character: str) -> str:
    if character == "<" or character == "[":
        return f"\\u{ord(character):04x}"
    return character if character.isprintable() else json.dumps(character)[1:-1]
