"""Address and key of a chat service, with presets for known providers."""

import os
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import urlsplit

from dart_jax.chat.config import check_endpoint

TokenField = Literal["max_tokens", "max_completion_tokens"]

_LOOPBACK = {"127.0.0.1", "localhost", "::1"}
_OPENAI = "api.openai.com"
# Given no key, the openai library takes that of OPENAI_API_KEY, or raises.
_NO_KEY = "no-key-needed"


@dataclass(frozen=True)
class Preset:
    """The address and the key's variable that a provider's name stands for.

    Attributes:
        base_url: Address, unless the settings have a `base_url`.
        api_key_env: Variable with the key, unless the settings have an `api_key_env`.
    """

    base_url: str
    api_key_env: str


PRESETS = {
    "openai": Preset(f"https://{_OPENAI}/v1", "OPENAI_API_KEY"),
    "deepseek": Preset("https://api.deepseek.com", "DEEPSEEK_API_KEY"),
}
"""Providers asked over the network. `openai` with a `base_url` is any compatible server."""


class MissingKey(RuntimeError):
    """The environment variable that should hold the API key is unset or unusable."""


@dataclass(frozen=True)
class Endpoint:
    """An address and the key for it.

    Attributes:
        key: Bearer token; a placeholder where a loopback server needs none.
        secret: Whether `key` came from the environment.
        token_field: Name of the limit on new tokens. OpenAI's reasoning models take
            `max_completion_tokens` only, its other models take it, too; other servers want
            `max_tokens`.
    """

    base_url: str
    key: str = field(repr=False)
    secret: bool
    token_field: TokenField


def resolve_endpoint(provider: str, base_url: str | None, api_key_env: str | None) -> Endpoint:
    """Resolve the endpoint of `openai` or `deepseek`, or of any address with their protocol.

    Raises:
        MissingKey: The variable is not set, or holds characters that no HTTP header can carry. A
            loopback address needs no key.
        ValueError: See `check_endpoint`.
    """
    check_endpoint(base_url, api_key_env)
    preset = PRESETS[provider]
    address = endpoint_address(provider, base_url)
    host = urlsplit(address).hostname
    key = _read_key(api_key_env or preset.api_key_env, host)
    field = "max_completion_tokens" if host == _OPENAI else "max_tokens"
    return Endpoint(address, key or _NO_KEY, bool(key), field)


def endpoint_address(provider: str, base_url: str | None) -> str:
    """Return the address with one slash at its end: part of every request's key in the store."""
    return (base_url or PRESETS[provider].base_url).rstrip("/") + "/"


def _read_key(variable: str, host: str) -> str:
    key = os.environ.get(variable, "").strip()
    if key and not (key.isascii() and key.isprintable()):
        raise MissingKey(f"environment variable {variable} holds characters that no key can have")
    if not key and host not in _LOOPBACK:
        raise MissingKey(
            f"environment variable {variable} is not set: put the API key for {host} there, or"
            " choose another provider"
        )
    return key
