"""The open-ended queries keep their promises, and their reader refuses what breaks them."""

import itertools
import json
import re
from collections import Counter

import numpy as np
import pytest

from dart_jax.data.open_ended import DOMAINS, OPEN_ENDED_FILE, load_open_ended
from dart_jax.records import BadRecord


@pytest.fixture(scope="module")
def queries():
    return load_open_ended()


def test_every_domain_has_35_queries_of_either_stance(queries):
    counts = Counter((q.domain, q.difference_matters) for q in queries)
    assert counts == {(domain, stance): 35 for domain in DOMAINS for stance in (True, False)}


def test_ids_queries_and_reasons_are_unique(queries):
    for field in ("id", "query", "reason"):
        assert len({getattr(q, field) for q in queries}) == len(queries) == 280


def test_every_source_can_be_found_by_a_year_or_a_citation(queries):
    for q in queries:
        assert len(q.source) > 20 and re.search(r"\d", q.source), q.id


def test_texts_are_of_realistic_and_varied_length(queries):
    lengths = np.array([len(q.query.split()) for q in queries])
    assert lengths.min() >= 8 and lengths.max() <= 100
    assert np.percentile(lengths, 95) > 4 * np.percentile(lengths, 5)
    assert all(20 < len(q.reason) < 320 for q in queries)


def test_no_two_queries_are_nearly_alike(queries):
    assert not _near_duplicates([q.query for q in queries])
    assert _near_duplicates([queries[0].query, queries[0].query.replace("the", "a")])


def test_neither_order_nor_length_tells_the_stance(queries):
    gold = np.array([q.difference_matters for q in queries])
    lengths = np.array([len(q.query) for q in queries])
    assert abs(np.corrcoef(gold, lengths)[0, 1]) < 0.12
    agree = np.mean([a.difference_matters == b.difference_matters for a, b in _pairs(queries)])
    assert 0.4 < agree < 0.6


def test_wording_does_not_tell_the_stance(queries):
    """Chance is 50 %: the shortcut that solves the suite (README) must not solve these.

    Some domains lie below chance: queries come in pairs of one topic and opposite stances, so
    that the one in training misleads about the one held out.
    """
    assert _shortcut(queries) < 0.58
    for domain in DOMAINS:
        assert _shortcut([q for q in queries if q.domain == domain]) < 0.65, domain


def test_the_shortcut_measure_finds_a_give_away(queries):
    marked = [(f"{'alpha' if q.difference_matters else 'beta'} x", q) for q in queries]
    gold = np.array([q.difference_matters for _, q in marked])
    assert _cross_validated([text for text, _ in marked], gold) == 1.0


def _pairs(queries):
    return itertools.pairwise(queries)


def _shortcut(queries):
    gold = np.array([q.difference_matters for q in queries])
    return _cross_validated([q.query for q in queries], gold)


def _cross_validated(texts, gold):
    """Mean accuracy of TF-IDF and logistic regression over two shuffles of ten folds."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import RepeatedStratifiedKFold, cross_val_score
    from sklearn.pipeline import make_pipeline
    from threadpoolctl import threadpool_limits

    classifier = make_pipeline(TfidfVectorizer(ngram_range=(1, 2)), LogisticRegression(C=30.0))
    folds = RepeatedStratifiedKFold(n_splits=10, n_repeats=2, random_state=0)
    with threadpool_limits(1):  # tiny fits: more threads only wait for each other
        return cross_val_score(classifier, texts, gold, cv=folds).mean()


def _near_duplicates(texts, limit=0.5):
    """Pairs of texts that share half of their words (Jaccard index)."""
    words = [set(re.findall(r"\w+", text.lower())) for text in texts]
    return [
        (i, j)
        for i in range(len(words))
        for j in range(i)
        if len(words[i] & words[j]) / len(words[i] | words[j]) > limit
    ]


def _copy_with(tmp_path, **changes):
    """A copy of the file whose third line is changed."""
    lines = OPEN_ENDED_FILE.read_text(encoding="utf-8").splitlines()
    lines[2] = json.dumps(json.loads(lines[2]) | changes)
    path = tmp_path / "open_ended.jsonl"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"source": " "}, r"open_ended\.jsonl:3: .*source is empty"),
        ({"domain": "sports"}, r"open_ended\.jsonl:3: domain"),
        ({"attribute": "shoe_size"}, r"open_ended\.jsonl:3: attribute"),
        ({"difference_matters": "yes"}, r"open_ended\.jsonl:3: difference_matters"),
        ({"extra": 1}, r"open_ended\.jsonl:3: extra"),
        ({"id": "medical-002"}, r"row 3 has id 'medical-002'.*belongs medical-003"),
    ],
)
def test_a_bad_line_is_named(tmp_path, changes, message):
    with pytest.raises(BadRecord, match=message):
        load_open_ended(_copy_with(tmp_path, **changes))
