"""A blinded sample of audited pairs for people, and the key that stays with the run.

Stratified by what the audit made of a pair, since drift is rare: each stratum gives about the same
number, and the key says with which probability a pair of its stratum was drawn.

The report page needs no drawn sample: it offers every pair, see `page_key`.
"""

from __future__ import annotations

import csv
import io
import json
import secrets
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from dart_jax.audit.annotations import COLUMNS, SHOWN
from dart_jax.audit.screen import Pair
from dart_jax.prompts.conclusion import analysis_of
from dart_jax.records import Outcome, Question, Verdict, digest, write_text

NOT_SCREENED = "not_screened"
BLIND, OPEN = "blind-", "open-"
"""How the ids of the page's items begin: judged without or with the audit's verdict in view."""

SAMPLE = "sample-"
"""How the ids of a drawn sample begin: a spreadsheet makes 1E+35 of hexadecimal digits alone."""


@dataclass(frozen=True)
class KeyedItem:
    """What the sample does not tell.

    Attributes:
        item: Opaque id.
        question_id: Which pair it is.
        candidate: Which of the two texts is the audited model's.
        stratum: What the audit made of the pair when the sample was drawn.
        probability: Of a pair of this stratum to be drawn, in (0, 1].
        texts: Digest of both texts: answers belong to these words.
    """

    item: str
    question_id: str
    candidate: Literal["first", "second"]
    stratum: str
    probability: float
    texts: str


def stratum(outcome: Outcome | None) -> str:
    """`drift`, `no_drift`, `not_screened` (no outcome), `uncertain` or `failure`."""
    if outcome is None:
        return NOT_SCREENED
    if isinstance(outcome, Verdict):
        return "drift" if outcome.drift else "no_drift"
    return outcome.kind


def texts_digest(pair: Pair) -> str:
    """What identifies the two texts that people see."""
    return digest([analysis_of(pair.baseline), analysis_of(pair.candidate)])


def draw_sample(
    pairs: Sequence[Pair],
    outcomes: Mapping[str, Outcome],
    size: int,
    seed: int,
) -> list[KeyedItem]:
    """Draw pairs from the strata, without replacement; the side of the candidate is a coin's.

    Args:
        pairs: All pairs of an audit.
        outcomes: By question id, of those that were judged.
        size: Items in all; all pairs where there are no more.
        seed: Of the choice. Ids and sides come from the system's randomness, so that nobody can
            work them out.

    Returns:
        In an order that tells nothing.

    Raises:
        ValueError: a size below 1, or no pairs.
    """
    if size < 1 or not pairs:
        raise ValueError(f"a sample of {size} of {len(pairs)} pairs: both must be above 0")

    members: dict[str, list[Pair]] = defaultdict(list)
    for pair in pairs:
        members[stratum(outcomes.get(pair.question_id))].append(pair)

    sizes = allocate({name: len(found) for name, found in members.items()}, size)
    sample = [
        KeyedItem(
            item=f"{SAMPLE}{secrets.token_hex(6)}",
            question_id=pair.question_id,
            candidate=secrets.choice(("first", "second")),
            stratum=name,
            probability=sizes[name] / len(found),
            texts=texts_digest(pair),
        )
        for name, found in members.items()
        for pair in sorted(found, key=lambda pair: digest([seed, pair.question_id]))[: sizes[name]]
    ]

    return sorted(sample, key=lambda keyed: keyed.item)


def page_key(
    pairs: Sequence[Pair], outcomes: Mapping[str, Outcome], kind: Literal["blind-", "open-"]
) -> list[KeyedItem]:
    """All pairs as items of the report page, in the order in which it offers the blinded ones.

    The order goes round the strata, each in an order that depends on nothing but a hash, so that
    whoever begins at the front and stops anywhere has a simple random sample of each stratum. The
    probability is 1: every pair is there, and `agreement.measure` weights by what was answered.
    Ids and sides follow from the texts; an import works them out again. Where another judge made
    other strata since, answers count as samples of these, though the order followed the old ones.

    Args:
        pairs: All pairs of an audit.
        outcomes: By question id, of those that were judged.
        kind: `blind-`: a hash decides the sides. `open-`: M0's text is the first.

    Example:
        Strata a1 a2 a3 and b1 (in their hashed orders) give a1 b1 a2 a3.
    """
    hashed = sorted(((digest([p.question_id, texts_digest(p)]), p) for p in pairs), key=_first)

    before: dict[str, int] = defaultdict(int)
    rounds = []
    for mark, pair in hashed:
        name = stratum(outcomes.get(pair.question_id))
        second = kind == OPEN or int(mark[-1], 16) % 2
        keyed = KeyedItem(
            item=f"{kind}{mark[:16]}",
            question_id=pair.question_id,
            candidate="second" if second else "first",
            stratum=name,
            probability=1.0,
            texts=texts_digest(pair),
        )
        rounds.append((before[name], keyed))
        before[name] += 1

    return [keyed for _, keyed in sorted(rounds, key=_first)]


def _first(row: tuple) -> Any:
    return row[0]


def allocate(available: Mapping[str, int], size: int) -> dict[str, int]:
    """Share `size` over strata evenly; what a small one cannot give, the others do.

    Example:
        `allocate({"a": 2, "b": 9, "c": 50}, 20)` is `{"a": 2, "b": 9, "c": 9}`.
    """
    left, sizes = size, {}
    for place, name in enumerate(sorted(available, key=lambda name: (available[name], name))):
        share = -(-left // (len(available) - place))  # rounded up: no stratum goes without
        sizes[name] = min(available[name], share)
        left -= sizes[name]
    return sizes


def write_sample(
    folder: Path,
    sample: Sequence[KeyedItem],
    pairs: Mapping[str, Pair],
    questions: Mapping[str, Question],
) -> tuple[Path, Path]:
    """Write `sample.jsonl` and `sample.csv`; people see the texts without their conclusion.

    Args:
        folder: Where nobody's earlier sample is.
        pairs, questions: By question id.

    Raises:
        FileExistsError: the folder has a sample.
    """
    paths = folder / "sample.jsonl", folder / "sample.csv"
    for path in paths:
        if path.exists():
            raise FileExistsError(f"{path} exists; give another --out, or move it")

    rows = [_shown(keyed, pairs[keyed.question_id], questions) for keyed in sample]
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    write_text(paths[0], lines)
    table = io.StringIO()
    writer = csv.DictWriter(table, COLUMNS, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: _cell(text) for key, text in row.items()} for row in rows)
    write_text(paths[1], table.getvalue())

    return paths


def _shown(keyed: KeyedItem, pair: Pair, questions: Mapping[str, Question]) -> dict[str, str]:
    sides = [analysis_of(pair.baseline), analysis_of(pair.candidate)]
    first, second = sides if keyed.candidate == "second" else reversed(sides)
    texts = (questions[keyed.question_id].text, first, second)
    return {"item": keyed.item, **dict(zip(SHOWN, texts, strict=True))}


def _cell(text: str) -> str:
    """A spreadsheet would run a text that begins like a formula; JSONL has it as it is."""
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text
