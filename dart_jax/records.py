"""The records that flow through a DART run, and their JSONL form.

Each record is a frozen dataclass. On disk it is one JSON object per line; pydantic validates
every line that is read, so that a bad one raises an error that names its file and line.
Failures are records, too: `RejectedTarget`, `JudgeFailure`, `Uncertain` and a `Generation` without
a decision say why and are counted; none of them is replaced by a default.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar

from pydantic import ConfigDict, TypeAdapter, ValidationError

from dart_jax.cli import naming
from dart_jax.settings import LossWeightOrZero, check_value
from dart_jax.strict_json import BadRecord, parse_line, read_lines

T = TypeVar("T")


class Condition(StrEnum):
    """Gold condition of a question. DIFF: the groups differ in it; EQUAL: treat them alike."""

    DIFF = "diff"
    EQUAL = "equal"


class Decision(StrEnum):
    """Conclusion of an answer: `Conclusion: YES` recognises a difference, NO does not."""

    YES = "YES"
    NO = "NO"


class StopReason(StrEnum):
    """Why decoding of one row ended; `conclusion` occurs in runs of earlier versions only."""

    EOS = "eos"
    CONCLUSION = "conclusion"
    LENGTH = "length"


class DriftType(StrEnum):
    """How a rationale got worse than the baseline's (paper, audit stage)."""

    ELABORATES = "elaborates"
    NORMALIZES = "normalizes"
    OMITS = "omits"


class Severity(IntEnum):
    """How bad a drift is; the number is the paper's loss weight."""

    MINOR = 1
    MODERATE = 2
    SEVERE = 3
    EXTREME = 4


@dataclass(frozen=True)
class _Record:
    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")


@dataclass(frozen=True)
class Turn(_Record):
    """One message of a chat that serves as a prompt."""

    role: Literal["system", "user", "assistant"]
    content: str


@dataclass(frozen=True)
class Question(_Record):
    """One benchmark item, or one row of a custom data set.

    Attributes:
        id: Stable across runs and machines, e.g. `N3-diff-0041`.
        benchmark: Family, `D1`-`D4` (descriptive), `N1`-`N4` (normative) or a custom data set's.
        condition: DIFF or EQUAL, which implies the gold decision; None for an unlabelled row.
        text: The question with its options.
        answer: Index of the gold option (equal rows of N*: the wrong, marginalised option); -1
            in custom data sets, whose questions have no options.
        scenario_id: Groups rows made from one template; unique within a benchmark.
        messages: A custom data set's chat, the prompt instead of `text` in our instructions.
    """

    id: str
    benchmark: str
    condition: Condition | None
    text: str
    answer: int
    scenario_id: str
    messages: tuple[Turn, ...] = ()

    @property
    def gold(self) -> Decision | None:
        """The right decision: YES for DIFF, NO for EQUAL, None for an unlabelled row."""
        return {Condition.DIFF: Decision.YES, Condition.EQUAL: Decision.NO}.get(self.condition)


@dataclass(frozen=True)
class WeightSpan(_Record):
    """A passage, `completion[start:end]`, whose tokens weigh `weight` times their example's."""

    start: int
    end: int
    weight: float

    def __post_init__(self) -> None:
        if not 0 <= self.start < self.end:
            raise ValueError(f"the span {self.start}:{self.end} holds no character")
        check_value("weight", LossWeightOrZero, self.weight)


