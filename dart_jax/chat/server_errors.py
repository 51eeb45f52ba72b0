"""Describe a server's error or a broken connection in one line: whose fault, where, and why."""

import asyncio
import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from openai import APIError, APIStatusError

_DEPTH = 4
"""Greatest depth of a message in a body, such as `{"detail": {"error": {"message": ...}}}`."""

_SAYS = ("message", "msg", "detail", "error", "title")
_USER = re.compile(r"//[^/@\s]*@")

_UNSUPPORTED = {"unsupported_parameter", "unsupported_value"}
_REFUSES = re.compile(
    r"unsupported|unknown|unrecogni[sz]ed|unexpected|deprecated|extra (?:inputs|fields)"
    r"|\bnot (?:be )?(?:supported|permitted|allowed|recogni[sz]ed|accepted)"
    r"|(?:\bnot|n['’]t) (?:support|accept|allow)",
    re.IGNORECASE,
)
_NO_MODEL = re.compile(r"\bmodel\b.*\b(?:does not exist|not found)\b", re.IGNORECASE | re.DOTALL)


def describe(error: "APIError", base_url: str, timeout: float) -> str:
    """Name class, status and message of an error; of a connection the address and the cause.

    Args:
        base_url: The server's address; only host and port are repeated.
        timeout: Seconds that an attempt waits.

    Returns:
        One line, which may hold anything that the server wrote, even a key.
    """
    from openai import APIConnectionError, APITimeoutError

    status = getattr(error, "status_code", None)
    name = type(error).__name__ + ("" if status is None else f" {status}")
    # A timeout is an APIConnectionError, too, and comes first.
    if isinstance(error, APITimeoutError):
        kinds = {type(cause).__name__ for cause in _causes(error)}
        missing = "no connection" if "ConnectTimeout" in kinds else "no byte"
        return f"{name}: {missing} from {address_of(base_url)} within {timeout:g} s"

    if isinstance(error, APIConnectionError):
        return _line(f"{name}: {address_of(base_url)}: {_deepest(error)}")

    return _line(f"{name}: {message_of(error) or 'the server says no more'}")


def message_of(error: "APIError") -> str:
    """Extract the server's message from any of the usual forms; '' where there is none.

    Known are OpenAI's `{"error": {"message": ...}}`, `{"error": ...}` and `{"message": ...}` as
    text, FastAPI's `{"detail": ...}` as text or as a list of faults, and a body that is no JSON.
    """
    return _said(error.body, _DEPTH)


def address_of(base_url: str) -> str:
    """Return host and port, without credentials."""
    parts = urlsplit(base_url)
    # urlsplit takes the brackets off an IPv6 address.
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    return f"{host}:{parts.port or (443 if parts.scheme == 'https' else 80)}"


def refuses(error: "APIStatusError", parameter: str) -> bool:
    """Say whether a server reports that it does not take a parameter at all.

    The code need not tell: many servers answer 400 with a null code and explain in the message
    alone. A value that is merely wrong (`temperature must be at most 2`) is another fault.
    """
    message = message_of(error)
    if error.param:
        named = error.param == parameter
    else:
        word = rf"(?<!\w){re.escape(parameter)}(?!\w)"
        # A refusal of response_format may list these parameters as those that are supported.
        named = bool(re.search(word, message)) and "response_format" not in message
    return named and (error.code in _UNSUPPORTED or bool(_REFUSES.search(message)))


def lacks_model(error: "APIStatusError") -> bool:
    """Say whether a server has not found the model."""
    return error.code == "model_not_found" or bool(_NO_MODEL.search(message_of(error)))


def _said(body: Any, depth: int) -> str:
    if isinstance(body, str):
        return body.strip()
    if depth == 0:
        return ""

    if isinstance(body, list):
        messages = [_said(part, depth - 1) for part in body]
        return "; ".join(filter(None, messages))

    if not isinstance(body, Mapping):
        return ""

    texts = [_said(body.get(key), depth - 1) for key in _SAYS]
    text = next(filter(None, texts), "")
    place = body.get("loc")  # FastAPI's; its `input` repeats the request, and stays out
    if text and isinstance(place, list):
        return f"{'.'.join(map(str, place))}: {text}"

    return text


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield the causes of an error, the first one last."""
    cause = error.__cause__ or error.__context__
    while cause is not None:
        yield cause
        cause = cause.__cause__ or cause.__context__


def _deepest(error: BaseException) -> str:
    """Word the first cause: `ConnectionRefusedError: ...` rather than `Connection error`."""
    causes = [cause for cause in _causes(error) if not isinstance(cause, asyncio.CancelledError)]
    if not causes:
        return str(error)

    deepest = ([cause for cause in causes if str(cause)] or causes)[-1]
    name = type(deepest).__name__
    text = _USER.sub("//", str(deepest))  # without credentials
    return f"{name}: {text}" if text else name


def _line(text: str) -> str:
    """Put a text on one line that a file can hold: half a surrogate pair becomes its escape."""
    return " ".join(text.split()).encode("utf-8", "backslashreplace").decode("utf-8")
