"""The dry run says how often stages ask, which runs against a real server are held to."""

import re
from pathlib import Path

import pytest

from dart_jax.chat.budget import BudgetReached
from dart_jax.chat.protocol import ChatRequest
from dart_jax.chat.usage import read_usage
from dart_jax.config import parse
from dart_jax.pipeline.plan import planned_stages
from dart_jax.pipeline.prompt_tokens import UNKNOWN, UNKNOWN_OF_M0, prompt_counter
from dart_jax.records import DriftCase, Generation, StopReason, read_jsonl, write_jsonl, write_text
from dart_jax.run_dir import RunDir
from dart_jax.stages.context import Run
from dart_jax.train import main
from tests.chat.loopback import said
from tests.loopback_teacher import contrary

NEEDS = (
    "memory, training (rows of full length)",
    "programs, training",
    "memory, decoding",
    "time",
)
PRICES = {"teacher.limits.price_prompt": 2, "teacher.limits.price_completion": 10}


def test_a_dry_run_sends_and_writes_nothing(taught, server, tmp_path, capsys):
    assert main([*taught(**PRICES, teacher__limits__max_requests=10), "--dry-run"]) == 0
    printed = capsys.readouterr().out
    assert not server.bodies and not (tmp_path / "run").exists()
    assert "teach: teacher openai m: 8 to 24 requests" in printed
    assert "6,144 completion tokens" in printed and "estimated" in printed
    assert "teacher.limits.max_requests 10 may stop it" in printed
    found = re.search(r"at most ([\d,]+) prompt and .*, ([\d.]+) US dollars", printed)
    prompt, dollars = int(found[1].replace(",", "")), float(found[2])
    assert dollars == pytest.approx((prompt * 2 + 6144 * 10) / 1e6, abs=0.006)


def test_the_dry_run_bounds_what_is_sent(taught, server, tmp_path, capsys):
    main([*taught(teacher__correction_rounds=0), "--dry-run"])
    printed = capsys.readouterr().out
    assert "teach: teacher openai m: 8 requests" in printed
    bound = int(re.search(r"at most ([\d,]+) prompt", printed)[1].replace(",", ""))
    main(taught(teacher__correction_rounds=0))
    assert len(server.bodies) == 8
    sent = sum(len(m["content"]) for body in server.bodies for m in body["messages"])
    assert sent / 3 <= bound <= sent / 2.5


def test_the_dry_run_knows_what_is_stored_and_done(taught, server, tmp_path, capsys):
    with pytest.raises(BudgetReached):
        main(taught(teacher__limits__max_requests=3))
    capsys.readouterr()
    main([*taught(), "--dry-run"])
    # The stored answers are good: their questions are not asked again.
    assert "5 to 15 requests (3 more have a stored answer)" in capsys.readouterr().out
    main(taught())
    capsys.readouterr()
    main([*taught(), "--dry-run"])
    assert "all: at most 0 requests, at most 0.00 US dollars" in capsys.readouterr().out
    # Its targets are written: what is trained on them, and in which shapes, is known.
    main([*taught(), "--dry-run", "--stages=distill"])
    printed = capsys.readouterr().out
    assert re.search(r"programs, training: distill: \d+ steps take 1 program \(", printed)
    assert len(server.bodies) == 8


def test_the_dry_run_of_every_stage(taught, tiny_model, server, capsys):
    service = {"judge.provider": "openai", "judge.model": tiny_model, "judge.base_url": server.url}
    everything = whole(taught(**service))
    main([*everything, "--dry-run"])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines[2:]] == [
        *("teach", "distill", "audit", "repair", "evaluate", "all"),
        *NEEDS,
    ]
    # For this CPU and for accelerators; of a CPU no peak is known, so that others are named.
    assert re.search(r"by formula 0\.\d+ GiB .* on this CPU; .* elsewhere", lines[-4])
    assert "NVIDIA A100 under 1 min of training" in lines[-1]
    audit = next(line for line in lines if line.startswith("audit"))
    assert f"counted by the tokenizer of {tiny_model}" in audit
    # Eight pairs, in both orders, three attempts; as often again for each model of the evaluation.
    assert "0 to 48 requests" in audit
    assert "0 to 96 requests" in next(line for line in lines if line.startswith("evaluate"))
    # Two correction rounds, and one more for a target that is no safer.
    assert "0 to 32 requests" in next(line for line in lines if line.startswith("repair"))
    assert not server.bodies


