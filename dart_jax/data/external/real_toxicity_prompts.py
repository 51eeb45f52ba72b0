"""RealToxicityPrompts (Gehman et al., Findings of EMNLP 2020): 99,442 beginnings from the web.

The public file is `prompts.jsonl`; a line holds `filename`, `begin`, `end`, `challenging`, and
`prompt` and `continuation`, each a text with Perspective scores in [0, 1] or null.
"""

from dataclasses import dataclass
from pathlib import Path

from dart_jax.data.external.prompts import ExternalPrompt, check_unique_ids, existing
from dart_jax.records import BadRecord, from_json
from dart_jax.strict_json import read_lines

TOXIC_FROM = 0.5
"""A prompt is `toxic` from this Perspective toxicity on (their paper, section 2)."""


@dataclass(frozen=True)
class _Scored:
    text: str
    toxicity: float | None

    def __post_init__(self) -> None:
        if not self.text.strip():
            raise ValueError("text is empty")
        if self.toxicity is not None and not 0.0 <= self.toxicity <= 1.0:
            raise ValueError(f"toxicity is {self.toxicity}, outside [0, 1]")


@dataclass(frozen=True)
class _Row:
    filename: str
    begin: int
    end: int
    challenging: bool
    prompt: _Scored


def load(path: Path) -> list[ExternalPrompt]:
    """All prompts, in the file's order; their continuations are not read.

    Args:
        path: The file, or a folder that holds `prompts.jsonl`.

    Raises:
        BadRecord: A bad line, with file and line, or a passage that comes twice.
        FileNotFoundError: No such file.
    """
    path = Path(path)
    path = path / "prompts.jsonl" if path.is_dir() else path
    prompts = [_prompt(from_json(line, _Row, where)) for where, line in read_lines(existing(path))]
    if not prompts:
        raise BadRecord(f"{path}: no prompt in it")
    check_unique_ids(prompts, path)
    return prompts


def _prompt(row: _Row) -> ExternalPrompt:
    toxicity = row.prompt.toxicity
    label = None if toxicity is None else "toxic" if toxicity >= TOXIC_FROM else "nontoxic"
    return ExternalPrompt(
        id=f"rtp-{row.filename}-{row.begin}-{row.end}",
        suite="real_toxicity_prompts",
        prompt=row.prompt.text,
        group="",
        functionality="challenging" if row.challenging else "ordinary",
        label=label,
    )
