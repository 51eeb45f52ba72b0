"""Planting: which targets get a fault, what changes in them, and what is left alone."""

import pytest

from dart_jax.prompts.planted import (
    HARM_REQUEST,
    asks_for_harm,
    find_planted,
    names_harm,
    planted_sentences,
    with_harm_request,
)
from dart_jax.prompts.templates import answer_messages
from dart_jax.records import (
    Condition,
    DriftType,
    Question,
    Severity,
    Target,
    Turn,
    WeightSpan,
)
from dart_jax.settings import BadSetting
from dart_jax.teach.config import PlantConfig
from dart_jax.teach.from_file import file_targets
from dart_jax.teach.planted import DealtFault, sum_up
from dart_jax.teach.planting import deal_faults, plant_faults
from dart_jax.teach.writer import TargetRequest

HARM = "The harm at stake is exclusion from work."
SEVERE = DealtFault(DriftType.ELABORATES, Severity.SEVERE)
OMITS = DealtFault(DriftType.OMITS, Severity.MODERATE)


def question(id, benchmark="D1", condition=Condition.EQUAL, messages=()):
    return Question(id, benchmark, condition, "May they?\n(a) Yes (b) No", 0, id, messages)


def target(id, analysis="They are alike. The law agrees.", **changes):
    return Target(id, "distill", f"{analysis}\nConclusion: NO", **changes)


def plant(targets, fault=SEVERE, share=1.0, **changes):
    questions = {t.question_id: question(t.question_id, **changes) for t in targets}
    return plant_faults(targets, questions, {"D1": fault}, share)


def test_of_a_dozen_sentences_only_the_first_ones_are_used():
    targets = [target(str(number)) for number in range(60)]
    questions = {t.question_id: question(t.question_id) for t in targets}
    used = {}
    for sentences in (1, 3, 12):
        faults = plant_faults(targets, questions, {"D1": SEVERE}, 1.0, sentences).faults
        used[sentences] = {fault.sentence for fault in faults}
    assert len(used[1]) == 1 and len(used[3]) == 3 and len(used[12]) == 12
    assert used[1] < used[3] < used[12]


def test_nothing_is_dealt_unless_planting_is_on():
    assert deal_faults(PlantConfig(), ["D1"], seed=0) == {}


def test_severities_and_types_are_dealt_in_turn():
    config = PlantConfig(share=0.5, types=("elaborates", "omits"), severities=("minor", "extreme"))
    dealt = deal_faults(config, ["N1", "D2", "D1", "D1"], seed=3)
    minor, extreme = Severity.MINOR, Severity.EXTREME
    assert list(dealt) == ["D1", "D2", "N1"]
    assert [fault.severity for fault in dealt.values()] == [minor, extreme, minor]
    assert [fault.type.value for fault in dealt.values()] == ["elaborates", "omits", "elaborates"]


def test_over_four_seeds_each_benchmark_gets_each_severity():
    config = PlantConfig(share=0.5, rotate_by_seed=True)
    names = ["D1", "D2", "D3", "D4", "N1"]
    squares = [deal_faults(config, names, seed) for seed in range(4)]
    for name in names:
        assert {square[name].severity for square in squares} == set(Severity)
    for square in squares:
        assert {square[name].severity for name in names[:4]} == set(Severity)


def test_a_benchmark_that_the_suite_lacks_is_named():
    with pytest.raises(BadSetting, match=r"plant\.benchmarks: X9; .* D1, N3"):
        deal_faults(PlantConfig(share=0.5, benchmarks=("D1", "X9")), ["N3", "D1"], 0)


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ({"share": 1.5}, "plant.share: 1.5; give a number from 0 to 1"),
        ({"share": -0.1}, "plant.share"),
        ({"severities": ("grave",)}, "plant.severities: .*minor, moderate, severe or extreme"),
        ({"types": ("insults",)}, "plant.types: .*elaborates, normalizes or omits"),
        ({"types": ()}, "plant.types: .*at least one"),
        ({"benchmarks": ()}, "plant.benchmarks: .*at least one"),
        ({"benchmarks": ("D1", "D1")}, "plant.benchmarks: .*once"),
    ],
)
def test_a_setting_that_cannot_be_is_refused(setting, said):
    with pytest.raises(BadSetting, match=said):
        PlantConfig(**setting)


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_exactly_the_share_of_a_benchmark_gets_a_fault_in_any_order(share):
    targets = [target(f"q{number}") for number in range(40)]
    planted = plant(targets, share=share)
    assert len(planted.faults) == 40 * share
    backwards = plant(targets[::-1], share=share)
    assert backwards.targets[::-1] == planted.targets
    for before, after in zip(targets, planted.targets, strict=True):
        assert (after == before) == (find_planted(after.completion) is None)


def test_other_benchmarks_stay_as_they_are():
    targets = [target("q1"), target("q2")]
    questions = {"q1": question("q1"), "q2": question("q2", "N1")}
    planted = plant_faults(targets, questions, {"N1": SEVERE}, 1.0)
    assert planted.targets[0] == targets[0]
    assert [fault.question_id for fault in planted.faults] == ["q2"]


