"""`--dry-run`: what the stages would ask of services, and what it would cost. Nothing is sent.

What a later stage asks depends on what the earlier ones will write; an upper bound stands in its
place: every pair screened, every drift confirmed, every answer as long as it may be and sent back
as often as it may be. Retries of failed requests are not in it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from dart_jax.audit.config import JudgeConfig
from dart_jax.audit.judge import JudgeAnswer, judge_messages
from dart_jax.audit.screen import Pair
from dart_jax.chat.config import LimitsConfig
from dart_jax.chat.endpoint import PRESETS, endpoint_address
from dart_jax.chat.openai_client import answer_key
from dart_jax.chat.protocol import ChatRequest, Message
from dart_jax.chat.store import stored_keys
from dart_jax.chat.tokens import estimate_prompt, estimate_tokens
from dart_jax.config import STAGES, DartConfig
from dart_jax.model.load import resolve_path
from dart_jax.model.tokenizer import load_tokenizer
from dart_jax.prompts.templates import repair_messages
from dart_jax.records import DriftCase, DriftType, Generation, Question, Severity, read_jsonl
from dart_jax.run_dir import RunDir
from dart_jax.stages import audit, distill, evaluate, repair, teach
from dart_jax.stages.context import Run
from dart_jax.stages.providers import STORE, check_model_name
from dart_jax.teach.config import TeacherConfig
from dart_jax.teach.distill import distill_requests

CORRECTION_TOKENS = 64
"""Of the message that sends an answer back, about."""

_MODULES = dict(zip(STAGES, (teach, distill, audit, repair, evaluate), strict=True))


@dataclass(frozen=True)
class Estimate:
    """What a stage would ask of one service.

    Attributes:
        least: Requests when no answer is sent back; 0 where it is open whether any is needed.
        most: Requests at most.
        stored: Requests that need not be sent, since the store has their answers.
        prompt_tokens, completion_tokens: At most.
        cost_usd: At most; None where the prices are not set.
        counted: How prompt tokens were counted.
        limits: The service's.
    """

    stage: str
    role: str
    service: str
    least: int
    most: int
    stored: int
    prompt_tokens: int
    completion_tokens: int
    cost_usd: float | None
    counted: str
    limits: LimitsConfig


def print_estimates(config: DartConfig, stages: Sequence[str]) -> None:
    """Print the estimates of the stages that are asked for and not up to date."""
    run = Run(config, RunDir(config.run))
    print("dry run: nothing is sent, nothing is written", flush=True)
    found: list[Estimate] = []
    for stage in due_stages(run, stages):
        estimates = stage_estimates(run, stage)
        found += estimates
        for text in map(_described, estimates):
            print(text)
        if not estimates:
            print(f"{stage}: asks no service")
    costs = [estimate.cost_usd for estimate in found]
    total = "unknown" if None in costs else f"at most {sum(costs):.2f} US dollars"
    print(f"all: at most {sum(e.most for e in found):,} requests, {total}")


def due_stages(run: Run, stages: Sequence[str]) -> list[str]:
    """The stages that are asked for, from the first on that is not up to date."""
    for number, stage in enumerate(STAGES):
        manifest = run.folder / f"stages/{stage}.json"
        if not manifest.exists() or not run.folder.is_current(stage, _MODULES[stage].inputs(run)):
            return [name for name in STAGES[number:] if name in stages]
    return []


def stage_estimates(run: Run, stage: str) -> list[Estimate]:
    """Of each service that the stage would ask."""
    teacher, judge = run.config.teacher, run.config.judge
    if stage in ("teach", "repair") and teacher.provider in PRESETS:
        return [_teacher_estimate(run, stage, teacher)]
    if stage in ("audit", "evaluate") and judge.provider in PRESETS:
        return [_judge_estimate(run, stage, judge)]
    return []


def _teacher_estimate(run: Run, stage: str, config: TeacherConfig) -> Estimate:
    if stage == "teach":
        targets = distill_requests(run.splits["train"], config.examples)
        prompts = [target.messages for target in targets]
        fixed, open_tokens = len(prompts), 0
    else:
        prompts, fixed = _repair_prompts(run)
        open_tokens = run.decode.max_new_tokens
    asked = [
        ChatRequest("", messages, config.temperature, config.max_tokens) for messages in prompts
    ]
    rounds = config.correction_rounds + 1
    return _estimate(run, stage, "teacher", config, asked, rounds, open_tokens, fixed)


def _judge_estimate(run: Run, stage: str, config: JudgeConfig) -> Estimate:
    questions = audit.pool(run) if stage == "audit" else [*run.splits["test"]] * 2
    asked = [request for question in questions for request in _judge_requests(question, config)]
    open_tokens = 2 * run.decode.max_new_tokens
    return _estimate(run, stage, "judge", config, asked, config.attempts, open_tokens, 0)


def _judge_requests(question: Question, config: JudgeConfig) -> list[ChatRequest]:
    """All requests for one pair whose texts are not known yet."""
    baseline, candidate = (_no_answer(question, name) for name in ("M0", "M_int"))
    pair = Pair(question.id, baseline, candidate, 0.0, 0.0)
    schema = JudgeAnswer.model_json_schema()
    return [
        ChatRequest(
            "", judge_messages(pair, question), config.temperature, config.max_tokens, schema
        )
    ]


def _no_answer(question: Question, model: str) -> Generation:
    return Generation(question.id, model, "", None, None, None, 0, 0)


def _repair_prompts(run: Run) -> tuple[list[tuple[Message, ...]], int]:
    """A prompt for each drift case that there may be, and how many there are for sure."""
    path = run.folder / "audit/drift_cases.jsonl"
    if "audit" not in due_stages(run, STAGES) and path.exists():
        cases = read_jsonl(path, DriftCase)
        return [repair_messages(run.questions[c.question_id], c) for c in cases], len(cases)
    prompts = []
    for question in audit.pool(run):
        texts = (question.id, "M_int", "", "", 0.0, DriftType.ELABORATES, Severity.MODERATE)
        prompts.append(repair_messages(question, DriftCase(*texts)))
    return prompts, 0


def _estimate(
    run: Run,
    stage: str,
    role: str,
    config: TeacherConfig | JudgeConfig,
    asked: Sequence[ChatRequest],
    rounds: int,
    open_tokens: int,
    fixed: int,
) -> Estimate:
    """Add up rounds: each repeats the conversation so far, with an answer and its correction.

    Args:
        asked: The first round.
        open_tokens: Tokens of a prompt that are not in it yet.
        fixed: How many of `asked` are sent for sure.
    """
    check_model_name(config, role)
    count, counted = token_counter(config.model)
    address = endpoint_address(config.provider, config.base_url)
    answered = stored_keys(run.folder / STORE)
    stored = sum(answer_key(address, config.model, one) in answered for one in asked)
    prompts = sum(map(count, asked)) + open_tokens * len(asked)
    again = (config.max_tokens + CORRECTION_TOKENS) * len(asked)
    prompt_tokens = rounds * prompts + again * (rounds * (rounds - 1) // 2)
    completion_tokens = rounds * len(asked) * config.max_tokens
    return Estimate(
        stage=stage,
        role=role,
        service=f"{config.provider} {config.model}",
        least=max(fixed - stored, 0),
        most=rounds * len(asked) - stored,
        stored=stored,
        prompt_tokens=prompt_tokens,
        completion_tokens=completion_tokens,
        cost_usd=config.limits.cost_usd(prompt_tokens, completion_tokens),
        counted=counted,
        limits=config.limits,
    )


def token_counter(model: str) -> tuple[Callable[[ChatRequest], int], str]:
    """How to count a request's prompt tokens: with a local model's tokenizer, or by estimate."""
    try:
        path = resolve_path(model)
    except FileNotFoundError:
        return _estimated, "prompt tokens estimated, one for 3 bytes"
    if path.is_dir() and not (path / "tokenizer_config.json").exists():
        return _estimated, "prompt tokens estimated, one for 3 bytes"
    tokenizer = load_tokenizer(path)

    def count(request: ChatRequest) -> int:
        return len(tokenizer.encode_prompt(request.messages)) + _schema_tokens(request)

    return count, f"prompt tokens counted by the tokenizer of {model}"


def _estimated(request: ChatRequest) -> int:
    return estimate_prompt(request.messages) + _schema_tokens(request)


def _schema_tokens(request: ChatRequest) -> int:
    return estimate_tokens(str(request.json_schema)) if request.json_schema else 0


def _described(estimate: Estimate) -> str:
    requests = f"{estimate.least:,} to {estimate.most:,} requests"
    if estimate.least == estimate.most:
        requests = f"{estimate.most:,} requests"
    if estimate.stored:
        requests += f" ({estimate.stored:,} more have a stored answer)"
    cost = "dollars unknown (set limits.price_prompt and limits.price_completion)"
    if estimate.cost_usd is not None:
        cost = f"{estimate.cost_usd:.2f} US dollars"
    return (
        f"{estimate.stage}: {estimate.role} {estimate.service}: {requests}; at most"
        f" {estimate.prompt_tokens:,} prompt and {estimate.completion_tokens:,} completion tokens,"
        f" {cost}; {estimate.counted}{''.join(_budgets(estimate))}"
    )


def _budgets(estimate: Estimate) -> Iterable[str]:
    """A warning for each budget that may stop the stage."""
    limits = estimate.limits
    tokens = estimate.prompt_tokens + estimate.completion_tokens
    for name, value in (
        ("max_requests", estimate.most),
        ("max_tokens", tokens),
        ("max_cost_usd", estimate.cost_usd),
    ):
        budget = getattr(limits, name)
        if budget is not None and value is not None and value > budget:
            yield f"; {estimate.role}.limits.{name} {budget:,} may stop it before its end"
