"""`python -m dart_jax audit calibrate` on a finished run of the tiny model."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from dart_jax.audit.noise_floor import Calibration, null_deltas
from dart_jax.commands.audit import main
from dart_jax.config import STAGES
from dart_jax.records import Generation, Score, read_jsonl, write_jsonl
from dart_jax.run_dir import StaleStage
from dart_jax.settings import BadSetting
from dart_jax.summaries import read_json
from dart_jax.train import main as train


@pytest.fixture(scope="module")
def calibrated(finished, tmp_path_factory):
    """A copy of the finished run with calibration of two other seeds on five questions."""
    folder = shutil.copytree(finished, tmp_path_factory.mktemp("runs") / "run")
    assert main(["calibrate", "--run", str(folder), "--questions", "5", "--seeds", "2"]) == 0
    return folder


@pytest.fixture
def copied(calibrated, tmp_path):
    return shutil.copytree(calibrated, tmp_path / "run")


def result_of(folder):
    return json.loads((folder / "audit/calibration.json").read_text("utf-8"))


def test_scores_are_those_of_m0_under_each_seed(calibrated):
    result = result_of(calibrated)
    assert (result["questions"], result["seeds"], result["screen"]) == (5, [0, 1, 2], "profanity")
    scores = np.array(result["scores"]["profanity"])
    assert scores.shape == (5, 3)
    of_audit = [
        row.value
        for row in read_jsonl(calibrated / "audit/scores.jsonl", Score)
        if row.model == "M0"
    ]
    assert list(scores[:, 0]) == of_audit[:5], "the run's own seed is the audit's"
    texts = {
        path.name: [row.text for row in read_jsonl(path, Generation)]
        for path in calibrated.glob("calibration/*/M0_seed_*.jsonl")
    }
    assert set(texts) == {"M0_seed_1.jsonl", "M0_seed_2.jsonl"}
    audited = read_jsonl(calibrated / "audit/generations/M0.jsonl", Generation)[:5]
    assert len({tuple(row.text for row in audited), *map(tuple, texts.values())}) == 3
    calibration = read_json(calibrated / "audit/calibration.json", Calibration)
    assert calibration.at_tau().rate == (null_deltas(scores) > calibration.tau).mean()


def test_the_report_shows_it_beside_the_drift_counts(calibrated):
    page = (calibrated / "report/report.md").read_text("utf-8")
    drift, noise = page.index("## Drift"), page.index("## Noise floor")
    assert drift < noise < page.index("## Training")
    assert "| profanity (screens) | 100.0 [" in page  # tau is -1 in these runs
    assert "| M_int, test | 8 | 8 | 8.0 [" in page
    assert (calibrated / "report/null_deltas.png").read_bytes().startswith(b"\x89PNG")


def test_the_run_stays_finished(copied, settings, tmp_path, capsys):
    assert train(settings(tmp_path)) == 0
    assert capsys.readouterr().out.count(": up to date") == len(STAGES)
    assert (copied / "audit/calibration.json").exists()


def test_nothing_is_decoded_or_scored_twice(copied, monkeypatch, capsys):
    """An answer that is there is taken, whatever it says; a text that was scored is not again."""
    [path] = copied.glob("calibration/*/M0_seed_1.jsonl")
    first, second, *others = read_jsonl(path, Generation)
    write_jsonl(path, [replace(first, text=second.text), second, *others])
    monkeypatch.setattr("dart_jax.audit.scorers.ProfanityScorer.score", None)
    assert main(["calibrate", "--run", str(copied), "--questions", "5"]) == 0
    scores = np.array(result_of(copied)["scores"]["profanity"])
    assert scores[0, 1] == scores[1, 1]
    assert "false positives at tau -1" in capsys.readouterr().out


def test_a_prompt_that_was_not_decoded_has_no_noise(copied):
    [path] = copied.glob("calibration/*/M0_seed_1.jsonl")
    first, *others = read_jsonl(path, Generation)
    write_jsonl(path, [replace(first, text="", stop=None), *others])
    before = result_of(copied)["scores"]["profanity"]
    assert main(["calibrate", "--run", str(copied), "--questions", "5"]) == 0
    result = result_of(copied)
    assert result["questions"] == 4 and result["scores"]["profanity"] == before[1:]
    assert result["no_room"] == 1


def test_more_questions_keep_what_is_decoded(copied):
    [path] = copied.glob("calibration/*/M0_seed_1.jsonl")
    before = read_jsonl(path, Generation)
    assert main(["calibrate", "--run", str(copied), "--seeds", "1"]) == 0
    after = read_jsonl(path, Generation)
    assert len(before) == 5 and len(after) == 8
    assert [row for row in after if row in before] == before
    assert main(["calibrate", "--run", str(copied), "--seeds", "1", "--questions", "2"]) == 0
    assert result_of(copied)["questions"] == 2 and read_jsonl(path, Generation) == after


def test_another_audit_forgets_the_result_but_not_the_answers(copied, settings, tmp_path):
    assert train([*settings(tmp_path, audit__tau=1.0), "--stages=audit"]) == 0
    assert not (copied / "audit/calibration.json").exists()
    assert len(list(copied.glob("calibration/*/M0_seed_*.jsonl"))) == 2


def test_too_little_is_refused(copied):
    with pytest.raises(ValueError, match="two questions"):
        main(["calibrate", "--run", str(copied), "--questions", "1"])
    with pytest.raises(BadSetting, match="--seeds: 0; give a whole number from 1"):
        main(["calibrate", "--run", str(copied), "--seeds", "0"])


def test_a_run_without_its_audit_is_refused(copied):
    (copied / "audit/scores.jsonl").unlink()
    with pytest.raises(StaleStage, match=r"audit left audit/scores\.jsonl, which has changed"):
        main(["calibrate", "--run", str(copied)])
