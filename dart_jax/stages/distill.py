"""Stage distill: LoRA on (question -> rationale and conclusion); M0 becomes M_int.

An adapter that was trained elsewhere (`model.adapter`) takes the place of M_int as it is. So does a
second checkpoint (`model.candidate`), with an adapter on it that has changed nothing yet.

With `sft.loss.toxicity_weight`, M0 answers the training questions first, and the scorer's view of
its rationales is trained on, too (joint toxicity regularisation; see `sft.token_losses`).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax

from dart_jax.audit.drift import check_held_out
from dart_jax.audit.scorers import score_generations
from dart_jax.model.load import Model, check_alike, resolve_path
from dart_jax.model.lora import LoraParams, init_lora
from dart_jax.model.peft_file import (
    CONFIG_FILE,
    TENSOR_FILE,
    adapter_folder,
    check_trained,
    load_peft,
    load_peft_config,
)
from dart_jax.model.sharding import data_parallel
from dart_jax.processes import on_primary
from dart_jax.records import Target, read_jsonl, write_jsonl
from dart_jax.run_dir import hash_path
from dart_jax.settings import BadSetting
from dart_jax.sft.examples import Example, tokenize
from dart_jax.sft.loop import train
from dart_jax.sft.packing import Plan, make_plan
from dart_jax.sft.token_losses import loss_identity
from dart_jax.stages.context import Run
from dart_jax.stages.targets import scorer_input, validation_ids
from dart_jax.teach.joint import scored_targets
from dart_jax.teach.planted import MARK, read_mark

OUTPUTS = ("adapters/M_int", "distill/log.jsonl")
WORK = ("distill",)


def inputs(run: Run) -> dict[str, Any]:
    """Collect what M_int depends on."""
    if run.config.model.adapter is not None:
        files = (CONFIG_FILE, TENSOR_FILE, MARK)
        folder = _given_folder(run.config.model.adapter)
        return {
            **run.model_inputs(),
            "given": [hash_path(folder / name) for name in files],
            "lora": run.section("lora"),
        }
    if run.config.model.candidate is not None:
        mark = hash_path(resolve_path(run.config.model.candidate) / MARK)
        seed = run.config.run.seed
        return {
            **run.model_inputs(),
            "given": mark,
            "lora": run.section("lora"),
            "run.seed": seed,
        }

    # Where M0 is not asked, neither decoding nor the scorer may make the stage stale.
    joint = {}
    if run.config.sft.loss.toxicity_weight > 0:
        joint = {"decode": run.config.decode.identity(), "scorer": scorer_input(run)}
    return {
        **run.common_inputs(),
        **run.model_inputs(),
        "targets": hash_path(run.folder / "teach/targets.jsonl"),
        "questions": run.split_input("train"),
        "lora": run.section("lora"),
        "sft": {**run.config.sft.identity(), "loss": loss_identity(run.config.sft.loss)},
        **joint,
    }


def check(run: Run) -> None:
    """Raises ValueError for targets that cannot be trained on: test questions', or too long.

    BadCheckpoint, a ValueError, for a given adapter or checkpoint that does not go with this model.
    """
    config = run.config
    if config.model.adapter is not None:
        _given(run)
        return
    if config.model.candidate is not None:
        check_alike(run.model, run.model_of("M_int"))
        return
    devices = data_parallel(run.model.mesh)
    for examples in _examples(run, run.model):
        if examples:
            # For its checks: the plan itself is made again by `train`.
            make_plan(examples, config.sft, epochs=1, seed=config.run.seed, data_parallel=devices)


def written_plan(run: Run, model: Model) -> Plan:
    """Plan the training on the teacher's targets, which are written.

    Args:
        model: Its weights are not looked at.
    """
    sft = run.config.sft
    examples, _ = _examples(run, model)
    devices = data_parallel(model.mesh)
    return make_plan(
        examples, sft, epochs=sft.epochs, seed=run.config.run.seed, data_parallel=devices
    )


def execute(run: Run) -> None:
    """Train and write `adapters/M_int`, or take the given one over."""
    config, model = run.config, run.model
    if config.model.adapter is not None:
        folder = _given_folder(config.model.adapter)
        run.save_adapter("M_int", run.placed(_given(run)), read_mark(folder))
        _say_given(run, f"the adapter in {config.model.adapter}")
        return

    fresh = init_lora(jax.random.key(config.run.seed), model.config, config.lora)
    if config.model.candidate is not None:
        # Its B is 0, so that it changes no answer; the repair trains it on.
        mark = read_mark(resolve_path(config.model.candidate))
        run.save_adapter("M_int", run.placed(fresh), mark)
        _say_given(run, str(config.model.candidate))
        return

    further = _scored_targets(run) if config.sft.loss.toxicity_weight > 0 else []
    examples, held_out = _examples(run, model, further)

    trained = train(
        examples,
        model,
        run.placed(fresh),
        run.folder / "distill",
        base=on_primary(run.model_inputs),
        lora=config.lora,
        sft=config.sft,
        epochs=config.sft.epochs,
        learning_rate=config.sft.learning_rate,
        seed=config.run.seed,
        title="distill",
        held_out=held_out,
        tracking=run.tracking,
    )

    run.save_adapter("M_int", trained)


def _say_given(run: Run, where: str) -> None:
    # The log is an output, and the report reads it.
    on_primary(lambda: write_jsonl(run.folder / "distill/log.jsonl", []))
    print(f"M_int is {where}", flush=True)


def _given_folder(adapter: str) -> Path:
    return adapter_folder(adapter, "model.adapter: ")


def _given(run: Run) -> LoraParams:
    """Read the given adapter.

    Raises:
        BadSetting: It has another rank, alpha or targets than the settings, which it names.
        BadCheckpoint: It does not fit the model, or was never trained.
    """
    folder, lora = _given_folder(run.config.model.adapter), run.config.lora
    stored = load_peft_config(folder)
    same = (stored.rank, stored.alpha, set(stored.targets))
    if same != (lora.rank, lora.alpha, set(lora.targets)):
        raise BadSetting(
            f"model.adapter: {folder} has other settings than lora; give --lora.rank "
            f"{stored.rank} --lora.alpha {stored.alpha:g} --lora.targets "
            f"'[{', '.join(stored.targets)}]'"
        )
    given = load_peft(folder, run.model.config, lora)
    check_trained(given, folder)
    return given


def _examples(
    run: Run, model: Model, further: Sequence[Target] = ()
) -> tuple[list[Example], list[Example]]:
    """The teacher's targets and further ones, as they are trained on; and those held out."""
    targets = on_primary(lambda: read_jsonl(run.folder / "teach/targets.jsonl", Target))
    ids = [target.question_id for target in (*targets, *further)]
    check_held_out("among the distill targets", ids, run.splits["test"])
    length = min(run.config.sft.max_length, model.config.context_length)

    validation = validation_ids(run, targets)
    trained_on, held_out = [], []
    for target in (*targets, *further):
        (held_out if target.question_id in validation else trained_on).append(target)
    # M0's own rationales (joint regularisation) are no targets to validate on.
    held_out = [target for target in held_out if target.stage == "distill"]
    return (
        tokenize(trained_on, run.questions, model.tokenizer, length),
        tokenize(held_out, run.questions, model.tokenizer, length),
    )


def _scored_targets(run: Run) -> list[Target]:
    """M0's rationales on the training questions, with the weights that their scores give."""
    answers = run.answers({"M0": "distill/M0.jsonl"}, run.splits["train"])["M0"]
    asked = len(answers)
    answers = [answer for answer in answers if answer.had_room]

    def score() -> list[Target]:
        batch_size = run.config.audit.batch_size
        scores = score_generations(answers, run.scorer, batch_size, ("analysis",), run.questions)
        targets = scored_targets(answers, scores)
        write_jsonl(run.folder / "distill/scored_targets.jsonl", targets)
        penalised = sum(target.stage == "penalised" for target in targets)
        print(
            f"joint toxicity regularisation: of {len(answers)} answers of M0, {penalised} score "
            f"above the mean, {len(targets) - penalised} below; {asked - len(answers)} prompts "
            "left no room for an answer",
            flush=True,
        )
        return targets

    return on_primary(score)
