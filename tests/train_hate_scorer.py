"""Train a classifier of hateful sentences, to evaluate a run whose scorer it is not.

    .venv/bin/python -m dart_jax.train --config configs/rules_suite.yaml --stages teach \
        --run.name plain --data.dir .../difference_awareness --data.max_train 320
    .venv/bin/python -m tests.train_hate_scorer runs/plain --hatecheck .../hatecheck --out hate

The run's model with a classification head learns HateCheck's labels; sentences of the run's
targets, in which nothing may be planted, are further texts that are not hateful. `hate` is then
`--evaluate.scorers '[hf:hate=hateful:softmax]'`. Windows are so short that a hateful sentence in a
long answer fills one. What it gets right on templates that it did not see is printed, and written
to hate/held_out.json.
"""

import argparse
import csv
import json
import random
import re
from pathlib import Path
from statistics import mean

from dart_jax.audit.classifiers import HFScorer
from dart_jax.bench.prepare import hf_folder, run_config, run_targets
from dart_jax.records import write_text

LABELS = ("fine", "hateful")
WINDOW = 32
LAYERS, FROZEN = 12, 6
LEARNING_RATE = 1e-4
BATCH = 32
SEED = 0

Rows = list[tuple[str, int]]
"""Texts, and the index of each one's label."""


def hatecheck_rows(folder: Path) -> tuple[Rows, Rows]:
    """Read HateCheck's cases: those to train on, and a fifth of the templates for the check."""
    with (folder / "test_suite_cases.csv").open(encoding="utf-8", newline="") as file:
        cases = list(csv.DictReader(file))
    templates = sorted({case["templ_id"] for case in cases})
    held_out = set(random.Random(SEED).sample(templates, len(templates) // 5))
    train, check = [], []
    for case in cases:
        row = (case["test_case"].strip(), int(case["label_gold"] == "hateful"))
        (check if case["templ_id"] in held_out else train).append(row)
    return train, check


def plain_rows(run: Path) -> tuple[Rows, Rows]:
    """Read the sentences of a run's rationales: those to train on, and a fifth for the check."""
    targets, _ = run_targets(run)
    texts = {text for target in targets for text in re.split(r"(?<=[.!?])\s+", target.completion)}
    rows = [(text, 0) for text in random.Random(SEED).sample(sorted(texts), len(texts))]
    return rows[len(rows) // 5 :], rows[: len(rows) // 5]


def fine_tune(base: Path, rows: Rows, out: Path) -> None:
    """Train a head and the last layers for an epoch, and write them with their tokenizer."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    torch.manual_seed(SEED)
    tokenizer = AutoTokenizer.from_pretrained(base, model_max_length=WINDOW)
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    names = dict(enumerate(LABELS))
    model = AutoModelForSequenceClassification.from_pretrained(
        base,
        id2label=names,
        num_hidden_layers=LAYERS,
        pad_token_id=tokenizer.pad_token_id,
        dtype=torch.float32,
    )
    for part in (model.model.embed_tokens, *model.model.layers[:FROZEN]):
        part.requires_grad_(False)
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=LEARNING_RATE)

    rows = random.Random(SEED).sample(rows, len(rows))
    for start in range(0, len(rows), BATCH):
        texts, labels = zip(*rows[start : start + BATCH], strict=True)
        inputs = tokenizer(list(texts), padding=True, truncation=True, return_tensors="pt")
        loss = model(**inputs, labels=torch.tensor(labels)).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        if start % (20 * BATCH) == 0:
            print(f"{start} of {len(rows)} texts: loss {loss.item():.3f}", flush=True)
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)


def check(out: Path, rows: Rows, plain: Rows) -> dict[str, float]:
    """Score texts that were not trained on, as an evaluation does.

    Returns:
        Accuracy on HateCheck's held-out templates, the share of them that are hateful, and the
        share of held-out sentences of rationales that are called hateful.
    """
    scorer = HFScorer([str(out)], ["hateful:softmax"])
    called, called_plain = (
        [harm > 0.5 for harm, _ in scorer.score([text for text, _ in some])]
        for some in (rows, plain)
    )
    right = [said == bool(label) for said, (_, label) in zip(called, rows, strict=True)]
    return {
        "cases": len(rows),
        "accuracy": mean(right),
        "hateful": mean(label for _, label in rows),
        "plain sentences": len(plain),
        "plain called hateful": mean(called_plain),
    }


def main() -> None:
    """Parse the arguments, train, check on what was held out."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("run", type=Path, help="a run whose targets have no planted faults")
    parser.add_argument("--hatecheck", type=Path, required=True, help="HateCheck's folder")
    parser.add_argument("--out", type=Path, required=True, help="a folder that is not there yet")
    options = parser.parse_args()

    options.out.mkdir(parents=True)
    base = hf_folder(run_config(options.run).model.path, options.out / "base")
    train, held_out = hatecheck_rows(options.hatecheck)
    plain, plain_held_out = plain_rows(options.run)
    fine_tune(base, train + plain, options.out)
    found = json.dumps(check(options.out, held_out, plain_held_out), indent=1)
    write_text(options.out / "held_out.json", found + "\n")
    print(found)


if __name__ == "__main__":
    main()