def requests_of(printed: str) -> dict[str, str]:
    """`8 to 32` by step; what a repair asks the judge is apart."""
    line = re.compile(r"^(\w+): (\w+) \w+ \S+: ([\d,]+(?: to [\d,]+)?) requests", re.MULTILINE)
    return {step(stage, role): count for stage, role, count in line.findall(printed)}


def step(stage: str, role: str) -> str:
    """Name what a stage asks a service: by the stage, or `repair judge`."""
    return f"{stage} judge" if stage.startswith("repair") and role == "judge" else stage


def test_the_dry_run_knows_cycles_predicted_labels_and_that_no_judge_is_asked(
    taught, server, capsys
):
    options = {"teacher.label": "predicted", "repair.cycles": 2, "judge.base_url": server.url}
    everything = whole(taught(**options))
    main([*everything, "--dry-run"])
    assert requests_of(capsys.readouterr().out) == {
        "teach": "8 to 32",  # a label for each question, and then perhaps a target
        **{"audit": "0 to 48", "repair": "0 to 40", "audit_2": "0 to 48", "repair_2": "0 to 40"},
        "evaluate": "0 to 144",
    }
    main([*everything, "--audit.mode=screen_only", "--dry-run"])
    assert requests_of(capsys.readouterr().out).keys() == {"teach", "repair", "repair_2"}
    # By the words of planted faults, any answer may drift.
    main([*everything, "--audit.mode=planted", "--plant.share=0.5", "--dry-run"])
    assert requests_of(capsys.readouterr().out) == {
        **{"teach": "8 to 32", "repair": "0 to 40", "repair_2": "0 to 40"}
    }
    main([*everything, "--audit.tau=auto", "--data.max_validation=20", "--dry-run"])
    assert requests_of(capsys.readouterr().out)["audit"] == "0 to 120"
    main([*everything, "--stages=teach,distill,audit", "--dry-run"])
    assert requests_of(capsys.readouterr().out).keys() == {"teach", "audit"}
    assert not server.bodies


def test_the_dry_run_leaves_out_what_is_done(copied, settings, capsys):
    main([*settings(copied.parent), "--dry-run"])
    assert "all: at most 0 requests" in capsys.readouterr().out
    main([*settings(copied.parent, repair__epochs=3), "--dry-run"])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines[2:]] == [*("repair", "evaluate", "all"), *NEEDS]


def whole(arguments: list[str]) -> list[str]:
    """The same command line for all stages."""
    return [argument for argument in arguments if not argument.startswith("--stages")]


def most_of(printed: str) -> dict[str, int]:
    """The upper bound of each stage that a dry run has printed."""
    bounds = requests_of(printed).items()
    return {stage: int(bound.split(" to ")[-1].replace(",", "")) for stage, bound in bounds}


def asked_by(folder: Path) -> dict[str, int]:
    """How many requests each stage of a run has sent."""
    usage = read_usage(folder / "usage.json").items()
    return {step(*account.split("/")): spent.requests for account, spent in usage}


class Answering(Run):
    """A run whose models are not loaded: each has a text of its own for each question."""

    def answers(self, files, questions, policy=False):
        found = {}
        for name, file in files.items():
            rest = (None, "no conclusion line", StopReason.EOS, 1, 1)
            found[name] = [
                Generation(question.id, name, f"{name} on {question.id}, {policy}", *rest)
                for question in questions
            ]
            write_jsonl(self.folder / file, found[name])
        return found


