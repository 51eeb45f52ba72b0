"""Stored scores: once a text for each version of a scorer, and only what is a probability."""

import hashlib
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest

from dart_jax.audit.score_store import ScoreStore, StoredScorer, copy_scores
from dart_jax.chat.database import BadStore


class Counting:
    """Harm is the share of the letter a; counts what it is asked."""

    name = "counting"

    def __init__(self, version="1"):
        self.version = version
        self.asked: list[str] = []

    def score(self, texts):
        self.asked += texts
        return [(text.count("a") / len(text), {"a": text.count("a") / len(text)}) for text in texts]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "deep" / "scores.sqlite"


def test_a_text_is_scored_once_even_by_the_next_process(path):
    first = Counting()
    scored = StoredScorer(first, ScoreStore(path)).score(["ab", "b", "ab"])
    assert scored == [(0.5, {"a": 0.5}), (0.0, {"a": 0.0}), (0.5, {"a": 0.5})]
    assert first.asked == ["ab", "b"]
    second = Counting()
    assert StoredScorer(second, ScoreStore(path)).score(["b", "aa", "ab"]) == [
        (0.0, {"a": 0.0}),
        (1.0, {"a": 1.0}),
        (0.5, {"a": 0.5}),
    ]
    assert second.asked == ["aa"]


def test_another_version_or_scorer_scores_again(path):
    store = ScoreStore(path)
    StoredScorer(Counting("1"), store).score(["ab"])
    for other in (Counting("2"), Counting("1")):
        other.name = "other" if other.version == "1" else other.name
        StoredScorer(other, store).score(["ab"])
        assert other.asked == ["ab"]


def test_the_first_score_stays_where_two_processes_scored(path):
    store, other = ScoreStore(path), ScoreStore(path)
    store.put("s", "1", {"x": (0.25, {})})
    other.put("s", "1", {"x": (0.75, {})})
    assert store.get("s", "1", ["x"]) == other.get("s", "1", ["x"]) == {"x": (0.25, {})}


def test_what_is_no_probability_is_not_stored(path):
    broken = Counting()
    broken.score = lambda texts: [(0.5, {"a": 0.5}), (float("nan"), {})]
    store = ScoreStore(path)
    with pytest.raises(ValueError, match=r"counting.*not a probability"):
        StoredScorer(broken, store).score(["x", "y"])
    assert store.get("counting", "1", ["x", "y"]) == {}


def test_many_texts_and_odd_characters(path):
    texts = [f"a{number}" for number in range(1201)] + ["\ud800a", "a\x00", "ä"]
    scorer = Counting()
    stored = StoredScorer(scorer, ScoreStore(path))
    assert stored.score(texts) == stored.score(texts) == Counting().score(texts)
    assert len(scorer.asked) == len(texts)


def test_texts_are_not_kept(path):
    ScoreStore(path).put("s", "1", {"a secret text": (0.5, {})})
    [row] = sqlite3.connect(path).execute("SELECT * FROM scores").fetchall()
    assert "secret" not in str(row)


def test_threads_share_a_store(path):
    stored = StoredScorer(Counting(), ScoreStore(path))
    texts = [[f"a{number % 7}", f"b{number}"] for number in range(40)]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(stored.score, texts)) == [Counting().score(batch) for batch in texts]


def test_copied_scores_are_not_made_again(path, tmp_path):
    other = tmp_path / "other.sqlite"
    copy_scores(path, other)
    assert not other.exists()
    store = ScoreStore(path)
    StoredScorer(Counting(), store).score(["ab", "b"])
    ScoreStore(other).put("counting", "1", {"b": (0.25, {})})
    copy_scores(path, other)
    second = Counting()
    assert StoredScorer(second, ScoreStore(other)).score(["ab", "b", "a"]) == [
        (0.5, {"a": 0.5}),
        (0.25, {}),
        (1.0, {"a": 1.0}),
    ]
    assert second.asked == ["a"]


@pytest.mark.parametrize(
    ("value", "labels"),
    [
        (0.5, "{"),
        (0.5, "[1]"),
        (0.5, '{"a": "x"}'),
        (0.5, '{"a": NaN}'),
        (0.5, b"\xff\xfe"),
        (7.0, "{}"),
        ("text", "{}"),
    ],
)
def test_a_row_that_cannot_be_read_is_scored_again(path, value, labels):
    with closing(ScoreStore(path)) as store:
        StoredScorer(Counting(), store).score(["ab", "b"])
    key = hashlib.sha256(b"ab").hexdigest()
    with closing(sqlite3.connect(path)) as db, db:
        query = "UPDATE scores SET value = ?, labels = CAST(? AS TEXT) WHERE text_sha256 = ?"
        assert db.execute(query, (value, labels, key)).rowcount == 1
    for asked in (["ab"], []):
        scorer = Counting()
        with closing(ScoreStore(path)) as store:
            assert StoredScorer(scorer, store).score(["ab", "b"]) == Counting().score(["ab", "b"])
        assert scorer.asked == asked


def test_a_damaged_file_is_refused_by_name(path):
    with closing(ScoreStore(path)) as store:
        StoredScorer(Counting(), store).score([f"a{number}" for number in range(300)])
    path.write_bytes(path.read_bytes()[:-5000])
    with pytest.raises(BadStore, match=r"scores\.sqlite is no score store, or a damaged one"):
        ScoreStore(path)
    path.write_text("no database")
    with pytest.raises(BadStore, match=r"scores\.sqlite is no score store"):
        copy_scores(path, path.with_name("new.sqlite"))


class OfQuestion:
    """Harm is the share of the letter a in question and answer; counts what it is asked."""

    name, version, reads_question = "of_question", "1", True

    def __init__(self):
        self.asked = []

    def score(self, texts, questions):
        both = [question + text for question, text in zip(questions, texts, strict=True)]
        self.asked += both
        return [(text.count("a") / len(text), {}) for text in both]


def test_an_answer_is_scored_once_for_each_question(path):
    scorer = OfQuestion()
    stored = StoredScorer(scorer, ScoreStore(path))
    assert stored.reads_question
    texts, questions = ["b", "b", "b"], ["a", "ab", "a"]
    assert [value for value, _ in stored.score(texts, questions)] == [0.5, 1 / 3, 0.5]
    assert scorer.asked == ["ab", "abb"]

    later = OfQuestion()
    assert StoredScorer(later, ScoreStore(path)).score(["b", "bb"], ["ab", "a"])[0][0] == 1 / 3
    assert later.asked == ["abb"], "as another answer it is other words of the same letters"
    with pytest.raises(ValueError):
        stored.score(["b"])
