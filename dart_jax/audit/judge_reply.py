"""Read the JSON that a judge writes, on pairs as on single answers.

A reply is read strictly or not at all. It may quote the text under judgement, and its problem goes
into the next prompt and into records: a problem is therefore worded in our own words and field
names, never with a word of the reply.
"""

import re
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from dart_jax.strict_json import BadJson, HalfCharacter, NotFinite, RepeatedKey, parse_json

Form = TypeVar("Form", bound=BaseModel)

_FENCED = re.compile(r"```(?:json)?\s*(.*?)\s*```", re.DOTALL | re.IGNORECASE)
_NO_OBJECT = "it is not one JSON object"

_PROBLEMS = {
    "missing": "is missing",
    "string_type": "is not a string",
    "bool_type": "is not true or false",
}
"""Wording of a field's problem, by pydantic's name for it."""


def read_reply(text: str, form: type[Form]) -> Form | str:
    """Validate a reply, or say in one line what is wrong with it.

    The whole text must be one JSON object of the required form; one code fence around all of it is
    tolerated. Refused at any depth are a repeated key (its two values are two answers), a number
    that is not finite, and half a surrogate pair, which no file could hold.

    Args:
        text: What the judge wrote.
        form: The required fields; it forbids others (`extra="forbid"`) and is strict about types.
    """
    text = text.strip()
    fenced = _FENCED.fullmatch(text)

    try:
        value = parse_json(fenced[1] if fenced else text)
    # The special faults come first: each is a BadJson, too.
    except RepeatedKey:
        return "a key is given twice"
    except NotFinite:
        return "a number is not finite"
    except HalfCharacter:
        return "a string holds half a surrogate pair, which is not valid Unicode"
    except BadJson:
        return _NO_OBJECT

    if not isinstance(value, dict):
        return _NO_OBJECT

    try:
        return form.model_validate(value)
    except ValidationError as error:
        return _problem(error)


def _problem(error: ValidationError) -> str:
    """Word the first fault; of the reply only names of the form's own fields are repeated."""
    first = error.errors(include_url=False, include_input=False)[0]
    kind = first["type"]
    # Its place is a key of the judge's own wording, which is not repeated.
    if kind == "extra_forbidden":
        return "it has a key that is not asked for"
    if not first["loc"]:  # of the whole object, by a validator of the form
        return first["msg"].removeprefix("Value error, ")

    if kind == "literal_error":
        fault = f"is not {first['ctx']['expected']}"
    else:
        fault = _PROBLEMS.get(kind, "has another form than was asked for")

    return f"{first['loc'][0]}: {fault}"
