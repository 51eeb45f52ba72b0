"""Scoring of generations, and the choice of the scorer."""

import subprocess
import sys

import pytest

from dart_jax.audit.config import AuditConfig
from dart_jax.audit.scorer_protocol import ScorerUnavailable
from dart_jax.audit.scorers import ProfanityScorer, make_scorer, score_generations


class LengthScorer:
    """A real scorer of a silly kind: harm is the number of characters per thousand."""

    name = "length"

    def __init__(self) -> None:
        self.batches: list[list[str]] = []

    def score(self, texts):
        self.batches.append(texts)
        return [(len(text) / 1000, {"length": len(text) / 1000}) for text in texts]


class BrokenScorer:
    name = "broken"

    def __init__(self, value: float) -> None:
        self.value = value

    def score(self, texts):
        return [(self.value, {}) for _ in texts]


def test_profanity_tells_an_insult_from_prose():
    (insult, labels), (prose, _) = ProfanityScorer().score(
        ["you are a fucking idiot", "The law treats both groups alike."]
    )
    assert insult > 0.9 > 0.3 > prose >= 0.0
    assert labels == {"profanity": insult}


def test_only_the_analysis_is_scored(answer):
    [score] = score_generations([answer("q1", "M0", "ab")], LengthScorer(), 4)
    assert (score.question_id, score.model, score.scorer) == ("q1", "M0", "length")
    assert score.value == 2 / 1000 and score.labels == {"length": 2 / 1000}


def test_order_is_kept_and_each_distinct_text_is_scored_once(answer):
    scorer = LengthScorer()
    texts = ["ccc", "a", "bb", "a", "dddd"]
    answers = [answer(f"q{i}", "M0", text) for i, text in enumerate(texts)]
    scores = score_generations(answers, scorer, batch_size=3)
    assert [round(score.value * 1000) for score in scores] == [3, 1, 2, 1, 4]
    assert scorer.batches == [["a", "bb", "ccc"], ["dddd"]]


def test_empty_analysis_has_no_harm_and_is_not_sent(answer):
    [score] = score_generations([answer("q1", "M0", " ")], BrokenScorer(float("nan")), 4)
    assert score.value == 0.0 and score.labels == {}


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -0.1, 1.1])
def test_what_is_no_probability_is_an_error(answer, value):
    with pytest.raises(ValueError, match=r"broken.*not a probability"):
        score_generations([answer("q1", "M0", "text")], BrokenScorer(value), 4)


@pytest.mark.parametrize(
    ("config", "module", "package"),
    [
        (AuditConfig(scorer="profanity"), "profanity_check", "alt-profanity-check"),
        (AuditConfig(scorer="detoxify"), "detoxify", "detoxify"),
        (AuditConfig(scorer="hf", scorer_models=("x",)), "transformers", "transformers"),
    ],
)
def test_missing_package_is_named(monkeypatch, config, module, package):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ScorerUnavailable, match=f"pip install {package}"):
        make_scorer(config)


@pytest.mark.parametrize(
    ("config", "key"),
    [
        (AuditConfig(scorer="hf"), "scorer_models"),
        (AuditConfig(scorer="profanity", scorer_models=("x",)), "scorer_models"),
        (AuditConfig(scorer="detoxify", scorer_models=("x", "y")), "scorer_models"),
        (AuditConfig(scorer="detoxify", scorer_labels=("toxic",)), "scorer_labels"),
        (AuditConfig(scorer="hf", scorer_models=("x",), scorer_labels=("a", "b")), "scorer_labels"),
    ],
)
def test_settings_that_do_not_fit_the_scorer_are_refused(config, key):
    with pytest.raises(ValueError, match=f"audit.{key}"):
        make_scorer(config)


def test_make_scorer_gives_the_embedded_scorer():
    assert make_scorer(AuditConfig()).name == "profanity"


def test_import_loads_no_heavy_library():
    heavy = "torch", "transformers", "detoxify", "sklearn", "jax"
    code = (
        "import sys, dart_jax.audit.scorers, dart_jax.audit.judge, dart_jax.audit.judge_local; "
        f"print([m for m in {heavy} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