@dataclass(frozen=True)
class Target(_Record):
    """A completion to train on: rationale plus conclusion line.

    Attributes:
        question_id: The question that it answers.
        stage: `distill` or `repair`; a model's own text is made less likely (`drifted`: of a drift
            case; `penalised`: scored worse than the mean) or more likely (`preferred`).
        completion: Text after the prompt, ending in the line `Conclusion: YES|NO`; for an
            unlabelled row the text as written; for a model's own text the analysis alone.
        weight: Multiplies this example's token losses; 1 for distill, by severity for repair.
        severity: Severity of the drift that this target repairs; None for distill targets.
        provider: Who wrote it: `rules`, `file`, `local` or `openai`, with the model's name.
        attempts: Requests that it took (1 + correction rounds); 0 for `rules` and `file`.
        spans: Passages of the completion with their own weights; the rest of it weighs 1.
    """

    question_id: str
    stage: Literal["distill", "repair", "drifted", "penalised", "preferred"]
    completion: str
    weight: float = 1.0
    severity: Severity | None = None
    provider: str = "file"
    attempts: int = 0
    spans: tuple[WeightSpan, ...] = ()


@dataclass(frozen=True)
class RejectedTarget(_Record):
    """A question for which no acceptable target was written.

    Attributes:
        reasons: The rule broken by each attempt, in order.
        texts: The text of each attempt, in order ('' where the request itself failed).
    """

    question_id: str
    stage: Literal["distill", "repair"]
    reasons: list[str]
    texts: list[str]


@dataclass(frozen=True)
class PredictedLabel(_Record):
    """The conclusion that a teacher comes to by itself, used in place of the gold label.

    Attributes:
        decision: The teacher's conclusion; None where it came to none.
        reason: Why there is no decision; None when there is one.
        provider: Who was asked: `local` or `openai`, with the model's name.
    """

    question_id: str
    decision: Decision | None
    reason: str | None
    provider: str


@dataclass(frozen=True)
class Generation(_Record):
    """One decoded answer.

    Attributes:
        model: `M0`, `M_int` or `M_DART`.
        text: The model's answer, without special tokens.
        decision, unparseable: The parsed conclusion, or else the reason why there is none.
        stop: Why decoding ended; None for a prompt that left no room for an answer.
        prompt_tokens, new_tokens: Lengths of prompt and answer, in tokens.
        concludes: Whether the prompt asks for a conclusion line; if not, all text is analysis.
    """

    question_id: str
    model: str
    text: str
    decision: Decision | None
    unparseable: str | None
    stop: StopReason | None
    prompt_tokens: int
    new_tokens: int
    concludes: bool = True

    @property
    def had_room(self) -> bool:
        """Whether the prompt left room to answer; one that did not is counted in no rate."""
        return self.stop is not None or self.decision is not None  # the shortcut never stops


@dataclass(frozen=True)
class Score(_Record):
    """A harm score of one generation's analysis text.

    Attributes:
        value: The scorer's main probability, in [0, 1].
        labels: All the scorer's probabilities by label.
    """

    question_id: str
    model: str
    scorer: str
    value: float
    labels: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Opinion(_Record):
    """A judge's opinion of a pair shown in one order; the judge does not know which text is which.

    Attributes:
        first: The text that was shown first.
        worse: The text whose wording the judge finds more harmful.
        type, severity: Those of that text's fault; None exactly when `worse` is `neither`.
        passage: The worse text's words that show it; '' when the judge cannot quote.
        reason: The judge's explanation, or the evidence of a likelihood judge.
    """

    first: Literal["baseline", "candidate"]
    worse: Literal["baseline", "candidate", "neither"]
    type: DriftType | None
    severity: Severity | None
    passage: str
    reason: str

    def __post_init__(self) -> None:
        has_fault = self.worse != "neither"
        if has_fault != (self.type is not None) or has_fault != (self.severity is not None):
            raise ValueError("type and severity are given unless worse is neither")


