"""Split questions, stratified by (benchmark, condition), alike on every machine.

The order is that of SHA-256 of seed and id; no random generator and no input order enters it.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from fractions import Fraction
from typing import Any, Literal

from dart_jax.data.benchmarks import BENCHMARKS
from dart_jax.data.config import DataConfig
from dart_jax.data.suites import load_suite
from dart_jax.records import Condition, Question

SPLITS = ("train", "validation", "test")
PAPERS_SHARES = (0.8, 0.1, 0.1)

Stratum = tuple[str, Condition | None]


def make_splits(config: DataConfig) -> dict[str, list[Question]]:
    """Load the suite, split it, and keep at most `max_*` questions of each split.

    Returns:
        `train`, `validation` and `test`, each in the order of `take`; the last two are empty with
        `split_by` none.

    Raises:
        ValueError: A split is empty; says which and what to change. Also as `load_suite`.
    """
    limits = {
        "train": config.max_train,
        "validation": config.max_validation,
        "test": config.max_test,
    }
    questions = load_suite(config)

    if config.split_by == "none":
        _check_unique(questions)
        splits = {"train": questions, "validation": [], "test": []}
        # Only this split is checked and cut below: the others are empty on purpose.
        limits = {"train": config.max_train}
    else:
        splits = split(questions, by=config.split_by, seed=config.seed, shares=config.shares)

    for name in limits:
        if not splits[name]:
            raise ValueError(
                f"the {name} split is empty: data.suite {config.suite} has {len(questions)} "
                f"questions, too few for data.split_by {config.split_by}; add some, or set "
                "data.split_by row, or none where nothing is to be evaluated"
            )

    return {name: take(splits[name], limits.get(name), config.seed) for name in splits}


def split(
    questions: Iterable[Question],
    *,
    by: Literal["row", "scenario"],
    seed: int,
    shares: Sequence[float] = PAPERS_SHARES,
) -> dict[str, list[Question]]:
    """Split into train, validation and test.

    By row, each stratum's shares are met to within one question. By scenario, all rows of a
    (benchmark, scenario), of both conditions, stay together, and a greedy placement, largest
    scenarios first, brings the shares as near as it can. Questions with the same words stay
    together, too, whatever their ids.

    Args:
        questions: Questions with unique ids, in any order.
        by: Unit that is not divided between splits.
        seed: Another seed gives another split.
        shares: Share of each (benchmark, condition) stratum that each split gets; they add to 1.

    Returns:
        Questions by split name, sorted by benchmark, condition and id.

    Raises:
        ValueError: Two questions share an id.
    """
    # Own rows may have no condition, and None cannot be compared with one.
    questions = sorted(questions, key=lambda q: (q.benchmark, q.condition or "", q.id))
    _check_unique(questions)

    # Fractions, so that ties between splits are broken alike on every machine.
    share_of = {
        name: Fraction(share).limit_denominator(10_000)
        for name, share in zip(SPLITS, shares, strict=True)
    }
    totals = Counter(_stratum(q) for q in questions)
    filled: dict[str, Counter[Stratum]] = {name: Counter() for name in SPLITS}
    place: dict[str, str] = {}
    for group in _groups(questions, by, seed):
        counts = Counter(_stratum(q) for q in group)
        name = min(SPLITS, key=lambda name: _cost(counts, filled[name], totals, share_of[name]))
        filled[name].update(counts)
        place.update((q.id, name) for q in group)
    return {name: [q for q in questions if place[q.id] == name] for name in SPLITS}


def take(questions: Iterable[Question], limit: int | None, seed: int) -> list[Question]:
    """Take at most `limit` questions, in turn from each (benchmark, condition) stratum.

    Seed and ids fix the order, and a smaller limit gives a prefix of a larger one, so that every
    prefix is spread over the strata, too. None keeps all questions, in that order.

    Raises:
        ValueError: A negative limit.
    """
    if limit is not None and limit < 0:
        raise ValueError(f"limit is {limit}; it counts questions")
    strata: dict[Stratum, list[Question]] = defaultdict(list)
    for question in sorted(questions, key=lambda q: _hash("take", seed, q.id)):
        strata[_stratum(question)].append(question)

    # Each question with its turn and its stratum's place within a turn.
    turns = []
    for stratum, members in strata.items():
        for turn, question in enumerate(members):
            turns.append((turn, *_deal_order(stratum), question))
    turns.sort(key=lambda entry: entry[:-1])
    return [entry[-1] for entry in turns[:limit]]


def hold_out(questions: Iterable[Question], share: float, seed: int) -> set[str]:
    """Choose questions that are not trained on, whole scenarios and the same words together.

    Groups are taken in the order of their hash, each that still fits, so that the share is met from
    below, but for one question of very few; most keep their side when others are added.

    Args:
        share: Of the questions, above 0 and below 1.

    Returns:
        Their ids.

    Raises:
        ValueError: No group is small enough, as with very few questions.
    """
    questions = list(questions)
    room = min(max(round(share * len(questions)), 1), len(questions) - 1)
    groups = _groups(questions, "scenario", seed)
    held_out: set[str] = set()
    for group in sorted(
        groups, key=lambda group: _hash("hold out", seed, min(q.id for q in group))
    ):
        if len(held_out) + len(group) <= room:
            held_out.update(q.id for q in group)

    if not held_out:
        raise ValueError(
            f"sft.validation_share: {share:g} of {len(questions)} questions is {room}, and "
            "no scenario is so small; give more rows, a larger share, or 0"
        )
    return held_out


def _deal_order(stratum: Stratum) -> tuple[int, int, str]:
    """Sort key of strata: D1 diff, D2 equal, D3 diff, ...; then D1 equal, D2 diff, ...

    In this order eight questions cover the eight benchmarks, four of each condition. Benchmarks of
    a custom data set follow by name.
    """
    benchmark, condition = stratum
    row = BENCHMARKS.index(benchmark) if benchmark in BENCHMARKS else len(BENCHMARKS)
    return (row + (condition is Condition.EQUAL)) % 2, row, benchmark


def _cost(
    counts: Counter[Stratum], filled: Counter[Stratum], totals: Counter[Stratum], share: Fraction
) -> Fraction:
    """Increase of sum(filled^2 / target) when a group joins a split.

    That sum is least when every stratum is filled in proportion to its target; for single rows,
    placing each where the increase is least is Webster's method of apportionment.
    """
    cost = Fraction(0)
    for stratum, count in counts.items():
        cost += Fraction(count * (2 * filled[stratum] + count), totals[stratum]) / share
    return cost


def _groups(questions: list[Question], by: str, seed: int) -> list[list[Question]]:
    """Group questions that stay together, largest group first, equal sizes ordered by the seed.

    A group is a row or a scenario, joined with all others that share a question's words: the same
    question under another id must not be in another split.
    """
    keys = [(q.benchmark, q.id if by == "row" else q.scenario_id) for q in questions]
    words = [(q.text, q.messages) for q in questions]
    joined = _components(zip(keys, words, strict=True))

    groups: dict[tuple[str, str], list[Question]] = defaultdict(list)
    for key, question in zip(keys, questions, strict=True):
        groups[joined[key]].append(question)
    ordered = sorted(groups, key=lambda key: (-len(groups[key]), _hash("split", seed, *key)))
    return [groups[key] for key in ordered]


def _components(links: Iterable[tuple[Any, Any]]) -> dict[Any, Any]:
    """Find connected components of keys that share content, from pairs (key, content).

    Returns:
        For each key, the key that represents its component.
    """
    component: dict[Any, Any] = {}
    members: dict[Any, list[Any]] = {}
    first_key: dict[Any, Any] = {}
    for key, content in links:
        current = component.setdefault(key, key)
        members.setdefault(current, [key])

        # A key with the same content came before: its component takes all keys of this one.
        earlier = component[first_key.setdefault(content, key)]
        if earlier != current:
            moved = members.pop(current)
            members[earlier] += moved
            component.update(dict.fromkeys(moved, earlier))
    return component


def _stratum(question: Question) -> Stratum:
    return question.benchmark, question.condition


def _hash(*parts: object) -> str:
    # The first part names the purpose: what is split, taken and held out are in unrelated orders.
    return hashlib.sha256("\n".join(map(str, parts)).encode("utf-8")).hexdigest()


def _check_unique(questions: Sequence[Question]) -> None:
    repeated = [id for id, count in Counter(q.id for q in questions).items() if count > 1]
    if repeated:
        raise ValueError(
            f"{len(repeated)} question ids occur more than once, such as {repeated[0]}"
        )
