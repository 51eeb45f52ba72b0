"""Pairs and the screen."""

from dataclasses import replace

import pytest

from dart_jax.audit.screen import above_tau, pair_up, screen, without_room
from dart_jax.records import Score


def scores(values: dict[tuple[str, str], float], scorer: str = "s") -> list[Score]:
    return [Score(id, model, scorer, value) for (model, id), value in values.items()]


def test_pairs_match_by_question_id_whatever_the_order(answer):
    baseline = [answer("q1", "M0", "a"), answer("q2", "M0", "b")]
    candidate = [answer("q2", "M_int", "d"), answer("q1", "M_int", "c")]
    values = {("M0", "q1"): 0.1, ("M0", "q2"): 0.2, ("M_int", "q1"): 0.4, ("M_int", "q2"): 0.1}
    first, second = pair_up(baseline, candidate, scores(values))
    assert (first.baseline, first.candidate) == (baseline[0], candidate[1])
    assert (first.question_id, second.question_id) == ("q1", "q2")
    assert first.delta == pytest.approx(0.3) and second.delta == pytest.approx(-0.1)


def test_a_question_answered_on_one_side_is_named(answer):
    baseline = [answer("q1", "M0", "a"), answer("q2", "M0", "b")]
    candidate = [answer("q2", "M_int", "d"), answer("q3", "M_int", "c")]
    with pytest.raises(ValueError, match="baseline only: q1; candidate only: q3"):
        pair_up(baseline, candidate, [])


def test_a_question_answered_twice_is_named(answer):
    with pytest.raises(ValueError, match="candidate answers a question twice: q1"):
        pair_up([answer("q1", "M0", "a")], [answer("q1", "M_int", "b")] * 2, [])


def test_an_answer_without_score_is_named(answer):
    with pytest.raises(ValueError, match=r"without a score: M_int q1 \(s\)"):
        pair_up(
            [answer("q1", "M0", "a")], [answer("q1", "M_int", "b")], scores({("M0", "q1"): 0.1})
        )


def test_scores_of_two_scorers_do_not_mix(answer):
    mixed = [*scores({("M0", "q1"): 0.1}, "a"), *scores({("M_int", "q1"): 0.1}, "b")]
    with pytest.raises(ValueError, match=r"M0 q1 \(b\), M_int q1 \(a\)"):
        pair_up([answer("q1", "M0", "a")], [answer("q1", "M_int", "b")], mixed)


def two_scorers(answer, screen_by):
    """q1 is worse by a (+0.25) but not by b (-0.5); q2 by b (+0.5), not by a (0)."""
    baseline = [answer("q1", "M0", "a"), answer("q2", "M0", "b")]
    candidate = [answer("q1", "M_int", "c"), answer("q2", "M_int", "d")]
    of_a = {("M0", "q1"): 0.5, ("M_int", "q1"): 0.75, ("M0", "q2"): 0.25, ("M_int", "q2"): 0.25}
    of_b = {("M0", "q1"): 0.75, ("M_int", "q1"): 0.25, ("M0", "q2"): 0.0, ("M_int", "q2"): 0.5}
    return pair_up(baseline, candidate, [*scores(of_a, "a"), *scores(of_b, "b")], screen_by)


def test_any_scorer_screens_by_its_own_delta(answer):
    first, second = two_scorers(answer, "any")
    assert (first.baseline_score, first.candidate_score) == (0.5, 0.75)
    assert (second.baseline_score, second.candidate_score) == (0.0, 0.5)
    assert first.deltas == {"a": 0.25, "b": -0.5} and second.deltas == {"a": 0.0, "b": 0.5}
    assert screen([first, second], 0.01) == [first, second]
    assert above_tau([first, second], 0.01) == {"a": 1, "b": 1}
    assert above_tau([first, second], 0.25) == {"a": 0, "b": 1}


@pytest.mark.parametrize(("primary", "screened"), [("a", "q1"), ("b", "q2")])
def test_a_named_scorer_screens_alone(answer, primary, screened):
    pairs = two_scorers(answer, primary)
    assert [pair.question_id for pair in screen(pairs, 0.01)] == [screened]
    assert all(pair.delta == pair.deltas[primary] for pair in pairs)


def test_a_scorer_without_scores_cannot_screen(answer):
    with pytest.raises(ValueError, match=r"screen_by is c, but there are scores of a, b"):
        two_scorers(answer, "c")


def test_a_model_is_not_its_own_baseline(answer):
    with pytest.raises(ValueError, match="same model"):
        pair_up([answer("q1", "M0", "a")], [answer("q1", "M0", "b")], [])


def test_screen_is_strict_at_tau(pair):
    deltas = (0.25, 0.5, 0.0, 0.75, -0.5)
    pairs = [pair(f"q{i}", scores=(0.0, delta)) for i, delta in enumerate(deltas)]
    assert [p.question_id for p in screen(pairs, 0.25)] == ["q1", "q3"]


def unanswered(answer):
    """The same, to a prompt that left no room for an answer."""
    return replace(answer, text="", decision=None, unparseable="too long", stop=None, new_tokens=0)


def test_what_left_no_room_for_an_answer_is_no_pair_and_needs_no_score(answer):
    baseline = [unanswered(answer("q1", "M0", "a")), answer("q2", "M0", "b")]
    candidate = [unanswered(answer("q1", "M_int", "c")), answer("q2", "M_int", "d")]
    values = {("M0", "q2"): 0.2, ("M_int", "q2"): 0.1}
    [pair] = pair_up(baseline, candidate, scores(values))
    assert pair.question_id == "q2"
    assert without_room(baseline, candidate) == {"q1"}


def test_room_on_one_side_makes_no_pair_either(answer):
    baseline = [answer("q1", "M0", "a")]
    candidate = [unanswered(answer("q1", "M_int", "c"))]
    assert pair_up(baseline, candidate, [], screen_by="s") == []


def test_an_empty_answer_had_room(answer):
    silent = replace(answer("q1", "M0", ""), text="", decision=None, unparseable="empty")
    assert silent.had_room and not without_room([silent])
