"""Fine-tune with TRL and peft on a run's training targets, as somebody else would.

    .venv/bin/python -m dart_jax.train --config configs/quickstart.yaml --run.name rows \
        --stages teach
    .venv/bin/python -m tests.train_with_trl runs/rows --out theirs
    .venv/bin/python -m dart_jax.train --config configs/quickstart.yaml --run.name theirs \
        --model.path theirs/base --model.adapter theirs/adapter --stages teach,audit,repair,evaluate

writes theirs/base (the run's model in Hugging Face's form), theirs/rows.jsonl (chats, as TRL reads
them) and theirs/adapter (peft's own files). Where the run plants faults, they are in the rows.
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

from dart_jax.bench.prepare import hf_folder, run_config, run_targets
from dart_jax.config import DartConfig
from dart_jax.prompts.templates import answer_messages
from dart_jax.records import write_text


def rows(run: Path) -> Iterator[dict[str, list[dict[str, str]]]]:
    """Yield each target as a prompt and a completion."""
    targets, questions = run_targets(run)
    by_id = {question.id: question for question in questions}
    for target in targets:
        answer = {"role": "assistant", "content": target.completion}
        question = by_id[target.question_id]
        yield {"prompt": list(answer_messages(question)), "completion": [answer]}


def fine_tune(config: DartConfig, base: Path, data: Path, adapter: Path) -> None:
    """Train an adapter of the run's rank and targets with TRL, in bfloat16 products."""
    import torch
    from datasets import load_dataset
    from peft import LoraConfig
    from trl import SFTConfig, SFTTrainer

    lora, sft = config.lora, config.sft
    settings = SFTConfig(
        output_dir=str(adapter.parent / "trl"),
        num_train_epochs=sft.epochs,
        per_device_train_batch_size=sft.batch_size,
        learning_rate=sft.learning_rate,
        bf16=True,
        use_cpu=not torch.cuda.is_available(),
        gradient_checkpointing=False,
        seed=config.run.seed,
        logging_steps=8,
        save_strategy="no",
        report_to=[],
    )
    peft_config = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=[f"{target}_proj" for target in lora.targets],
        task_type="CAUSAL_LM",
    )
    [train] = load_dataset("json", data_files=str(data), split=["train"])
    trainer = SFTTrainer(str(base), settings, train_dataset=train, peft_config=peft_config)
    trainer.train()
    trainer.save_model(str(adapter))


def main() -> None:
    """Parse the arguments, write base and rows, train."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("run", type=Path, help="a run whose stage teach is done")
    parser.add_argument("--out", type=Path, required=True, help="a folder that is not there yet")
    options = parser.parse_args()

    options.out.mkdir(parents=True)
    config = run_config(options.run)
    base = hf_folder(config.model.path, options.out / "base")
    data = options.out / "rows.jsonl"
    write_text(data, "".join(f"{json.dumps(row)}\n" for row in rows(options.run)))
    fine_tune(config, base, data, options.out / "adapter")


if __name__ == "__main__":
    main()
