"""Record what the answers in a file were made from, beside it in `<file>.inputs.json`.

Answers are known by their prompt's id. That alone would let those to another prompt, or under
another seed, pass for what is asked for now.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dart_jax.changes import describe_changes, enumerated
from dart_jax.commands.models_to_ask import Choice
from dart_jax.commands.prompt_file import PromptLine
from dart_jax.generate.config import DecodeConfig
from dart_jax.model.identity import checkpoint_identity
from dart_jax.model.load import loading_inputs, resolve_path
from dart_jax.prompts.conclusion import RULE
from dart_jax.records import digest, write_text
from dart_jax.run_dir import hash_path


def answer_inputs(
    choice: Choice, prompts: Sequence[PromptLine], settings: DecodeConfig, seed: int
) -> dict[str, Any]:
    """Collect all that the models' answers depend on; `settings` may differ from the run's."""
    model, folders = choice.config.model, choice.folders
    path = resolve_path(model.path)
    base = checkpoint_identity(path)
    return {
        "seed": seed,
        "decode": settings.identity(),
        "conclusion": RULE,
        "base": {**base, **loading_inputs(model, path)},
        # The base model is recorded above, and has no folder.
        "models": {n: hash_path(folders[n]) if n in folders else None for n in choice.names},
        "prompts": {prompt.id: _prompt_digest(prompt) for prompt in prompts},
    }


def _prompt_digest(prompt: PromptLine) -> str:
    # Whether it is a question decides where its answer ends.
    return digest([list(prompt.conversation()), prompt.question is not None])


def claim(out: Path, inputs: Mapping[str, Any]) -> None:
    """Record what the answers in `out` are made from, now or on an earlier start.

    Prompts and models may have been added or left out since; what is there must not have changed.

    Raises:
        ValueError: `out` has answers that were made from something else; says from what.
    """
    path = out.with_name(f"{out.name}.inputs.json")

    # As it is read back: a tuple is a list there.
    now = json.loads(json.dumps(inputs))
    if out.exists() and out.stat().st_size > 0:
        before = _read(path, out)
        changes = describe_changes(_common(before, now), _common(now, before))
        if changes:
            raise ValueError(
                f"--out {out}: its answers were made from something else: {enumerated(changes)}; "
                f"give another --out, or delete it together with {path.name}"
            )
        # Those of earlier starts, too, whose answers the file still holds.
        for part in ("models", "prompts"):
            now[part] = before[part] | now[part]

    write_text(path, json.dumps(now, indent=1, ensure_ascii=False) + "\n")


def _read(path: Path, out: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError) as error:
        raise ValueError(
            f"--out {out}: has answers, and {path.name}, which says what they were made from, is "
            "missing or damaged; give another --out, or delete it"
        ) from error


def _common(inputs: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """The inputs, of models and prompts those that the others have, too."""
    common = dict(inputs)
    for part in ("models", "prompts"):
        common[part] = {name: value for name, value in inputs[part].items() if name in other[part]}
    return common
