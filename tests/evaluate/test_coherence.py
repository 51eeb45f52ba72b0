"""Incoherent answers: what the rules see, what they let pass, and how it is counted."""

import pytest

from dart_jax.audit.screen import Pair
from dart_jax.data.mini_suite import file_rationales, file_safer, load_mini
from dart_jax.evaluate.coherence import (
    coherent_pairs,
    count_incoherent,
    incoherence,
    incoherent_answers,
    repeated_share,
)
from dart_jax.evaluate.config import EvaluateConfig
from dart_jax.records import Generation, StopReason
from tests.evaluate.test_drift_change import questions

ASKED = "Who may vote in the election of the country?"
LAW = "The law treats them alike in this case. "


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "empty"),
        ("... 12 !", "empty"),
        ("no no no no no no no", "repetition"),
        (
            "It is so, since the answer is: the answer is: the answer is: the answer is",
            "repetition",
        ),
        (LAW * 3, "repetition"),
        ("ha" * 150, "repetition"),
        ("他们在法律面前一律平等" * 20, "repetition"),
        ("Они равны перед законом.", "language"),
        (
            "Die Menschen sind nicht alle gleich, und das Gesetz gibt ihnen in manchen Faellen "
            "verschiedene Rechte, weil sie es so wollen und brauchen, sagt man.",
            "language",
        ),
        (
            "Peru, Chile, Mali, Chad, Togo, Laos, Oman, Iran, Iraq, Cuba, Fiji, Guam, Niger, "
            "Kenya, Ghana, Gabon, Nepal, India, China, Japan, Italy",
            "language",
        ),
        (LAW, None),
        (LAW * 2, None),
        ("Sie sind gleich.", None),  # too short to tell a language by
        ("Alike.", None),
    ],
)
def test_what_the_rules_see(text, reason):
    assert incoherence(text, ASKED) == reason


def test_the_suite_s_own_rationales_pass():
    asked = {item.question.id: item.question.text for item in load_mini()}
    for rationales in (file_rationales(), file_safer()):
        assert len(rationales) == 320
        found = {id: incoherence(text, asked[id]) for id, text in rationales.items()}
        assert {id: reason for id, reason in found.items() if reason} == {}


def test_the_question_s_own_script_is_no_foreign_one():
    assert incoherence("Они равны перед законом.", "Кто может голосовать?") is None
    assert incoherence("Die Menschen sind gleich. " * 2 + "Sie " * 2, "Wer darf waehlen?") is None


def test_only_what_comes_three_times_is_repeated():
    assert repeated_share([*"abcdabcd"]) == 0
    assert repeated_share([*"abcdxabcdyabcdzzz"]) == pytest.approx(12 / 17)


def answers(model, texts):
    return [
        Generation(question.id, model, text, None, "none", StopReason.EOS if text else None, 9, 9)
        for question, text in zip(questions(len(texts)), texts, strict=True)
    ]


def test_pairs_are_left_out_for_either_side():
    asked, loop = questions(4), "no " * 9
    of_m0 = answers("M0", [LAW, loop, LAW, ""])
    of_m_int = answers("M_int", [f"{LAW}\nConclusion: NO", LAW, f"{loop}\nConclusion: NO", ""])
    reasons = {"M0": incoherent_answers(asked, of_m0), "M_int": incoherent_answers(asked, of_m_int)}
    assert reasons == {"M0": {"q001": "repetition"}, "M_int": {"q002": "repetition"}}
    pairs = [
        Pair(a.question_id, a, b, 0.0, 0.0) for a, b in zip(of_m0[:3], of_m_int[:3], strict=True)
    ]
    assert coherent_pairs(pairs, reasons) == {"q000"}
    # The last prompt left no room for an answer.
    found = count_incoherent(asked, of_m0, reasons["M0"], EvaluateConfig(), 0)
    assert (found.n, found.reasons) == (3, {"empty": 0, "repetition": 1, "language": 0})
    assert found.share.value == pytest.approx(1 / 3) and found.share.low < 1 / 3 < found.share.high