@dataclass(frozen=True)
class Verdict(_Record):
    """A judge's answer on one (baseline, candidate) pair.

    Attributes:
        candidate: The audited model's name; the baseline is M0.
        drift: Whether the candidate's rationale is worse.
        type, severity: Given exactly when `drift` is true. Where the scorer alone decided, or a
            guard, the type is `elaborates` by convention, see `judged_type`.
        passage: The candidate's words that show it; '' when the judge cannot quote.
        reason: The judge's explanation, or the evidence of a likelihood judge.
        judge: Provider and model; `screen`, or `guard:` and its name, where one of these decided.
        opinions: Opinions in both orders, see `audit.orders`; none where the scorer alone decided.
    """

    question_id: str
    candidate: str
    drift: bool
    type: DriftType | None
    severity: Severity | None
    passage: str
    reason: str
    judge: str
    opinions: list[Opinion] = field(default_factory=list)
    kind: Literal["verdict"] = "verdict"

    def __post_init__(self) -> None:
        if self.drift != (self.type is not None) or self.drift != (self.severity is not None):
            raise ValueError("type and severity are given exactly when drift is true")

    @property
    def judged_type(self) -> DriftType | None:
        """The type as a judge told it; None where a scorer or guard decided, which see no types."""
        return None if self.judge == "screen" or self.judge.startswith("guard:") else self.type


@dataclass(frozen=True)
class Uncertain(_Record):
    """A pair without a verdict: the judge finds the candidate worse in one order only."""

    question_id: str
    candidate: str
    opinions: list[Opinion]
    judge: str
    kind: Literal["uncertain"] = "uncertain"


@dataclass(frozen=True)
class JudgeFailure(_Record):
    """A pair on which the judge gave no valid answer: neither drift nor its absence.

    Attributes:
        reason: What went wrong in the last attempt, for each order that failed.
        attempts: Requests made, over both orders.
    """

    question_id: str
    candidate: str
    reason: str
    attempts: int
    judge: str
    kind: Literal["failure"] = "failure"


Outcome = Verdict | Uncertain | JudgeFailure
"""The possible outcomes of judging a pair."""


@dataclass(frozen=True)
class DriftCase(_Record):
    """A confirmed drift, the input of repair.

    Attributes:
        delta: score(candidate) - score(baseline), in [-1, 1].
        benchmark: The question's; '' in files of earlier versions, as the next three are None.
        baseline_score, candidate_score: Harm scores by the scorer that screened the pair.
        agreement: Share of the judge's opinions that name this type and severity, 0.5 or 1; None
            without a judge.
    """

    question_id: str
    candidate: str
    baseline_text: str
    candidate_text: str
    delta: float
    type: DriftType
    severity: Severity
    passage: str = ""
    benchmark: str = ""
    baseline_score: float | None = None
    candidate_score: float | None = None
    agreement: float | None = None


@cache
def _adapter(record_type: Any) -> TypeAdapter:
    return TypeAdapter(record_type)


def to_json(record: Any) -> str:
    """Write a record as one line of JSON, without newline."""
    return json.dumps(dataclasses.asdict(record), ensure_ascii=False, separators=(", ", ": "))


def from_json(line: str, record_type: type[T], where: str = "record") -> T:
    """Parse and validate one line; raises BadRecord naming `where` and the key."""
    parse_line(line, where)  # pydantic's own parser takes the last of two equal keys, and NaN
    try:
        return _adapter(record_type).validate_json(line)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(str(part) for part in first["loc"])
        raise BadRecord(f"{where}: {key + ': ' if key else ''}{first['msg']}") from error


def read_jsonl(path: Path, record_type: type[T]) -> list[T]:
    """Read all records of a file. Raises BadRecord (file:line) and FileNotFoundError."""
    return [from_json(line, record_type, where) for where, line in read_lines(path)]


def write_jsonl(path: Path, records: Iterable[Any]) -> None:
    """Write a whole file atomically: readers see the old file or the new one."""
    write_text(path, "".join(to_json(record) + "\n" for record in records))


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically (UTF-8, LF)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    with naming(path), open(temporary, "w", encoding="utf-8", newline="\n") as out:
        out.write(text)
        out.flush()
        os.fsync(out.fileno())
    os.replace(temporary, path)


def digest(value: Any) -> str:
    """SHA-256 (hex) of any JSON-able value, identical on every machine."""
    encoded = json.dumps(value, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(encoded.encode("utf-8")).hexdigest()
