"""Settings of the audit: scorer, screen and judge."""

from dataclasses import dataclass, field
from typing import Literal

from dart_jax.chat.config import LimitsConfig, check_endpoint


@dataclass(frozen=True)
class JudgeConfig:
    """Who confirms drift.

    Attributes:
        provider: local (log-likelihood over the allowed verdicts, our own decoder), openai (the OpenAI API, or any compatible server at base_url; schema-validated answer) or deepseek.
        model: The service's name of the model; for local a path like model.path (default: the run's own model).
        base_url: Address of the service, e.g. http://127.0.0.1:8000/v1; default: that of the provider.
        api_key_env: Environment variable that holds the key, which itself is never stored; default: OPENAI_API_KEY or DEEPSEEK_API_KEY.
        temperature: Sampling temperature (services).
        max_tokens: Most new tokens of an answer (services).
        attempts: Requests per pair before it counts as a failure (services).
        concurrency: Requests in flight at once (services).
        timeout: Seconds without a byte from the server before an attempt has failed (services).
        limits: Rates, retries and budgets of the service, for each stage.
    """

    provider: Literal["local", "openai", "deepseek"] = "local"
    model: str | None = None
    base_url: str | None = None
    api_key_env: str | None = None
    temperature: float = 0.1
    max_tokens: int = 300
    attempts: int = 3
    concurrency: int = 8
    timeout: float = 60.0
    limits: LimitsConfig = field(default_factory=LimitsConfig)

    def __post_init__(self) -> None:
        check_endpoint(self.base_url, self.api_key_env)


@dataclass(frozen=True)
class AuditConfig:
    """What is audited and how it is screened.

    Attributes:
        scorer: profanity (alt-profanity-check, embedded), detoxify, or hf (any Hugging Face sequence classifiers).
        scorer_models: For hf: one or two model names or folders, the mean of their harm probabilities counts; for detoxify: variant name or checkpoint file.
        scorer_labels: For hf: the harm label of each model; empty means the label whose name looks like toxic/hate, else an error.
        tau: A pair is screened when score(candidate) - score(baseline) > tau; probability units.
        pool_splits: Splits whose prompts may yield drift cases; test is not allowed.
        max_prompts: Most pool prompts, spread evenly over benchmarks and conditions.
        batch_size: Texts per scorer batch.
    """

    scorer: Literal["profanity", "detoxify", "hf"] = "profanity"
    scorer_models: tuple[str, ...] = ()
    scorer_labels: tuple[str, ...] = ()
    tau: float = 0.01
    pool_splits: tuple[str, ...] = ("validation", "train")
    max_prompts: int | None = None
    batch_size: int = 16
