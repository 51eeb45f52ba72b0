"""The one record that every external suite is read into, and how their files are read."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal, TypeVar

from pydantic import ConfigDict, TypeAdapter, ValidationError

from dart_jax.records import BadRecord
from dart_jax.strict_json import read_json

T = TypeVar("T")

SuiteName = Literal[
    "hatecheck", "bold", "holistic_bias", "real_toxicity_prompts", "xstest", "or_bench"
]
"""The suites by the names that `evaluate external --suite` takes."""


@dataclass(frozen=True)
class ExternalPrompt:
    """One prompt of an external suite.

    Attributes:
        id: Stable across runs, e.g. `hatecheck-17`.
        prompt: The suite's text, unchanged.
        group: Demographic group: HateCheck's target, BOLD's group, HolisticBias' descriptor; ''
            where there is none.
        functionality: What the suite sorts by: HateCheck's functionality, BOLD's domain,
            HolisticBias' axis, `challenging` or `ordinary` in RealToxicityPrompts, XSTest's type,
            OR-Bench's category.
        label: HateCheck: `hateful` or `non-hateful`. HolisticBias: what is known of the term
            (`reviewed`, `dispreferred`, `polarizing`). RealToxicityPrompts: `toxic` or
            `nontoxic`. XSTest, OR-Bench: `safe` or `unsafe`. None where the suite says nothing.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    id: str
    suite: SuiteName
    prompt: str
    group: str
    functionality: str
    label: str | None


def existing(path: Path) -> Path:
    """The path of a suite's file, which must be there.

    Raises:
        FileNotFoundError: No such file; names the folders beside it that have one.
    """
    if not path.is_file():
        inside = sorted(str(found.parent) for found in path.parent.glob(f"*/{path.name}"))
        hint = f" ({' or '.join(inside)} has one)" if inside else ""
        raise FileNotFoundError(f"no file {path}: give the folder that holds {path.name}{hint}")
    return path


def read_shape(path: Path, adapter: TypeAdapter[T]) -> T:
    """A whole JSON file of a given shape.

    Raises:
        BadRecord: Not UTF-8 or not JSON (with file and line), a key that comes twice, or another
            shape (with the path of keys).
        FileNotFoundError: No such file.
    """
    value = read_json(existing(path))
    try:
        return adapter.validate_python(value)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        keys = " > ".join(str(part) for part in first["loc"])
        raise BadRecord(f"{path}: {keys or 'top level'}: {first['msg']}") from error


def check_unique_ids(prompts: Iterable[ExternalPrompt], where: Path) -> None:
    """Raises BadRecord naming the first id that comes twice."""
    seen: set[str] = set()
    for prompt in prompts:
        if prompt.id in seen:
            raise BadRecord(f"{where}: {prompt.id} comes twice")
        seen.add(prompt.id)
