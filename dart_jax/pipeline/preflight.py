"""Find what is wrong with a run before any work is done."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from dart_jax.audit.config import GUARD
from dart_jax.audit.scorers import make_scorers
from dart_jax.config import DartConfig
from dart_jax.evaluate.evaluators import further_scorers
from dart_jax.extras import need
from dart_jax.generate.answers import answer_prompts
from dart_jax.generate.decode import check_room
from dart_jax.model.load import Model, outline, resolve_path
from dart_jax.model.sharding import make_mesh
from dart_jax.processes import on_all, on_primary
from dart_jax.sft.token_losses import token_loss, uses_weights
from dart_jax.stages.audit import pool
from dart_jax.stages.context import Run
from dart_jax.stages.evaluators import dependence
from dart_jax.stages.noise import check_auto_tau
from dart_jax.stages.services import check_service
from dart_jax.teach.case_weight import case_weight


def check_stages(config: DartConfig, stages: Sequence[str]) -> None:
    """Raises ValueError for a stage that has nothing to work on, or nothing to decide by."""
    if config.data.split_by == "none" and "evaluate" in stages:
        raise ValueError(
            "data.split_by none makes every row a training row, and stage evaluate needs test "
            "questions: leave it out (--stages teach,distill), or set data.split_by row"
        )
    if config.audit.mode == "planted" and config.plant.share == 0:
        raise ValueError(
            "audit.mode planted: decides by the words of planted faults, and this run plants none; "
            "set plant.share above 0, or another audit.mode"
        )
    safer = config.repair.require_safer
    wanted = [name for name, rule in vars(safer).items() if rule == "judge"]
    if wanted and not config.audit.asks_judge:
        raise ValueError(
            f"repair.require_safer.{wanted[0]}: judge; audit.mode {config.audit.mode} asks none: "
            "set it to scorer or none, or audit.mode to screen_then_judge or judge_all"
        )


def uses_devices(config: DartConfig, stages: Sequence[str]) -> bool:
    """Tell whether the stages load a model; those that only ask a service need no device."""
    return set(stages) > {"teach"} or config.teacher.provider == "local"


def check_settings(run: Run, stages: Sequence[str]) -> None:
    """Fail now, not hours into a run, when a loss, a model, a key or a model name is missing.

    Also when the mesh is not that of the devices, unless the stages only ask a service.
    """
    if uses_devices(run.config, stages):
        on_all(lambda: make_mesh(run.config.mesh))
    on_all(lambda: _check_losses(run))
    if {"distill", "repair"} & set(stages):
        on_primary(lambda: check_trackers(run.config.run.trackers))
    on_all(lambda: _check_models(run))
    on_primary(lambda: _check_services(run))
    if "evaluate" in stages:
        on_primary(lambda: _warn_of_dependence(run))


def _check_losses(run: Run) -> None:
    """Import and trace custom losses and weights; raise if a name cannot be imported.

    Warns where drift cases would be weighted twice.
    """
    token_loss(run.config.sft.loss, "sft.loss")
    repair = run.config.repair
    loss = token_loss(repair.loss, "repair.loss")
    case_weight(repair)

    # Copies of an oversampled example weigh 1 each.
    is_weighted = repair.weighs_unequally and repair.weighting == "loss"
    if loss is not None and is_weighted and repair.epochs and uses_weights(loss):
        print(
            f"warning: repair.loss.fn {repair.loss.fn} uses tokens.weights, by which the step "
            "multiplies each token's loss anyway: drift cases are weighted twice. Leave them out "
            "of the function, or set repair.severity_weights uniform",
            file=sys.stderr,
        )


def check_trackers(trackers: Sequence[str]) -> None:
    """Raise MissingExtra for a tracker (`run.trackers`) whose library is not installed."""
    for tracker in trackers:
        if tracker != "tensorboard":
            need(tracker, [tracker], f"run.trackers {tracker}")


def _check_models(run: Run) -> None:
    resolve_path(run.config.model.path)
    resolve_path(run.config.model.trained_path)
    for section in (run.config.service(role) for role in run.config.roles):
        if section.provider in ("local", GUARD) and section.model is not None:
            resolve_path(section.model)


def _check_services(run: Run) -> None:
    for role in run.config.roles:
        check_service(run.config.service(role), role)
    if run.config.asks_guard:
        check_service(run.config.audit.guard, "audit.guard")


def _check_guard(run: Run) -> None:
    """Open the guard that judges; raises as its class says."""
    if run.config.audit.asks_judge and run.config.judge.provider == GUARD:
        _ = run.guard


def _warn_of_dependence(run: Run) -> None:
    words = dependence(run.config)
    if words is not None:
        print(f"warning: {words}", file=sys.stderr, flush=True)


def check_before_work(run: Run, stages: Sequence[str]) -> None:
    """Called once, before the first stage that has to run: loads the scorers and the model.

    Where targets are only made and trained on, nothing is scored or decoded. Training prompts are
    encoded before a teacher is asked for what follows on them.

    Raises:
        ValueError: The model's chat template or tokenizer does not take a prompt, with its id; or
            the drift pool is too small for `audit.tau: auto`.
        MissingExtra: A scorer's package is not installed.
        ScorerUnavailable: A scorer's model is missing.
        PromptTooLong: No pool or test prompt leaves room for its answer.
    """
    if "distill" in stages:
        answer_prompts(run.splits["train"], run.model)
    if _scores_nothing(stages):
        return
    # To load them. Names are handed on, since a result has to be picklable.
    on_primary(lambda: [scorer.name for scorer in run.scorers])
    on_primary(lambda: _check_guard(run))
    if "evaluate" in stages:
        on_primary(lambda: [scorer.name for scorer in run.evaluator_scorers])
    _check_room(run, run.model)


def check_in_dry_run(run: Run, stages: Sequence[str]) -> Model | None:
    """`check_settings` and `check_before_work`, without loading weights or writing scores.

    Returns:
        The model without its weights; None where targets are written and nothing else is done.

    Raises:
        ValueError, FileNotFoundError, MissingExtra, ScorerUnavailable, PromptTooLong: As the run
            would.
    """
    check_stages(run.config, stages)
    check_settings(run, stages)
    if set(stages) == {"teach"}:
        return None
    model, _ = outline(run.config.model, make_mesh(run.config.mesh))
    if "distill" in stages:
        answer_prompts(run.splits["train"], model)
    if not _scores_nothing(stages):
        # Not `run.scorers`, which open the run's store of scores.
        make_scorers(run.config.audit)
        _check_guard(run)
        further_scorers(run.config.further_scorers)
        _check_room(run, model)
    return model


def _scores_nothing(stages: Sequence[str]) -> bool:
    return set(stages) <= {"teach", "distill"}


def _check_room(run: Run, model: Model) -> None:
    """Say how many prompts leave no room for their answer.

    Raises:
        PromptTooLong: None does.
        ValueError: Too few of the drift pool's do for `audit.tau: auto`.
    """
    test, policy = run.splits["test"], run.config.evaluate.policy != "without"
    # With the policy, the longer prompt; under protocol transductive the pool is of test prompts.
    asked = {prompt.id: prompt for prompt in answer_prompts(pool(run), model)}
    asked |= {prompt.id: prompt for prompt in answer_prompts(test, model, policy)}

    prompts = list(asked.values())
    too_long = check_room(prompts, model, run.decode.max_new_tokens)
    answered = {question.id for question in pool(run)} - {prompt.id for prompt in too_long}
    check_auto_tau(run.config, len(answered))

    if too_long:
        print(
            f"{len(too_long)} of {len(prompts)} prompts leave no room for decode.max_new_tokens, "
            f"the first is {too_long[0].id}; their answers are recorded as missing",
            flush=True,
        )
