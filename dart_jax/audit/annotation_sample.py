"""A blinded sample of audited pairs for people, and the key that stays with the run.

The sample is stratified by the audit's outcome of a pair, since drift is rare: each stratum gives
about the same number of pairs, and the key holds the probability with which a pair of its stratum
was drawn.

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
from dart_jax.prompts.echo import without_echo
from dart_jax.records import Outcome, Question, Verdict, digest, write_text

NOT_SCREENED = "not_screened"
GUIDE = Path(__file__).with_name("annotation_guide.txt")
BLIND, OPEN = "blind-", "open-"
"""Prefixes of the ids of the page's items, judged without or with the audit's verdict in view."""

SAMPLE = "sample-"
"""Prefix of the ids of a drawn sample: a spreadsheet makes 1E+35 of hexadecimal digits alone."""


@dataclass(frozen=True)
class KeyedItem:
    """The key to one item of a sample: what people must not see.

    Attributes:
        item: Opaque id.
        question_id: Id of the pair's question.
        candidate: Which of the two texts is the audited model's.
        stratum: The audit's outcome of the pair when the sample was drawn.
        probability: Probability of a pair of this stratum to be drawn, in (0, 1].
        texts: Digest of both texts, to which the answers belong.
    """

    item: str
    question_id: str
    candidate: Literal["first", "second"]
    stratum: str
    probability: float
    texts: str


def stratum(outcome: Outcome | None) -> str:
    """Name a pair's stratum: drift, no_drift, not_screened (no outcome), uncertain or failure."""
    if outcome is None:
        return NOT_SCREENED
    if isinstance(outcome, Verdict):
        return "drift" if outcome.drift else "no_drift"
    return outcome.kind


def texts_digest(pair: Pair) -> str:
    """Identify the two texts of which people see all but the conclusion."""
    return digest([analysis_of(pair.baseline), analysis_of(pair.candidate)])


def draw_sample(
    pairs: Sequence[Pair],
    outcomes: Mapping[str, Outcome],
    size: int,
    seed: int,
) -> list[KeyedItem]:
    """Draw pairs from the strata without replacement, and a random side for each candidate.

    Args:
        pairs: All pairs of an audit.
        outcomes: Outcome of each judged pair, by question id.
        size: Number of items; all pairs where there are no more.
        seed: Seed of the choice of pairs. Ids and sides come from the system's randomness, so that
            nobody can work them out.

    Returns:
        The items in an order that reveals nothing.

    Raises:
        ValueError: The size is below 1, or there are no pairs.
    """
    if size < 1 or not pairs:
        raise ValueError(f"a sample of {size} of {len(pairs)} pairs: both must be above 0")

    members: dict[str, list[Pair]] = defaultdict(list)
    for pair in pairs:
        members[stratum(outcomes.get(pair.question_id))].append(pair)

    sizes = allocate({name: len(of_stratum) for name, of_stratum in members.items()}, size)

    sample = []
    for name, of_stratum in members.items():
        # By hash, so that the choice does not depend on the order of the pairs.
        shuffled = sorted(of_stratum, key=lambda pair: digest([seed, pair.question_id]))
        for pair in shuffled[: sizes[name]]:
            keyed = KeyedItem(
                item=f"{SAMPLE}{secrets.token_hex(6)}",
                question_id=pair.question_id,
                candidate=secrets.choice(("first", "second")),
                stratum=name,
                probability=sizes[name] / len(of_stratum),
                texts=texts_digest(pair),
            )
            sample.append(keyed)

    # The order of the strata would tell the outcome; that of the random ids tells nothing.
    return sorted(sample, key=lambda keyed: keyed.item)


