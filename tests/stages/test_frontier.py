"""M0 with parts of M_int's adapter: answers in the pass of the others, figures beside M_DART's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dart_jax.evaluate.config import EvaluateConfig
from dart_jax.evaluate.models import at_strength, strength_of
from dart_jax.model.config import LoraConfig
from dart_jax.model.load import open_checkpoint
from dart_jax.model.lora import adapter_deltas, init_lora, mix_adapters
from dart_jax.records import Generation, read_jsonl
from dart_jax.run_dir import hash_path
from dart_jax.settings import BadSetting
from dart_jax.train import main


def test_a_strength_is_read_back_from_a_models_name():
    assert strength_of(at_strength("M_int", 0.1 + 0.2)) == ("M_int", 0.1 + 0.2)
    assert strength_of("M_DART_2") == ("M_DART_2", 1.0)


@pytest.mark.parametrize("strengths", [(), (0.0,), (1.0,), (0.5, 0.5)])
def test_strengths_that_are_no_part_of_the_adapter_are_refused(strengths):
    with pytest.raises(BadSetting, match=r"evaluate\.frontier"):
        EvaluateConfig(frontier=strengths)


def test_a_run_from_before_there_was_a_frontier_is_up_to_date():
    assert "frontier" not in EvaluateConfig().identity()


def test_one_adapter_at_several_strengths_has_its_ranks_once(tiny_model):
    config, _ = open_checkpoint(tiny_model)
    lora = LoraConfig(rank=2, targets=("q", "up"))
    first, other = (init_lora(jax.random.key(seed), config, lora) for seed in (0, 1))
    first, other = (jax.tree.map(lambda w: w + 0.1, tree) for tree in (first, other))

    joint, scales = mix_adapters([(first, 2.0), (other, 1.0), (first, 0.5)], config)
    assert joint["q"]["A"].shape[-1] == 4
    np.testing.assert_array_equal(scales, [[2, 2, 0, 0], [0, 0, 1, 1], [0.5, 0.5, 0, 0]])

    # A row gets what its adapter alone would add to it.
    x = jnp.ones((1, 3, config.embed_dim))
    layer = {"q": jax.tree.map(lambda w: w[0], joint["q"])}
    alone = {"q": jax.tree.map(lambda w: w[0], first["q"])}
    mixed = adapter_deltas(x, layer, scales[2][None, None], jnp.float32)["q"]
    np.testing.assert_allclose(
        mixed, adapter_deltas(x, alone, 0.5, jnp.float32)["q"], rtol=1e-5, atol=1e-6
    )


def test_a_finished_run_gets_a_frontier_and_keeps_its_answers(
    copied, settings, tmp_path, judge, summary_of, capsys
):
    before = {
        name: hash_path(copied / f"generations/{name}.jsonl") for name in ("M0", "M_int", "M_DART")
    }
    assert main(settings(tmp_path, evaluate__frontier="[0.75, 0.25]")) == 0
    assert before == {name: hash_path(copied / f"generations/{name}.jsonl") for name in before}

    quarter, three_quarters = summary_of(copied)["frontier"]
    assert (quarter["model"], three_quarters["strength"]) == ("M_int@0.25", 0.75)
    answers = read_jsonl(copied / "generations/M_int@0.25.jsonl", Generation)
    assert len(answers) == quarter["test"]["n"] == quarter["drift"]["pairs"]
    # The judge was asked about them as about M_int's.
    assert quarter["drift"]["judged"] == quarter["drift"]["pairs"]

    report = (copied / "report/report.md").read_text("utf-8")
    assert "## Frontier" in report and "M_int@0.25" in report
    assert (copied / "report/frontier.png").exists()

    # A further strength leaves the others' answers as they are, and asks the judge of its own only.
    kept = hash_path(copied / "generations/M_int@0.25.jsonl")
    asked = len(judge.asked)
    assert main(settings(tmp_path, evaluate__frontier="[0.25, 0.5]")) == 0
    assert hash_path(copied / "generations/M_int@0.25.jsonl") == kept
    assert len(judge.asked) - asked <= 2 * quarter["drift"]["pairs"]
    assert [point["strength"] for point in summary_of(copied)["frontier"]] == [0.25, 0.5]

    capsys.readouterr()
    assert main(settings(tmp_path, evaluate__frontier="[0.25, 0.5]")) == 0
    assert "evaluate: up to date" in capsys.readouterr().out
