"""Scoring of generations, and the choice of the scorer."""

import dataclasses
import subprocess
import sys

import pytest

from dart_jax.audit.config import AuditConfig
from dart_jax.audit.scorers import (
    RELEASE,
    ProfanityScorer,
    WorstScorer,
    _parse,
    make_scorers,
    score_generations,
    single_scorer,
)
from dart_jax.extras import MissingExtra


class LengthScorer:
    """A real scorer of a silly kind: harm is the number of characters per thousand."""

    name = "length"
    version = "1"

    def __init__(self) -> None:
        self.batches: list[list[str]] = []

    def score(self, texts):
        self.batches.append(texts)
        return [(len(text) / 1000, {"length": len(text) / 1000}) for text in texts]


class BrokenScorer:
    name = "broken"
    version = "1"

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


def test_a_scorer_that_drops_a_text_is_an_error(answer):
    scorer = BrokenScorer(0.5)
    scorer.score = lambda texts: [(0.5, {})]
    with pytest.raises(ValueError, match="broken: 1 scores for 2 texts"):
        score_generations([answer("q1", "M0", "a"), answer("q2", "M0", "b")], scorer, 4)


@pytest.mark.parametrize(
    ("config", "package"),
    [
        (AuditConfig(scorer="detoxify"), "detoxify"),
        (AuditConfig(scorer="detoxify"), "torch"),
        (AuditConfig(scorer="hf", scorer_models=("x",)), "torch"),
    ],
)
def test_a_scorer_without_its_package_names_the_command(monkeypatch, config, package):
    monkeypatch.setitem(sys.modules, package, None)
    wanted = f"audit.scorer {config.scorer} needs {package}, .*`bash launch/setup.sh classifiers`"
    with pytest.raises(MissingExtra, match=wanted):
        make_scorers(config)


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
        make_scorers(config)


def test_the_embedded_scorer_is_the_default():
    [scorer] = make_scorers(AuditConfig())
    assert scorer.name == "profanity"
    assert single_scorer([scorer], "any") is scorer


@pytest.mark.parametrize(
    ("spec", "parts"),
    [
        ("profanity", ("profanity", (), ())),
        ("detoxify", ("detoxify", (), ())),
        ("detoxify:unbiased", ("detoxify", ("unbiased",), ())),
        ("hf:o/a", ("hf", ("o/a",), ())),
        ("hf:o/a+/b/c=hate", ("hf", ("o/a", "/b/c"), ("", "hate"))),
        (
            "hf:o/a=hate|rude:softmax+o/b=:sigmoid",
            ("hf", ("o/a", "o/b"), ("hate|rude:softmax", ":sigmoid")),
        ),
        (RELEASE[0], ("hf", ("s-nlp/roberta_toxicity_classifier",), ("toxic",))),
    ],
)
def test_a_scorer_is_named_in_one_word(spec, parts):
    assert _parse(spec) == parts


@pytest.mark.parametrize("spec", ["detoxfy", "", "hf:", "detoxify:", "profanity:x", "release:x"])
def test_an_unknown_scorer_is_refused(spec):
    with pytest.raises(ValueError, match=r"audit\.scorer"):
        make_scorers(AuditConfig(scorers=("profanity", spec)))


def test_the_preset_asks_for_both_classifiers_of_the_release(monkeypatch):
    asked = []

    def load(models, labels):
        asked.append((models, labels))
        scorer = LengthScorer()
        scorer.name = models[0]
        return scorer

    monkeypatch.setattr("dart_jax.audit.scorers.HFScorer", load)
    scorers = make_scorers(AuditConfig(scorers=("release",)))
    assert [scorer.name for scorer in scorers] == [models[0] for models, _ in asked]
    assert [labels for _, labels in asked] == [("toxic",), ("hate",)]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"scorers": ("profanity", "profanity")}, "twice: profanity, profanity"),
        (
            {"screen_by": "detoxify:original"},
            "screen_by is 'detoxify:original', not any, profanity",
        ),
        ({"screen_by": "profanity@full"}, "not any, profanity$"),
    ],
)
def test_scorers_that_cannot_screen_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        make_scorers(AuditConfig(**settings))
    assert make_scorers(AuditConfig(screen_by="profanity@full", views=("analysis", "full")))


@pytest.mark.parametrize(
    "settings",
    [
        {"scorers": ("profanity",), "scorer_models": ("x",)},
        {"views": ()},
        {"views": ("full", "full")},
        {"batch_size": 0},
    ],
)
def test_settings_that_contradict_are_refused(settings):
    with pytest.raises(ValueError, match=r"^audit\."):
        AuditConfig(**settings)


@pytest.mark.parametrize(
    ("text", "concludes", "scored"),
    [
        ("Conclusion: YES, because those people are vermin.", True, None),
        ("A.\nConclusion: YES\nThose people are vermin.", True, "A.\nThose people are vermin."),
        ("<think>Vermin.</think>\nA.\nConclusion: YES", True, "<think>Vermin.</think>\nA."),
        ("A.\nConclusion: YES", False, None),
    ],
)
def test_all_but_a_valid_conclusion_line_is_scored(text, concludes, scored, answer):
    """And the whole answer where the prompt asks for no conclusion."""
    given = dataclasses.replace(answer("q1", "M0", ""), text=text, concludes=concludes)
    [score] = score_generations([given], LengthScorer(), 4)
    assert round(score.value * 1000) == len(text if scored is None else scored)


def test_each_view_is_scored_for_itself(answer):
    answers = [answer("q1", "M0", "ab"), answer("q1", "M_int", "")]
    scores = score_generations(answers, LengthScorer(), 4, ("analysis", "full"))
    line = len("Conclusion: YES")
    assert [(s.scorer, s.model, round(s.value * 1000)) for s in scores] == [
        ("length", "M0", 2),
        ("length", "M_int", 0),
        ("length@full", "M0", 3 + line),
        ("length@full", "M_int", line),
    ]


def test_alone_a_text_is_as_bad_as_the_worst_scorer_says():
    other = LengthScorer()
    other.name, other.score = "half", lambda texts: [(0.5, {"half": 0.5}) for _ in texts]
    both = single_scorer([LengthScorer(), other], "any")
    assert isinstance(both, WorstScorer)
    assert both.score(["a" * 600, "a"]) == [
        (0.6, {"length/length": 0.6, "half/half": 0.5}),
        (0.5, {"length/length": 0.001, "half/half": 0.5}),
    ]
    assert single_scorer([LengthScorer(), other], "half@full") is other


def test_import_loads_no_heavy_library():
    heavy = "torch", "transformers", "detoxify", "sklearn", "jax"
    code = (
        "import sys, dart_jax.audit.scorers, dart_jax.audit.judge, dart_jax.audit.judge_local; "
        f"print([m for m in {heavy} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
