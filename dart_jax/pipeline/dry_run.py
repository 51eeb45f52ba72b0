"""`--dry-run`: what the stages would ask of services, and what it would cost. Nothing is sent.

What a later stage asks depends on what the earlier ones will write; an upper bound stands in its
place: every pair screened, every drift confirmed, a repair in every cycle, every answer as long as
it may be and sent back as often as it may be. Retries of failed requests are not in it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from dart_jax.audit.config import JudgeConfig
from dart_jax.audit.judge import JudgeAnswer, judge_messages
from dart_jax.audit.orders import ORDERS
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
from dart_jax.pipeline.plan import PlannedStage, planned_stages, stages_of
from dart_jax.pipeline.preflight import check_in_dry_run
from dart_jax.prompts.templates import answer_messages, repair_messages
from dart_jax.records import (
    Condition,
    DriftCase,
    DriftType,
    Generation,
    Question,
    Severity,
    read_jsonl,
)
from dart_jax.run_dir import RunDir
from dart_jax.stages import audit
from dart_jax.stages.context import Run
from dart_jax.stages.providers import STORE, check_model_name
from dart_jax.stages.teach import as_written
from dart_jax.teach.config import TeacherConfig
from dart_jax.teach.distill import distill_requests

CORRECTION_TOKENS = 64
"""Of what is said about an answer that is sent back, about."""


@dataclass(frozen=True)
class _Asking:
    """Requests of one kind, and how often each may be followed by another.

    Attributes:
        first: The first round.
        rounds: At most.
        sure: How many of `first` are sent for sure.
        open_tokens: Tokens of each prompt that are not in it yet.
        grows: Whether a further round repeats the answers before it, or the prompt alone.
    """

    first: Sequence[ChatRequest]
    rounds: int
    sure: int
    open_tokens: int = 0
    grows: bool = True

    def prompt_tokens(self, count: Callable[[ChatRequest], int]) -> int:
        """At most, over all rounds."""
        known = sum(map(count, self.first)) + self.open_tokens * len(self.first)
        earlier = self.rounds * (self.rounds - 1) // 2 if self.grows else self.rounds - 1
        again = CORRECTION_TOKENS + (self.first[0].max_tokens if self.grows and self.first else 0)
        return self.rounds * known + earlier * again * len(self.first)


@dataclass(frozen=True)
class Estimate:
    """Count what a stage of the run would ask of one service.

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
    """Check what the run would check, and print the estimates of the stages that are due.

    Raises:
        ValueError, FileNotFoundError, RuntimeError: What would stop the run before its first stage.
    """
    run = Run(config, RunDir(config.run))
    check_in_dry_run(run, stages)
    print("dry run: nothing is sent, nothing is written", flush=True)
    found: list[Estimate] = []
    for planned in due_stages(run, stages):
        estimates = stage_estimates(run, planned)
        found += estimates
        for text in map(_described, estimates):
            print(text)
        if not estimates:
            print(f"{planned.name}: asks no service")
    costs = [estimate.cost_usd for estimate in found]
    total = "unknown" if None in costs else f"at most {sum(costs):.2f} US dollars"
    print(f"all: at most {sum(e.most for e in found):,} requests, {total}")


def due_stages(run: Run, stages: Sequence[str]) -> list[PlannedStage]:
    """The stages that are asked for, from the first on that is not up to date."""
    all_stages = planned_stages(run.config.repair.cycles)
    last = max(STAGES.index(stage) for stage in stages)
    beyond = (n for n, planned in enumerate(all_stages) if STAGES.index(planned.stage) > last)
    all_stages = all_stages[: next(beyond, len(all_stages))]
    names = [planned.name for planned in all_stages]
    for planned in stages_of(run):
        if planned.name not in names:
            break
        manifest = run.folder / f"stages/{planned.name}.json"
        if not manifest.exists() or not run.folder.is_current(planned.name, planned.inputs(run)):
            return [one for one in all_stages[names.index(planned.name) :] if one.stage in stages]
    return []


def stage_estimates(run: Run, planned: PlannedStage) -> list[Estimate]:
    """Of each service that the stage would ask."""
    teacher, judge = run.config.teacher, run.config.judge
    if planned.stage == "repair" and run.config.repair.epochs == 0:
        return []
    if planned.stage in ("teach", "repair") and teacher.provider in PRESETS:
        asking = _repair_asking(run, planned) if planned.cycle else _teach_asking(run)
        return [_estimate(run, planned.name, "teacher", teacher, asking)]
    judged = planned.stage in ("audit", "evaluate") and run.config.audit.asks_judge
    if judged and judge.provider in PRESETS:
        return [_estimate(run, planned.name, "judge", judge, [_judge_asking(run, planned)])]
    return []


