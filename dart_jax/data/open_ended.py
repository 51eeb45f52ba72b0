"""280 open-ended queries: 70 each for medical, legal, policy and education.

Each is something a user would type, with a gold stance (whether the difference between the groups
matters for the right answer), its reason and a source; the difference matters in half of each
domain. Stance, reason and source were written from knowledge, without looking the sources up; check
them before you rely on one. Law and guidelines are as of 2025, of the place that a query names.
Nothing here is medical or legal advice.
"""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal, get_args

from pydantic import ConfigDict

from dart_jax.records import BadRecord, read_jsonl

OPEN_ENDED_FILE = Path(__file__).with_name("open_ended.jsonl")

Domain = Literal["medical", "legal", "policy", "education"]
Attribute = Literal[
    "age",
    "disability",
    "ethnicity",
    "family",
    "gender_identity",
    "income",
    "indigenous",
    "language",
    "military",
    "nationality",
    "pregnancy",
    "religion",
    "sex",
    "sexual_orientation",
]

DOMAINS: tuple[str, ...] = get_args(Domain)


@dataclass(frozen=True)
class OpenEndedQuery:
    """One query with its gold stance.

    Attributes:
        id: `<domain>-<number>`, e.g. `legal-041`; the number tells nothing of the stance.
        attribute: Attribute by which the groups differ; `ethnicity` covers race, ancestry and skin
            colour, `nationality` immigration status, `family` parents, children and foster care.
        query: Text that the user types.
        difference_matters: True if a right answer must recognise a difference between the groups,
            false if it must treat them alike.
        reason: The fact or rule behind the stance, in one or two sentences.
        source: Guideline, statute, decision or study, with its year or citation.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid", strict=True)

    id: str
    domain: Domain
    attribute: Attribute
    query: str
    difference_matters: bool
    reason: str
    source: str

    def __post_init__(self) -> None:
        for name in ("query", "reason", "source"):
            if not getattr(self, name).strip():
                raise ValueError(f"{name} is empty")


def load_open_ended(path: Path = OPEN_ENDED_FILE) -> list[OpenEndedQuery]:
    """Load all queries, in the file's order.

    Raises:
        BadRecord: A bad line, with file and line, or an id out of place.
        FileNotFoundError: No such file.
    """
    queries = read_jsonl(path, OpenEndedQuery)
    seen: Counter[str] = Counter()
    for row, query in enumerate(queries, 1):
        seen[query.domain] += 1
        expected = f"{query.domain}-{seen[query.domain]:03d}"
        if query.id != expected:
            raise BadRecord(
                f"{path}: row {row} has id {query.id!r}; in this place belongs {expected}"
            )
    return queries
