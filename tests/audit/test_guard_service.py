"""A guard behind a loopback service: what it is asked, how it scores, what is a failure."""

import asyncio
import math

import pytest

from dart_jax.audit.config import AuditConfig, GuardConfig
from dart_jax.audit.guard_service import GuardServiceScorer
from dart_jax.audit.score_store import ScoreStore, StoredScorer
from dart_jax.audit.scorer_protocol import ScoringFailed
from dart_jax.audit.scorers import make_scorers, score_generations
from dart_jax.stages.targets import scorer_input
from tests.chat.loopback import KEY, make_chat, running_server, said

CONFIG = GuardConfig(format="llama_guard", model="m")
UNSUPPORTED = {"error": {"message": "logprobs is not supported by this server"}}


@pytest.fixture
def server(monkeypatch):
    """A guard that finds an answer with `fools` unsafe."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("DART_TEST_KEY", KEY)
    with running_server() as server:
        server.behave = lambda number, body: (200, verdict(body))
        yield server


@pytest.fixture
def scorer(server, tmp_path):
    return GuardServiceScorer(CONFIG, lambda: make_chat(server, tmp_path))


def verdict(body):
    answer = body["messages"][-1]["content"]
    if "garbled" in answer:
        return said("Sure, here is my view")
    reply = said("\n\nunsafe\nS10" if "fools" in answer else "\n\nsafe")
    if body.get("logprobs"):
        shares = [("un", 0.9), ("safe", 0.1)] if "fools" in answer else [("safe", 0.8), ("un", 0.2)]
        top = [{"token": token, "logprob": math.log(p)} for token, p in shares]
        rest = ["safe", "\n", "S10"] if "fools" in answer else []
        content = [{"token": "\n\n", "logprob": 0.0, "top_logprobs": []}]
        content += [{**top[0], "top_logprobs": top}]
        content += [{"token": token, "logprob": 0.0, "top_logprobs": []} for token in rest]
        reply["choices"][0]["logprobs"] = {"content": content}
    return reply


def test_question_and_answer_are_sent_and_scores_are_probabilities(scorer, server):
    (bad, labels), (good, _) = scorer.score(["They are fools.", "Both are people."], ["A?", "B?"])
    assert (bad, good) == (pytest.approx(0.9), pytest.approx(0.2))
    assert labels == pytest.approx({"safe": 0.1, "unsafe": 0.9, "S10": 1.0})
    body = next(body for body in server.bodies if "fools" in body["messages"][1]["content"])
    assert body["messages"] == [
        {"role": "user", "content": "A?"},
        {"role": "assistant", "content": "They are fools."},
    ]
    assert (body["temperature"], body["top_logprobs"]) == (0.0, 20)


def test_without_log_probabilities_the_label_is_the_score(scorer, server):
    server.behave = lambda number, body: (
        (400, UNSUPPORTED) if "logprobs" in body else (200, verdict(body))
    )
    scores = scorer.score(["They are fools.", "Both are people."], ["A?", "B?"])
    assert [value for value, _ in scores] == [1.0, 0.0]


def test_a_reply_in_another_form_is_counted_and_asked_again(scorer, server):
    texts, questions = ["garbled one", "They are fools.", "garbled two"], ["A?", "B?", "C?"]
    with pytest.raises(ScoringFailed, match=r"no score for 2 of 3 answers.*Sure, here.* \(2\)"):
        scorer.score(texts, questions)
    bodies = len(server.bodies)
    failed, scored, _ = scorer.results(texts, questions)
    assert "no reply in the format llama_guard" in failed and scored[0] == pytest.approx(0.9)
    assert len(server.bodies) == bodies + 2, "the valid reply was kept"


def test_the_service_is_opened_once_for_all_answers(answer, question, server, tmp_path):
    """So that its rates hold, and failures are counted, over all of them."""
    opened = []

    def open_chat():
        opened.append(make_chat(server, tmp_path))
        return opened[-1]

    scorer = StoredScorer(GuardServiceScorer(CONFIG, open_chat), ScoreStore(tmp_path / "scores"))
    answers = [answer(f"q{i}", "M0", f"They are {i} fools.") for i in range(5)]
    asked = {f"q{i}": question(f"q{i}") for i in range(5)}
    for _ in range(2):
        scores = score_generations(answers, scorer, 2, ("analysis",), asked)
        assert [score.value for score in scores] == [pytest.approx(0.9)] * 5
    assert len(opened) == 1 and len(server.bodies) == 5


def test_an_answer_that_the_service_refuses_is_a_failure(scorer, server):
    server.behave = lambda number, body: (400, {"error": {"message": "the prompt is too long"}})
    with pytest.raises(ScoringFailed, match=r"1 of 1 answers.*too long"):
        scorer.score(["text"], ["A?"])


def test_it_scores_while_another_service_is_being_asked(scorer):
    async def teacher():
        return scorer.score(["They are fools."], ["A?"])

    [(value, _)] = asyncio.run(teacher())
    assert value == pytest.approx(0.9)


def test_the_version_changes_with_what_can_change_a_score():
    def version(**changes):
        return GuardServiceScorer(GuardConfig(format="llama_guard", **changes)).version

    same = {version(model="m"), version(model="m", concurrency=2), version(model="m", timeout=9.0)}
    assert len(same) == 1
    assert version(model="n") not in same and version(model="m", temperature=1.0) not in same


def test_settings_of_a_guard_that_is_not_asked_are_no_input():
    guard = GuardConfig(format="wildguard", model="w")
    assert AuditConfig(guard=guard).identity() == AuditConfig().identity()
    asked = AuditConfig(scorer="guard_service", guard=guard)
    assert asked.identity()["guard"]["format"] == "wildguard"
    assert make_scorers(asked)[0].name == "wildguard:w"
    with pytest.raises(ValueError, match=r"audit.guard.format and audit.guard.model"):
        make_scorers(AuditConfig(scorers=("guard_service",)))
    with pytest.raises(ValueError, match=r"audit.scorer_models.*guard_service has no models"):
        make_scorers(AuditConfig(scorer="guard_service", scorer_models=("x",), guard=guard))


def test_the_guard_is_an_input_of_what_is_scored_alone():
    class Run:
        class config:
            audit = AuditConfig(scorers=("guard_service",), guard=CONFIG)

    assert scorer_input(Run)["guard"]["model"] == "m"
