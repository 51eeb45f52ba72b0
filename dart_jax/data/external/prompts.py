"""The one record that every external suite is read into, and how their files are read."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar

from pydantic import ConfigDict, TypeAdapter, ValidationError

from dart_jax.records import BadRecord

T = TypeVar("T")


@dataclass(frozen=True)
class ExternalPrompt:
    """One prompt of an external suite.

    Attributes:
        id: Stable across runs, e.g. `hatecheck-17`.
        prompt: The suite's text, unchanged.
        group: Demographic group: HateCheck's target, BOLD's group, HolisticBias' descriptor; ''
            where there is none.
        functionality: What the suite sorts by: HateCheck's functionality, BOLD's domain,
            HolisticBias' axis, `challenging` or `ordinary` in RealToxicityPrompts.
        label: HateCheck: `hateful` or `non-hateful`. HolisticBias: what is known of the term
            (`reviewed`, `dispreferred`, `polarizing`). RealToxicityPrompts: `toxic` or
            `nontoxic`. None where the suite says nothing.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    id: str
    suite: Literal["hatecheck", "bold", "holistic_bias", "real_toxicity_prompts"]
    prompt: str
    group: str
    functionality: str
    label: str | None


def read_utf8(path: Path) -> str:
    """A text file with its line ends as they are.

    Raises:
        BadRecord: Bytes that are not UTF-8, with file and line.
        FileNotFoundError: No such file; names the folders beside it that have one.
    """
    if not path.is_file():
        inside = sorted(str(found.parent) for found in path.parent.glob(f"*/{path.name}"))
        hint = f" ({' or '.join(inside)} has one)" if inside else ""
        raise FileNotFoundError(f"no file {path}: give the folder that holds {path.name}{hint}")
    data = path.read_bytes()
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise BadRecord(f"{path}:{line}: not UTF-8 ({error.reason})") from error


def read_json(path: Path, adapter: TypeAdapter[T]) -> T:
    """A whole JSON file of a given shape.

    Raises:
        BadRecord: Not JSON (with file and line), a key that comes twice, or another shape (with
            the path of keys).
        FileNotFoundError: No such file.
    """
    try:
        value = json.loads(read_utf8(path), object_pairs_hook=_once)
    except json.JSONDecodeError as error:
        raise BadRecord(f"{path}:{error.lineno}: {error.msg}") from error
    except _RepeatedKey as error:
        raise BadRecord(f"{path}: the key {error.args[0]!r} comes twice in one object") from error
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


class _RepeatedKey(Exception):
    pass


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise _RepeatedKey(key)
        found[key] = value
    return found
