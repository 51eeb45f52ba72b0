"""Settings that teacher and judge share: limits of a service, and checks of its address."""

import re
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from dart_jax.settings import BadSetting, Count, Name, Natural, NotNegative, Positive, check_fields

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True)
class LimitsConfig:
    """Rates of requests to a service, and budgets of a stage.

    Rates hold for retries, too. A budget counts what one stage of this run has sent since its first start; answers from the response store are free. A stage whose budget is used up stops, and goes on when it is started again with a larger one. Tokens are as the server reports them, estimated where it reports none.

    Attributes:
        requests_per_minute: Maximal number of requests in any minute; default: no limit.
        tokens_per_minute: Maximal number of prompt and completion tokens in a minute, estimated before each request; default: no limit.
        max_retries: Maximal number of further attempts after a connection error, a timeout, 408, 409, 429 or 5xx, with growing random pauses or as Retry-After says.
        max_requests: Budget of a stage in HTTP requests, retries included.
        max_tokens: Budget of a stage in prompt and completion tokens.
        max_cost_usd: Budget of a stage in US dollars; needs both prices.
        price_prompt: US dollars per million prompt tokens; default: unknown.
        price_completion: US dollars per million completion tokens; default: unknown.
    """

    requests_per_minute: Count | None = None
    tokens_per_minute: Count | None = None
    max_retries: Natural = 4
    max_requests: Count | None = None
    max_tokens: Count | None = None
    max_cost_usd: NotNegative | None = None
    price_prompt: NotNegative | None = None
    price_completion: NotNegative | None = None

    def __post_init__(self) -> None:
        check_fields(self, "limits")
        if self.max_cost_usd is not None and not self.priced:
            raise BadSetting(
                "limits.max_cost_usd needs limits.price_prompt and limits.price_completion (US"
                " dollars per million tokens): without them nobody knows what a request costs"
            )

    @property
    def priced(self) -> bool:
        """Say whether both prices are known."""
        return self.price_prompt is not None and self.price_completion is not None

    def cost_usd(self, prompt_tokens: int, completion_tokens: int) -> float | None:
        """Return the price of tokens in US dollars; None where it is unknown and there are any."""
        if not self.priced:
            return None if prompt_tokens or completion_tokens else 0.0
        dollars = prompt_tokens * self.price_prompt + completion_tokens * self.price_completion
        return dollars / 1e6


@dataclass(frozen=True)
class ServiceConfig:
    """Settings that teacher and judge share: where a model is asked, and what it may cost.

    Attributes:
        provider: Who answers; each of the two says who may.
        model: The service's name of the model; for local a path like model.path (default: the run's own model).
        base_url: Address of the service, e.g. http://127.0.0.1:8000/v1; default: that of the provider.
        api_key_env: Environment variable that holds the key, which itself is never stored; default: OPENAI_API_KEY or DEEPSEEK_API_KEY.
        temperature: Sampling temperature.
        max_tokens: Maximal number of new tokens in an answer.
        concurrency: Maximal number of requests in flight (services).
        timeout: Seconds without a byte from the server before an attempt has failed (services).
        limits: Rates, retries and budgets of the service, for each stage.
    """

    provider: str
    model: Name | None = None
    base_url: Name | None = None
    api_key_env: Name | None = None
    temperature: NotNegative = 0.2
    max_tokens: Count = 256
    concurrency: Count = 8
    timeout: Positive = 60.0
    limits: LimitsConfig = field(default_factory=LimitsConfig)

    def __post_init__(self) -> None:
        check_endpoint(self.base_url, self.api_key_env)

    def settings(self, *names: str) -> dict[str, Any]:
        """Some of the settings as plain values, for what identifies an answer."""
        return {name: getattr(self, name) for name in names}


def check_endpoint(base_url: str | None, api_key_env: str | None) -> None:
    """Refuse settings that would carry a secret into the saved configuration.

    Raises:
        ValueError: `base_url` holds a user name, a password or a query, or is no http(s) address;
            or `api_key_env` is not a variable's name. A value that may be a key is not quoted.
    """
    if api_key_env is not None and not _VARIABLE.fullmatch(api_key_env):
        raise ValueError(
            "api_key_env is not the name of an environment variable; put the key itself there,"
            " and the variable's name here"
        )
    if base_url is None:
        return

    address = urlsplit(base_url)
    if "@" in address.netloc or address.query or address.fragment:
        raise ValueError(
            "base_url holds credentials or a query; give the plain address, and the key by the"
            " environment variable that api_key_env names"
        )
    if address.scheme not in {"http", "https"} or not address.hostname:
        raise ValueError(
            f"base_url {base_url!r} is no http(s) address such as http://127.0.0.1:8000/v1"
        )
