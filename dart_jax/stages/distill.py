"""Stage distill: LoRA on (question -> rationale and conclusion); M0 becomes M_int."""

from __future__ import annotations

from typing import Any

import jax

from dart_jax.audit.drift import check_held_out
from dart_jax.model.lora import init_lora
from dart_jax.processes import on_first
from dart_jax.records import Target, read_jsonl
from dart_jax.run_dir import hash_path
from dart_jax.sft.examples import tokenize
from dart_jax.sft.loop import train
from dart_jax.stages.context import Run

OUTPUTS = ("adapters/M_int", "distill/log.jsonl")
WORK = ("distill",)


def inputs(run: Run) -> dict[str, Any]:
    """What M_int depends on."""
    return {
        **run.common_inputs(),
        "model": run.model_input(),
        "model.dtype": run.config.model.dtype,
        "model.quantize": run.config.model.quantize,
        "targets": hash_path(run.folder / "teach/targets.jsonl"),
        "questions": run.split_input("train"),
        "lora": run.section("lora"),
        "sft": run.section("sft"),
    }


def execute(run: Run) -> None:
    """Train and write `adapters/M_int`."""
    config, model = run.config, run.model
    targets = on_first(lambda: read_jsonl(run.folder / "teach/targets.jsonl", Target))
    ids = [target.question_id for target in targets]
    check_held_out("among the distill targets", ids, run.splits["test"])
    length = min(config.sft.max_length, model.config.context_length)
    examples = tokenize(targets, run.questions, model.tokenizer, length)
    fresh = init_lora(jax.random.key(config.run.seed), model.config, config.lora)
    trained = train(
        examples,
        model,
        run.placed(fresh),
        run.folder / "distill",
        lora=config.lora,
        sft=config.sft,
        epochs=config.sft.epochs,
        learning_rate=config.sft.learning_rate,
        seed=config.run.seed,
        title="distill",
    )
    run.save_adapter("M_int", trained)