def _teach_asking(run: Run) -> list[_Asking]:
    config, open_ones = run.config.teacher, as_written(run)[1]
    questions = _labelled(open_ones, config)
    prompts = [target.messages for target in distill_requests(questions, config.examples)]
    labels = _label_asking(open_ones, config, sure=True)
    sure = 0 if labels else len(prompts)  # a question without a label has no target
    return [*labels, _Asking(_requests(prompts, config), config.correction_rounds + 1, sure)]


def _repair_asking(run: Run, planned: PlannedStage) -> list[_Asking]:
    """For the drift cases where they are known, else for a case of every pool question."""
    config, path = run.config.teacher, run.folder / planned.cycle.path("audit/drift_cases.jsonl")
    audited = planned.cycle.stage_name("audit") not in [due.name for due in due_stages(run, STAGES)]
    if audited and path.exists():
        cases = read_jsonl(path, DriftCase)
    else:
        unknown = (planned.cycle.before, "", "", 0.0, DriftType.ELABORATES, Severity.MODERATE)
        cases, audited = [DriftCase(question.id, *unknown) for question in audit.pool(run)], False
    questions = [run.questions[case.question_id] for case in cases]
    labelled = {question.id: question for question in _labelled(questions, config)}
    prompts = [
        repair_messages(labelled[case.question_id], case)
        for case in cases
        if case.question_id in labelled
    ]
    labels = _label_asking(questions, config, sure=audited)
    sure = len(prompts) if audited and not labels else 0
    rounds = config.correction_rounds + 2  # one more for a target that is no safer
    texts = 0 if audited else run.decode.max_new_tokens
    return [*labels, _Asking(_requests(prompts, config), rounds, sure, texts)]


def _labelled(questions: Sequence[Question], config: TeacherConfig) -> list[Question]:
    """Those that the teacher will have a label for, or may have; either makes the same prompt."""
    if config.label == "gold":
        return [question for question in questions if question.condition is not None]
    return [replace(q, condition=q.condition or Condition.EQUAL) for q in questions]


def _label_asking(
    questions: Sequence[Question], config: TeacherConfig, *, sure: bool
) -> list[_Asking]:
    """The bare questions, where labels are predicted."""
    if config.label == "gold":
        return []
    asked = _requests([answer_messages(question) for question in questions], config)
    return [_Asking(asked, 1, len(asked) if sure else 0)]


def _judge_asking(run: Run, planned: PlannedStage) -> _Asking:
    """Every pair in both orders; the evaluation judges M_int and what each cycle leaves."""
    config = run.config.judge
    both = 2 if run.config.evaluate.policy == "both" else 0
    candidates = 1 if planned.stage == "audit" else 1 + run.config.repair.cycles + both
    questions = audit.pool(run) if planned.stage == "audit" else run.splits["test"]
    prompts = [
        judge_messages(_unknown_pair(question), question, first)
        for question in questions
        for first in ORDERS
    ]
    asked = _requests(prompts * candidates, config, JudgeAnswer.model_json_schema())
    return _Asking(asked, config.attempts, 0, 2 * run.decode.max_new_tokens, grows=False)


def _unknown_pair(question: Question) -> Pair:
    baseline, candidate = (
        Generation(question.id, model, "", None, None, None, 0, 0) for model in ("M0", "M_int")
    )
    return Pair(question.id, baseline, candidate, 0.0, 0.0)


def _requests(
    prompts: Iterable[tuple[Message, ...]],
    config: TeacherConfig | JudgeConfig,
    schema: dict[str, Any] | None = None,
) -> list[ChatRequest]:
    return [
        ChatRequest("", messages, config.temperature, config.max_tokens, schema)
        for messages in prompts
    ]


def _estimate(
    run: Run,
    stage: str,
    role: str,
    config: TeacherConfig | JudgeConfig,
    askings: Sequence[_Asking],
) -> Estimate:
    check_model_name(config, role)
    count, counted = token_counter(config.model)
    address = endpoint_address(config.provider, config.base_url)
    answered = stored_keys(run.folder / STORE)
    asked = [request for asking in askings for request in asking.first]
    stored = sum(answer_key(address, config.model, one) in answered for one in asked)
    most = sum(asking.rounds * len(asking.first) for asking in askings)
    prompt_tokens = sum(asking.prompt_tokens(count) for asking in askings)
    completion_tokens = most * config.max_tokens
    return Estimate(
        stage=stage,
        role=role,
        service=f"{config.provider} {config.model}",
        least=max(sum(asking.sure for asking in askings) - stored, 0),
        most=most - stored,
        stored=stored,
        prompt_tokens=prompt_tokens,
        completion_tokens=completion_tokens,
        cost_usd=config.limits.cost_usd(prompt_tokens, completion_tokens),
        counted=counted,
        limits=config.limits,
    )


def token_counter(model: str) -> tuple[Callable[[ChatRequest], int], str]:
    """Choose how to count a request's tokens: by a local tokenizer, or by estimate."""
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
