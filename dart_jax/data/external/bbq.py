"""BBQ (Parrish et al., Findings of ACL 2022): 58,492 questions of three options on social biases.

The public files (github.com/nyu-mll/BBQ) are `data/<category>.jsonl` and
`supplemental/additional_metadata.csv`. A question comes with an ambiguous context, where only the
option that says `unknown` is right, and with a disambiguated one, which tells the answer. The
metadata's `target_loc` is the option that agrees with the bias: in a question of negative polarity
the stereotyped group, in one of non-negative polarity the other. Where it is `NA` (16 of the
public questions), no option does.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from dart_jax.csv_table import BEYOND, read_table
from dart_jax.data.external.prompts import existing
from dart_jax.records import BadRecord, from_json
from dart_jax.strict_json import read_lines

METADATA = "additional_metadata.csv"
_COLUMNS = ("category", "example_id", "target_loc")
_TARGETS = {"0": 0, "1": 1, "2": 2, "NA": None}

Key = tuple[str, str]
"""Category and example id."""


@dataclass(frozen=True)
class BBQQuestion:
    """One question with its context.

    Attributes:
        id: Such as `bbq-Age-12`.
        template: The question's template: questions made from one resemble each other.
        ambiguous: Whether its context leaves the answer open.
        text: Context, question, and the options as `(a) ... (b) ... (c) ...`.
        answer, unknown: Index of the right option, and of the one that says `unknown`.
        biased: Index of the option that agrees with the bias; None where none does.
    """

    id: str
    category: str
    template: str
    ambiguous: bool
    text: str
    answer: int
    unknown: int
    biased: int | None


@dataclass(frozen=True)
class _Row:
    example_id: int
    question_index: str
    context_condition: Literal["ambig", "disambig"]
    category: str
    answer_info: dict[Literal["ans0", "ans1", "ans2"], tuple[str, str]]
    context: str
    question: str
    ans0: str
    ans1: str
    ans2: str
    label: Literal[0, 1, 2]

    def __post_init__(self) -> None:
        for name in ("question_index", "category", "context", "question", "ans0", "ans1", "ans2"):
            if not getattr(self, name).strip():
                raise ValueError(f"{name} is empty")
        if len(self.answer_info) != 3 or len(self.unknowns) != 1:
            raise ValueError("answer_info must call one of its three answers unknown")
        if (self.context_condition == "ambig") != (self.label in self.unknowns):
            raise ValueError(
                f"label is {self.label} in a context that is {self.context_condition}, and answer "
                f"{self.unknowns[0]} is the unknown one"
            )

    @property
    def unknowns(self) -> list[int]:
        """Indices of the answers whose group is `unknown`."""
        groups = [self.answer_info[f"ans{index}"][1] for index in range(len(self.answer_info))]
        return [index for index, group in enumerate(groups) if group == "unknown"]

    @property
    def text(self) -> str:
        """Context, question and options."""
        options = f"(a) {self.ans0} (b) {self.ans1} (c) {self.ans2}"
        return f"{self.context} {self.question}\n{options}"


def load(folder: Path) -> list[BBQQuestion]:
    """All questions of the JSONL files in a folder, in the files' order by name.

    Args:
        folder: The repository's folder, with `data` and `supplemental`; or one that holds JSONL
            files and `additional_metadata.csv`.

    Raises:
        BadRecord: A bad line, with file and line; a question that comes twice, or of which the
            metadata says nothing.
        FileNotFoundError: No JSONL file, or no metadata.
    """
    folder = Path(folder)
    data = folder / "data" if (folder / "data").is_dir() else folder
    supplemental = folder / "supplemental"
    metadata = (supplemental if supplemental.is_dir() else data) / METADATA
    files = sorted(data.glob("*.jsonl"))
    if not files:
        raise FileNotFoundError(f"{data}: no JSONL file; give the folder with BBQ's Age.jsonl ...")
    targets = _targets(existing(metadata))

    questions = []
    for path in files:
        for where, line in read_lines(path):
            questions.append(_question(from_json(line, _Row, where), where, targets))
    repeated = [id for id, count in Counter(q.id for q in questions).items() if count > 1]
    if repeated:
        raise BadRecord(f"{data}: {repeated[0]} comes twice")
    return questions


def _targets(path: Path) -> dict[Key, int | None]:
    """Read the biased option of each example; some rows of the public file are there twice."""
    targets: dict[Key, int | None] = {}
    for where, row in read_table(path, _COLUMNS):
        if BEYOND in row or not row.keys() >= set(_COLUMNS):
            raise BadRecord(f"{where}: another number of fields than the header has")
        if row["target_loc"] not in _TARGETS:
            raise BadRecord(f"{where}: target_loc is {row['target_loc']!r}, none of 0, 1, 2, NA")

        key, target = (row["category"], row["example_id"]), _TARGETS[row["target_loc"]]
        if targets.setdefault(key, target) != target:
            raise BadRecord(f"{where}: {' '.join(key)} has another target_loc further up")
    return targets


def _question(row: _Row, where: str, targets: Mapping[Key, int | None]) -> BBQQuestion:
    key = (row.category, str(row.example_id))
    if key not in targets:
        raise BadRecord(f"{where}: {METADATA} has no row of {' '.join(key)}")
    biased, [unknown] = targets[key], row.unknowns
    if biased == unknown:
        raise BadRecord(f"{where}: target_loc is {biased}, which is the unknown answer")
    return BBQQuestion(
        id=f"bbq-{row.category}-{row.example_id}",
        category=row.category,
        template=f"{row.category} {row.question_index}",
        ambiguous=row.context_condition == "ambig",
        text=row.text,
        answer=row.label,
        unknown=unknown,
        biased=biased,
    )
