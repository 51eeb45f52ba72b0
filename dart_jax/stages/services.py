"""The service behind the teacher or the judge: whether it can be reached, and a client for it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from dart_jax.chat.config import ServiceConfig
from dart_jax.chat.endpoint import PRESETS, Endpoint, resolve_endpoint
from dart_jax.chat.openai_client import PACKAGES, OpenAIChat
from dart_jax.chat.store import ResponseStore
from dart_jax.chat.usage import USAGE, write_usage
from dart_jax.extras import need
from dart_jax.run_dir import RunDir

STORE = "responses.sqlite"


def check_service(config: ServiceConfig, role: str) -> Endpoint | None:
    """Find the endpoint of a role, such as `teacher`; None where it is no service.

    Raises:
        MissingExtra: The packages of a client are not installed.
        ValueError, MissingKey: The model's name or the key is not set.
    """
    if config.provider not in PRESETS:
        return None
    need("services", PACKAGES, f"{role}.provider {config.provider}")
    if not config.model:
        raise ValueError(
            f"{role}.provider {config.provider} needs {role}.model: the server's model name"
        )
    return resolve_endpoint(config.provider, config.base_url, config.api_key_env)


@contextmanager
def open_service(
    folder: RunDir, config: ServiceConfig, role: str, stage: str
) -> Iterator[OpenAIChat]:
    """Open the client of a role, such as `teacher`, for a stage.

    What the stage spends is counted as `<stage>/<role>`; `usage.json` of the run is up to date
    when this ends, however it ends.

    Raises:
        MissingExtra, ValueError, MissingKey, BadStore: See `check_service`, `OpenAIChat` and
            `ResponseStore`.
    """
    endpoint = check_service(config, role)
    with ResponseStore(folder / STORE) as store:
        try:
            with OpenAIChat(
                endpoint,
                config.model,
                store,
                concurrency=config.concurrency,
                timeout=config.timeout,
                limits=config.limits,
                account=f"{stage}/{role}",
            ) as chat:
                yield chat
        finally:
            write_usage(folder / USAGE, store.usage())