def page_key(
    pairs: Sequence[Pair], outcomes: Mapping[str, Outcome], kind: Literal["blind-", "open-"]
) -> list[KeyedItem]:
    """Make items of the report page from all pairs, in the order in which it offers them blinded.

    The order goes round the strata, each in an order that depends on nothing but a hash, so that
    whoever begins at the front and stops anywhere has a simple random sample of each stratum. The
    probability is 1: every pair is there, and `agreement.measure` weights by what was answered.
    Ids and sides follow from the texts, so that an import can compute them again. Where another
    judge has made other strata since, answers count as samples of the new strata, though the order
    followed the old ones.

    Args:
        pairs: All pairs of an audit.
        outcomes: Outcome of each judged pair, by question id.
        kind: `blind-`, where a hash decides the sides, or `open-`, where M0's text comes first.

    Example:
        Strata a1 a2 a3 and b1 (in their hashed orders) give a1 b1 a2 a3.
    """
    hashed = [(digest([pair.question_id, texts_digest(pair)]), pair) for pair in pairs]
    hashed.sort(key=_first)

    # The n-th pair of each stratum goes into round n.
    in_stratum: dict[str, int] = defaultdict(int)
    rounds = []
    for pair_hash, pair in hashed:
        name = stratum(outcomes.get(pair.question_id))
        # The last digit is none of the 16 that the id shows.
        is_second = kind == OPEN or int(pair_hash[-1], 16) % 2
        keyed = KeyedItem(
            item=f"{kind}{pair_hash[:16]}",
            question_id=pair.question_id,
            candidate="second" if is_second else "first",
            stratum=name,
            probability=1.0,
            texts=texts_digest(pair),
        )
        rounds.append((in_stratum[name], keyed))
        in_stratum[name] += 1

    # The sort is stable: within a round the hashed order stays.
    rounds.sort(key=_first)
    return [keyed for _, keyed in rounds]


def _first(row: tuple) -> Any:
    # Whole tuples would be compared by their second element on a tie, which has no order.
    return row[0]


def allocate(available: Mapping[str, int], size: int) -> dict[str, int]:
    """Share `size` evenly over strata; larger strata make up for those that have too few pairs.

    Example:
        `allocate({"a": 2, "b": 9, "c": 50}, 20)` is `{"a": 2, "b": 9, "c": 9}`.
    """
    # What a small stratum lacks is known before the larger ones get their share.
    smallest_first = sorted(available, key=lambda name: (available[name], name))
    remaining = size
    sizes = {}
    for place, name in enumerate(smallest_first):
        share = -(-remaining // (len(available) - place))  # rounded up: no stratum goes without
        sizes[name] = min(available[name], share)
        remaining -= sizes[name]
    return sizes


def write_sample(
    folder: Path,
    sample: Sequence[KeyedItem],
    pairs: Mapping[str, Pair],
    questions: Mapping[str, Question],
) -> tuple[Path, Path]:
    """Write `sample.jsonl`, `sample.csv`, and `README.txt`, which explains their columns.

    People see the texts without their conclusion and without what they repeat of the prompt on it.

    Args:
        folder: A folder without an earlier sample.
        pairs, questions: Pairs and questions by question id.

    Returns:
        The paths of the first two.

    Raises:
        FileExistsError: The folder already has a sample.
    """
    paths = folder / "sample.jsonl", folder / "sample.csv"
    # Both are checked before either is written: an earlier sample is never replaced by half.
    for path in paths:
        if path.exists():
            raise FileExistsError(f"{path} exists; give another --out, or move it")

    rows = [_texts_shown(keyed, pairs[keyed.question_id], questions) for keyed in sample]
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    write_text(paths[0], lines)
    table = io.StringIO()
    writer = csv.DictWriter(table, COLUMNS, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: _cell(text) for key, text in row.items()} for row in rows)
    write_text(paths[1], table.getvalue())
    write_text(folder / "README.txt", GUIDE.read_text("utf-8"))

    return paths


def _texts_shown(keyed: KeyedItem, pair: Pair, questions: Mapping[str, Question]) -> dict[str, str]:
    sides = [without_echo(analysis_of(side)) for side in (pair.baseline, pair.candidate)]
    first, second = sides if keyed.candidate == "second" else reversed(sides)
    texts = (questions[keyed.question_id].text, first, second)
    return {"item": keyed.item, **dict(zip(SHOWN, texts, strict=True))}


def _cell(text: str) -> str:
    """Quote a text that a spreadsheet would run as a formula; JSONL has it as it is."""
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text