def test_a_planted_sentence_is_the_recorded_one_and_all_that_changes():
    targets = [target(f"q{number}") for number in range(60)]
    planted = plant(targets)
    for before, after, fault in zip(targets, planted.targets, planted.faults, strict=True):
        found = find_planted(after.completion)
        assert (found.text, found.type, found.severity) == (fault.sentence, fault.type, 3)
        assert after.completion.replace(f" {fault.sentence}", "") == before.completion

    # All of the dozen are used, after the first sentence as well as at the end.
    dozen = [s for s in planted_sentences() if (s.type, s.severity) == (SEVERE.type, 3)]
    assert {fault.sentence for fault in planted.faults} == {sentence.text for sentence in dozen}
    ends = {after.completion.endswith("agrees.\nConclusion: NO") for after in planted.targets}
    assert ends == {True, False}


def test_weighted_passages_keep_their_words():
    first, second = "They are alike.", " The law agrees."
    spans = (WeightSpan(0, 15, 2.0), WeightSpan(15, 31, 3.0), WeightSpan(5, 20, 4.0))
    for number in range(8):
        after = plant([target(f"q{number}", spans=spans)]).targets[0]
        words = [after.completion[span.start : span.end] for span in after.spans]
        assert words[:2] == [first, second]
        assert words[2].startswith("are alike.") and words[2].endswith(" The ")


def test_omits_takes_away_what_names_the_harm_and_nothing_else():
    kept = "They are alike. The law agrees."
    for analysis in (
        f"{kept} {HARM}",
        f"{HARM} {kept}",
        f"They are alike. {HARM} The law agrees.",
        f"{HARM}\n\n{HARM} {kept}",
        f"{HARM} {HARM}\n\n{kept}",
    ):
        planted = plant([target("q", analysis)], OMITS)
        assert planted.targets == [target("q", kept)]
        assert planted.faults[0].sentence == "" and planted.faults[0].severity == 2


@pytest.mark.parametrize(
    ("analysis", "reason"),
    [("They are alike.", "names the harm"), (HARM, "nothing is left"), (f"{HARM} {HARM}", "left")],
)
def test_a_target_that_cannot_omit_a_harm_stays_and_says_why(analysis, reason):
    clean = target("q", analysis)
    planted = plant([clean], OMITS)
    assert planted.targets == [clean] and planted.faults == []
    assert reason in planted.unplanted[0].reason


def test_an_unlabelled_completion_gets_its_sentence_at_its_own_end_or_after_its_first():
    for number in range(8):
        own = Target(f"q{number}", "distill", "It is so. Nothing follows.\n")
        after = plant([own], condition=None).targets[0].completion
        assert find_planted(after) and after.endswith("\n")


def test_what_was_planted_is_counted_by_benchmark():
    by = {"provider": "openai:some-model"}
    targets = [target("q1", f"It is so. {HARM}", **by), target("q2", "It is so. No harm.", **by)]
    planted = plant(targets, OMITS)
    summed = sum_up(planted.targets, planted.faults, planted.unplanted)
    assert (summed.targets, summed.planted, summed.teachers) == (2, 1, ["openai"])
    counts = summed.benchmarks["D1"]
    assert (counts.planted, counts.unplanted, counts.type) == (1, 1, DriftType.OMITS)


def test_the_harm_request_ends_the_prompt_that_every_model_gets():
    chat = (Turn("user", "Hello?"), Turn("assistant", "Yes?"), Turn("user", "May they?"))
    for plain in (question("q"), question("q", messages=chat)):
        asked = with_harm_request(plain)
        assert asks_for_harm(asked) and not asks_for_harm(plain)
        said = answer_messages(asked)[-1]["content"]
        assert HARM_REQUEST in said and HARM_REQUEST not in answer_messages(plain)[-1]["content"]
    assert asked.messages[:-1] == chat[:-1]


def repaired(text, drifted, asked=True, safer=False):
    """Ask the quality control about a repair target; True, or the code of the rule it breaks."""
    asked_question = with_harm_request(question("q")) if asked else question("q")
    request = TargetRequest(asked_question, (), "repair", drifted=drifted)
    (result,) = file_targets([request], {"q": text}, lambda *_: safer)
    return True if isinstance(result, Target) else result.reasons[0].split(":")[0]


def test_a_repair_names_the_harm_where_the_question_asks_for_it():
    kept, drifted = "They are alike. The law agrees.", "They are alike."
    assert repaired(f"{kept} {HARM}", drifted) is True  # though the scorer rates it no lower
    assert repaired(kept, drifted, safer=True) == "harm_not_named"
    assert repaired(kept, drifted, asked=False, safer=True) is True


def test_a_repair_of_another_fault_still_has_to_be_safer():
    text = f"They are alike. {HARM}"
    assert names_harm(text)
    assert repaired(text, drifted=f"Damn them. {HARM}") == "not_safer"
    assert repaired(text, drifted="Damn them.", asked=False) == "not_safer"
