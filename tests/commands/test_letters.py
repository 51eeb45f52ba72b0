"""A finished run's models choose letters: DiffAware and CtxtAware, and BBQ."""

import json
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from dart_jax.commands.evaluate import main
from dart_jax.prompts.letters import LetterAnswer
from dart_jax.records import read_jsonl
from dart_jax.settings import BadSetting
from dart_jax.train import main as train_main
from tests.data.external.test_bbq import row, written


def read(folder, name):
    return json.loads((folder / name).read_text("utf-8"))


def letters(folder, place, name):
    return read_jsonl(folder / f"{place}/letters/{name}.jsonl", LetterAnswer)


def test_the_likeliest_letter_decides(copied, capsys):
    command = ["ctxt", f"--run={copied}"]
    assert main(command) == 0
    summary = read(copied, "ctxt/summary.json")
    assert (summary["questions"], summary["of"]) == (8, 8)
    assert set(summary["models"]) == {"M0", "M_int", "M_DART"}
    for name, parts in summary["models"].items():
        found = letters(copied, "ctxt", name)
        assert all(answer.option == np.argmax(answer.log_probs) for answer in found)
        assert summary["mass"][name] == pytest.approx(np.mean([a.mass for a in found]))
        assert 0 < summary["mass"][name] < 1
        assert (parts["all"]["diff"], parts["all"]["equal"], parts["all"]["no_letter"]) == (4, 4, 0)
    base, trained = letters(copied, "ctxt", "M0"), letters(copied, "ctxt", "M_int")
    assert [a.question_id for a in base] == [a.question_id for a in trained]
    assert [a.log_probs for a in base] != [a.log_probs for a in trained], "the adapter is used"

    page = (copied / "report/report.md").read_text("utf-8")
    assert "## DiffAware and CtxtAware" in page
    assert "DiffAware, %" in capsys.readouterr().out

    assert main(command) == 0
    assert capsys.readouterr().out.count("up to date") == 4
    assert train_main([f"--config={copied / 'config.yaml'}"]) == 0
    assert "nothing to do" in capsys.readouterr().out

    assert main([*command, "--letters=generated", "--models=M_DART", "--questions=4"]) == 0
    summary = read(copied, "ctxt/summary.json")
    assert (summary["letters"], summary["questions"]) == ("generated", 4)
    assert summary["mass"] == {"M0": None, "M_DART": None}
    every = summary["models"]["M_DART"]["all"]
    assert every["diff"] + every["equal"] + every["no_letter"] == 4


def test_questions_without_options_are_refused(copied, monkeypatch):
    from dart_jax.data.splits import make_splits

    def without(config):
        return {
            name: [replace(question, answer=-1) for question in questions]
            for name, questions in make_splits(config).items()
        }

    monkeypatch.setattr("dart_jax.commands.ctxt.make_splits", without)
    with pytest.raises(BadSetting, match="have no options"):
        main(["ctxt", f"--run={copied}"])
    assert not (copied / "ctxt").exists()


def test_bbq_is_asked_by_letter(copied, tmp_path, capsys):
    rows = [row(0), row(1, False), row(2, question="Who was early?"), row(3, False)]
    folder = written(tmp_path / "bbq", *rows)
    command = ["external", f"--run={copied}", "--suite=bbq", f"--dir={folder}"]
    assert main(command) == 0
    summary = read(copied, "external/bbq/summary.json")
    assert (summary["questions"], summary["of"], summary["no_target"]) == (4, 4, 1)
    right = {"bbq-Age-0": 1, "bbq-Age-1": 2, "bbq-Age-2": 1, "bbq-Age-3": 2}
    for name in ("M0", "M_DART"):
        found = letters(copied, "external/bbq", name)
        hits = Counter(answer.option == right[answer.question_id] for answer in found)
        parts = summary["models"][name]
        assert set(parts) == {"all", "Age"}
        every = parts["all"]
        assert (every["ambiguous"]["n"], every["disambiguated"]["n"]) == (2, 2)
        accuracies = [every[c]["accuracy"]["value"] for c in ("ambiguous", "disambiguated")]
        assert sum(accuracies) * 2 == hits[True]

    page = (copied / "report/report.md").read_text("utf-8")
    assert "## External suite: bbq" in page and "s_AMB" in page
    capsys.readouterr()
    assert main(command) == 0
    assert capsys.readouterr().out.count("up to date") == 3