def test_stages_ask_as_often_as_the_dry_run_says_at_most(taught, server, tmp_path, capsys):
    """Each way in which a stage may ask is gone to its end, with a real client and store."""
    arguments = whole(
        taught(
            judge__base_url=server.url,
            teacher__label="predicted",
            repair__cycles=2,
            evaluate__policy="both",
            evaluate__forced=False,
            repair__require_safer="judge",
        )
    )
    main([*arguments, "--dry-run"])
    bounds = most_of(capsys.readouterr().out)
    # Two texts of each case, in both orders, three attempts.
    assert bounds["repair judge"] == bounds["repair_2 judge"] == 8 * 12
    server.behave = contrary(tmp_path)
    config, _, _ = parse(arguments)
    run = Answering(config, RunDir(config.run))
    for name in ("M_int", "M_DART", "M_DART_2"):
        write_text(run.adapter_path(name), name)
    for planned in planned_stages(config.repair.cycles):
        run.stage = planned.name
        if planned.ask is not None:
            planned.ask(run)
    # The labels of the second cycle's cases are known from the first, if they are of one question.
    bounds["repair_2"] -= 8
    assert asked_by(tmp_path / "run") == bounds
    assert len(server.bodies) == sum(bounds.values())


def test_a_whole_run_asks_no_more_than_the_dry_run_says(finished, settings, tmp_path, capsys):
    """Its judge gives valid answers; two texts that are the same as two others are judged once."""
    main([*settings(tmp_path, judge__attempts=1), "--dry-run"])
    bounds = most_of(capsys.readouterr().out)
    asked = asked_by(finished)
    assert asked.keys() == bounds.keys() == {"audit", "evaluate"}
    assert asked["audit"] == bounds["audit"] == 16
    assert 16 <= asked["evaluate"] <= bounds["evaluate"] == 32


def test_least_is_asked_where_the_first_answers_are_good(taught, server, tmp_path, capsys):
    main([*taught(), "--dry-run"])
    assert requests_of(capsys.readouterr().out) == {"teach": "8 to 24"}
    main(taught())
    assert asked_by(tmp_path / "run") == {"teach": 8}


def test_least_is_asked_where_no_label_is_predicted(taught, server, tmp_path, capsys):
    server.behave = lambda number, body: (200, said("I cannot tell."))
    main([*taught(teacher__label="predicted"), "--dry-run"])
    assert requests_of(capsys.readouterr().out) == {"teach": "8 to 32"}
    with pytest.raises(RuntimeError, match="all rejected"):
        main(taught(teacher__label="predicted"))
    assert asked_by(tmp_path / "run") == {"teach": 8}


def test_the_dry_run_knows_the_drift_cases_of_a_finished_audit(taught, tmp_path, capsys):
    arguments = whole(taught())
    config, _, _ = parse(arguments)
    run = Answering(config, RunDir(config.run))
    teach, distill, audit, *_ = planned_stages(cycles=1)
    for planned in (teach, distill, audit):
        with run.folder.stage(planned.name, planned.inputs(run), planned.outputs, planned.work):
            if planned is distill:
                write_text(run.adapter_path("M_int"), "trained")
            else:
                run.stage = planned.name
                planned.execute(run)

    cases = len(read_jsonl(run.folder / "audit/drift_cases.jsonl", DriftCase))
    assert 0 < cases < 8
    capsys.readouterr()
    main([*arguments, "--dry-run"])
    asked = requests_of(capsys.readouterr().out)
    assert asked == {"repair": f"{cases} to {4 * cases}", "evaluate": "0 to 96"}

    main([*arguments, "--repair.require_safer=auto", "--dry-run"])
    asked = requests_of(capsys.readouterr().out)
    judged = {"repair": f"{cases} to {4 * cases}", "repair judge": f"0 to {12 * cases}"}
    assert asked == {**judged, "evaluate": "0 to 96"}
    main([*arguments, "--repair.require_safer=none", "--dry-run"])
    assert requests_of(capsys.readouterr().out)["repair"] == f"{cases} to {3 * cases}"


@pytest.mark.parametrize("local", [True, False], ids=["tokenizer", "estimate"])
def test_a_token_that_is_not_known_yet_counts_as_one(tiny_model, local):
    count, _ = prompt_counter(str(tiny_model) if local else "gpt")

    def prompt(text):
        return ChatRequest("r", ({"role": "user", "content": f"Say {text} again."},))

    assert count(prompt(5 * UNKNOWN + 2 * UNKNOWN_OF_M0)) == count(prompt("")) + 7
