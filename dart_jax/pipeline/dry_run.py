"""`--dry-run`: what the stages would ask of services, what it would cost, and what devices need.

Nothing is sent.

The stages' own code runs, on imagined services, models and scorers (see `imagined`). What a stage
asks about texts that are not written yet is counted as its upper bound: every pair is screened,
every drift confirmed, something repaired in every cycle; every answer is as long as it may be and
sent back as often as it may be. Retries of failed requests are not counted.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from dart_jax.backend import hardware
from dart_jax.chat.config import ServiceConfig
from dart_jax.chat.endpoint import PRESETS
from dart_jax.chat.store import stored_answers
from dart_jax.config import EVALUATOR, DartConfig
from dart_jax.pipeline.imagined import CountingChat, ImaginedRun
from dart_jax.pipeline.layout import settle
from dart_jax.pipeline.needs import needs
from dart_jax.pipeline.plan import PlannedStage, due_stages
from dart_jax.pipeline.preflight import check_in_dry_run, uses_devices
from dart_jax.pipeline.prompt_tokens import prompt_counter
from dart_jax.run_dir import RunDir, copy_path
from dart_jax.stages.context import Run
from dart_jax.stages.services import STORE


@dataclass(frozen=True)
class Estimate:
    """What a stage would ask of a service.

    Attributes:
        role: `teacher`, `judge` or `evaluate.judge`.
        least: Requests at least; 0 where what they would be about is not written yet.
        most, prompt_tokens, completion_tokens: Requests and their tokens at most.
        stored: Requests that need not be sent, as the run's store has their answers.
        cost_usd: US dollars at most; None where the prices are not set.
    """

    role: str
    config: ServiceConfig
    least: int
    most: int
    stored: int
    prompt_tokens: int
    completion_tokens: int
    cost_usd: float | None


def print_estimates(config: DartConfig, stages: Sequence[str]) -> None:
    """Check what the run would check, and print the estimates of the stages that are due.

    Raises:
        ValueError, FileNotFoundError, RuntimeError: What would stop the run before its first stage.
    """
    if uses_devices(config, stages):
        config = settle(config, hardware(), trains=bool({"distill", "repair"} & set(stages)))
    run = Run(config, RunDir(config.run))
    model = check_in_dry_run(run, stages)
    print("dry run: nothing is sent, nothing is written", flush=True)

    found = []
    for name, estimate in estimates(run, stages):
        print(f"{name}: {'asks no service' if estimate is None else _described(estimate)}")
        if estimate is not None:
            found.append(estimate)

    costs = [estimate.cost_usd for estimate in found]
    total = "unknown" if None in costs else f"at most {sum(costs):.2f} US dollars"
    print(f"all: at most {sum(estimate.most for estimate in found):,} requests, {total}")
    if config.asks_guard:
        print("audit.guard: one request for each distinct answer, which is not counted here")
    due = {planned.stage for planned in due_stages(run, stages)} & set(stages)
    if model is not None and due:
        print(*needs(run, model, due), sep="\n")


def estimates(run: Run, stages: Sequence[str]) -> Iterator[tuple[str, Estimate | None]]:
    """Estimate each stage that is asked for and due, by its name; None if it asks no service.

    A repair may ask two: the teacher, and the judge about what the teacher wrote. So may the
    evaluation: the judge, and one that had no part in the audit.
    """
    due = due_stages(run, stages)
    with TemporaryDirectory() as folder, stored_answers(run.folder / STORE) as stored:
        imagined = ImaginedRun(run.config, Path(folder), stored)
        for planned in due:
            # Its audit is done: these are the true cases, and the imagined audit has not made any.
            if planned is due[0] and planned.stage == "repair":
                cases = planned.cycle.path("audit/drift_cases.jsonl")
                copy_path(run.folder / cases, imagined.folder / cases)

            found = _estimates(run, imagined, planned, is_known=planned is due[0])
            if planned.stage in stages:
                for estimate in found or [None]:
                    yield planned.name, estimate


_ROLES = {
    "teach": ["teacher"],
    "audit": ["judge"],
    "repair": ["teacher", "judge"],
    "evaluate": ["judge", EVALUATOR],
}


def _estimates(
    run: Run, imagined: ImaginedRun, planned: PlannedStage, is_known: bool
) -> list[Estimate]:
    """Put the imagined run through a stage; one estimate for each service that it asks.

    Args:
        is_known: Whether all stages before it are done.
    """
    sections = {role: run.config.service(role) for role in ("teacher", "judge", EVALUATOR)}
    services = [role for role, config in sections.items() if config.provider in PRESETS]
    asked = [role for role in _ROLES.get(planned.stage, []) if role in services]
    # Whoever judges, a service may be asked for repairs of what the audit finds.
    if planned.ask is None or not (asked or (services and planned.stage == "audit")):
        return []

    chats = _chats(imagined, planned, most=True)
    # What models will have answered is never known: they answer within the stages.
    least = _chats(imagined, planned, most=False) if is_known and "teacher" in asked else []
    found = []
    for role in asked:
        of_role = [chat for chat in chats if chat.role == role]
        # What the judge sees of a repair, the teacher has yet to write.
        least_of_role = [chat for chat in least if chat.role == role == "teacher"]
        if of_role:
            found.append(_estimate(role, sections[role], of_role, least_of_role))
    return found


def _estimate(
    role: str, config: ServiceConfig, chats: list[CountingChat], least: list[CountingChat]
) -> Estimate:
    """Sum up what a service was asked, at most and at least."""
    most = sum(chat.sent for chat in chats)
    prompt_tokens = sum(chat.prompt_tokens for chat in chats)
    completion_tokens = most * config.max_tokens
    return Estimate(
        role=role,
        config=config,
        least=sum(chat.sent for chat in least),
        most=most,
        stored=sum(chat.stored for chat in chats),
        prompt_tokens=prompt_tokens,
        completion_tokens=completion_tokens,
        cost_usd=config.limits.cost_usd(prompt_tokens, completion_tokens),
    )


def _chats(imagined: ImaginedRun, planned: PlannedStage, *, most: bool) -> list[CountingChat]:
    """Have a stage ask, without its own words on the terminal."""
    imagined.most, imagined.chats = most, []
    with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
        planned.ask(imagined)
    return imagined.chats


def _described(estimate: Estimate) -> str:
    requests = f"{estimate.least:,} to {estimate.most:,} requests"
    if estimate.least == estimate.most:
        requests = f"{estimate.most:,} requests"
    if estimate.stored:
        requests += f" ({estimate.stored:,} more have a stored answer)"
    cost = "dollars unknown (set limits.price_prompt and limits.price_completion)"
    if estimate.cost_usd is not None:
        cost = f"{estimate.cost_usd:.2f} US dollars"

    config = estimate.config
    _, how = prompt_counter(config.model)
    return (
        f"{estimate.role} {config.provider} {config.model}: {requests}; at most"
        f" {estimate.prompt_tokens:,} prompt and {estimate.completion_tokens:,} completion tokens,"
        f" {cost}; {how}{''.join(_warnings(estimate))}"
    )


def _warnings(estimate: Estimate) -> Iterator[str]:
    """Warn of each budget that may stop the stage."""
    needs = {
        "max_requests": estimate.most,
        "max_tokens": estimate.prompt_tokens + estimate.completion_tokens,
        "max_cost_usd": estimate.cost_usd,
    }
    for name, need in needs.items():
        budget = getattr(estimate.config.limits, name)
        if budget is not None and need is not None and need > budget:
            yield f"; {estimate.role}.limits.{name} {budget:,} may stop it before its end"
