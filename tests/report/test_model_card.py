"""The model card: front matter, the run's tables, code that runs, and no place or key in it."""

import ast
import dataclasses
import re

import pytest

from dart_jax.config import DartConfig
from dart_jax.prompts.templates import answer_messages
from dart_jax.records import Condition, Question
from dart_jax.report.model_card import CardInputs, model_card
from dart_jax.report.public import public_name
from tests.evaluate.conftest import made_up_summary

yaml = pytest.importorskip("yaml")


def _config(**changes):
    """The default configuration with `section__key` changed."""
    nested = DartConfig().to_dict()
    for key, value in changes.items():
        section, _, name = key.partition("__")
        assert name in nested[section]
        nested[section][name] = value
    return nested


def card_inputs(**changes) -> CardInputs:
    """Of a made-up run."""
    weights = {
        "minor": {"examples": 3, "weight": 3.0},
        "extreme": {"examples": 2, "weight": 8.0},
        "replay": {"examples": 7, "weight": 7.0},
    }
    values = {
        "adapter": "M_DART",
        "form": "peft",
        "storage": "",
        "config": _config(model__path="/models/Llama-3-8B"),
        "summary": made_up_summary(),
        "weights": weights,
        "versions": {"jax": "0.10.2", "platform": "some-machine"},
        "targets": 120,
        "rejected": 8,
    }
    return CardInputs(**{**values, **changes})


@pytest.fixture
def data() -> CardInputs:
    return card_inputs()


def _front_matter(card):
    return yaml.safe_load(card.split("---\n")[1])


def _code(card):
    return re.search(r"```python\n(.*?)```", card, re.DOTALL)[1]


def test_front_matter(data):
    found = _front_matter(model_card(data))
    assert found["base_model"] == "Llama-3-8B"
    assert (found["library_name"], found["base_model_relation"]) == ("peft", "adapter")
    assert found["datasets"] == ["dart_jax_mini"]
    assert "dart" in found["tags"]
    assert found["language"] == "en"
    assert "license" not in found, "it is the base model's, which is not known by this name"
    merged = _front_matter(model_card(dataclasses.replace(data, form="merged")))
    assert (merged["library_name"], merged["base_model_relation"]) == ("transformers", "finetune")


def test_the_hub_library_reads_it(data):
    hub = pytest.importorskip("huggingface_hub")
    config = _config(model__path="smollm2-135m-instruct")
    card = hub.ModelCard(model_card(card_inputs(config=config)))
    assert card.data.license == "apache-2.0"
    results = {each.metric_name: each.metric_value for each in card.data.eval_results}
    drift = "Confirmed drift against the base model"
    assert results == {"Accuracy": 0.688, "Accuracy on EQUAL questions": 0.25, drift: 0.0571}
    [entry] = _front_matter(str(card))["model-index"]
    assert entry["name"] == "SmolLM2-135M-Instruct-DART-M_DART"
    [of_dataset] = entry["results"]
    assert of_dataset["task"] == {"type": "text-generation", "name": "Difference awareness"}
    assert of_dataset["dataset"] == {
        "type": "dart_jax_mini",
        "name": "dart_jax_mini (test)",
        "split": "test",
        "args": {"split_by": "row", "protocol": "heldout"},
    }
    # Read as the hub reads it, and written again: nothing is lost on the way.
    parsed = hub.repocard_data.model_index_to_eval_results(_front_matter(str(card))["model-index"])
    assert parsed[0] == card.data.model_name and parsed[1] == card.data.eval_results
    card = hub.ModelCard(model_card(data))
    assert card.data.base_model == "Llama-3-8B"
    assert card.text.lstrip().startswith("# Llama-3-8B")


def test_what_was_measured_and_trained_on(data):
    card = model_card(data)
    assert "39.0 [29.0, 49.0]" in card  # accuracy of M0 with its interval
    for row in ("| minor | 3 | 3 |", "| extreme | 2 | 8 |", "| replay | 7 | 7 |"):
        assert row in card
    for words in ("120 with a target", "8 without", "mini, split by row", "42 (split)"):
        assert words in card
    for setting in ("rank 16, alpha 32.0", "learning_rate 0.0002", "severity_weights linear"):
        assert setting in card
    assert "<code>heldout</code>" in card
    assert "| jax | 0.10.2 |" in card
    assert "some-machine" not in card


def test_nothing_repaired(data):
    same = dataclasses.replace(data.summary, m_dart_is_m_int=True)
    card = model_card(dataclasses.replace(data, summary=same))
    assert "**M_DART is M_int**" in card
    assert "Repair set" not in card


@pytest.mark.parametrize("form", ["peft", "merged"])
def test_code_holds_the_prompt_that_was_trained_with(form, data):
    code = _code(model_card(dataclasses.replace(data, form=form)))
    names = {}
    for node in ast.parse(code).body:
        target = node.targets[0].id if isinstance(node, ast.Assign) else None
        if target in ("question", "system", "user", "messages"):
            exec(compile(ast.Module([node], []), "card", "exec"), names)
    question = Question("id", "D1", Condition.DIFF, "...", 0, "s")
    assert tuple(names["messages"]) == answer_messages(question)
    assert ("PeftModel" in code) == (form == "peft")
    # A base's own class may read its tokenizer.json otherwise than the model was trained with.
    assert ("tokenizer = PreTrainedTokenizerFast.from" in code) == (form == "peft")


@pytest.mark.parametrize("form", ["peft", "merged"])
def test_a_card_that_is_uploaded_names_its_repository(form, data):
    code = _code(model_card(dataclasses.replace(data, form=form, published="owner/name")))
    assert '"owner/name"' in code and "path/to/this/folder" not in code
    assert "path/to/this/folder" in _code(model_card(dataclasses.replace(data, form=form)))


@pytest.mark.parametrize(
    ("form", "words"), [("peft", "can also be put on"), ("merged", "but merged into")]
)
def test_a_quantised_base_is_said(form, words, data):
    config = _config(model__quantize="nf4")
    card = model_card(dataclasses.replace(data, form=form, config=config))
    assert "**Trained on a quantised base**" in card
    assert "the base in nf4" in card
    assert words in card
    assert "quantised base" not in model_card(data)


def test_no_place_no_server_no_key_variable(data):
    config = _config(
        model__path="/home/someone/private/Model",
        data__dir="/home/someone/private/suite",
        teacher__provider="openai",
        teacher__model="owner/teacher",
        teacher__base_url="http://key@10.0.0.1:8000/v1",
        teacher__api_key_env="SECRET_SERVICE_KEY",
        judge__model="/home/someone/private/Judge",
        audit__guard={
            **_config()["audit"]["guard"],
            "format": "qwen3guard",
            "model": "/home/someone/private/Guard",
            "base_url": "http://key@10.0.0.1:8000/v1",
            "api_key_env": "SECRET_SERVICE_KEY",
        },
        audit__scorer="hf",
        audit__scorer_models=("owner/scorer", "/home/someone/private/scorer2"),
        run__root="/home/someone/private/runs",
    )
    card = model_card(dataclasses.replace(data, config=config))
    asked = dict(config["audit"], scorers=("profanity", "guard_service"), screen_by="any")
    with_guard = model_card(dataclasses.replace(data, config={**config, "audit": asked}))
    assert "guard Guard (qwen3guard)" in with_guard and "qwen3guard" not in card
    for hidden in ("someone", "private", "10.0.0.1", "SECRET_SERVICE_KEY"):
        assert hidden not in card + with_guard
    for shown in ("owner/teacher", "Judge", "owner/scorer scorer2"):
        assert shown in card


def test_several_scorers_are_named_without_their_places(data):
    config = _config(
        audit__scorers=(
            "profanity",
            "hf:owner/a=hate|rude:softmax+/home/someone/b",
            "detoxify:/home/someone/c",
        ),
        audit__screen_by="detoxify:/home/someone/c@full",
    )
    card = model_card(dataclasses.replace(data, config=config))
    assert "someone" not in card and "knows profanity, not stereotypes" not in card
    assert (
        "scorers profanity hf:owner/a=hate\\|rude:softmax+b detoxify:c, screen_by detoxify:c@full"
        in card
    )
    assert "scorer profanity" not in card
    alone = _config(audit__scorers=("profanity",))
    assert "knows profanity" in model_card(dataclasses.replace(data, config=alone))


def test_settings_of_whom_nobody_asked_are_left_out(data):
    """The card of a fresh run: nothing is None, and neither limits nor an idle judge are told."""
    config = _config(teacher__provider="file", audit__mode="screen_only")
    card = model_card(dataclasses.replace(data, config=config))
    assert "None" not in card and "limits" not in card
    assert "| teacher | provider file |" in card and "| judge |" not in card
    asked = _config(teacher__provider="local", audit__mode="judge_all")
    card = model_card(dataclasses.replace(data, config=asked))
    assert "| teacher | provider local, temperature" in card and "| judge | provider" in card
    assert "None" not in card


def test_a_link_into_the_hubs_cache_has_the_name_of_the_hub(tmp_path):
    snapshot = tmp_path / "models--owner--name/snapshots/0a1b"
    snapshot.mkdir(parents=True)
    (tmp_path / "model").symlink_to(snapshot)
    assert public_name(str(tmp_path / "model")) == "owner/name"


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("smollm2-135m-instruct", "HuggingFaceTB/SmolLM2-135M-Instruct"),
        ("meta-llama/Llama-3-8B", "meta-llama/Llama-3-8B"),
        ("/models/Llama-3-8B/", "Llama-3-8B"),
        ("../somewhere/model.gguf", "model.gguf"),
        ("/c/hub/models--org--some--name/snapshots/0a1b", "org/some--name"),
    ],
)
def test_public_name(path, name):
    assert public_name(path) == name


def test_limits_follow_the_settings(data):
    mini = model_card(data)
    assert "nothing to report" in mini
    assert "knows profanity" in mini
    other = _config(data__suite="difference_awareness", audit__scorer="detoxify")
    card = model_card(dataclasses.replace(data, config=other))
    assert "nothing to report" not in card
    assert "knows profanity" not in card
    assert "ask for evaluation, not training" in card
    assert _front_matter(card)["datasets"] == ["difference_awareness"]


@pytest.mark.parametrize(
    ("changes", "datasets"),
    [
        ({"data__suite": "jsonl", "data__file": "/home/someone/own.jsonl"}, None),
        ({"data__suite": "hub", "data__hub": "owner/set"}, ["owner/set"]),
        ({"data__suite": "hub", "data__hub": "/home/someone/set"}, ["set"]),
    ],
)
def test_a_fine_tuning_claims_nothing_that_was_not_measured(changes, datasets, data):
    config = _config(model__path="/home/someone/Model", **changes)
    card = model_card(dataclasses.replace(data, summary=None, weights={}, config=config))
    front = _front_matter(card)
    assert (front.get("datasets"), front["tags"]) == (datasets, ["lora", "jax"])
    assert "on 120 examples (rows without a target to train on: 8)" in card
    for hidden in ("someone", "DART", "Conclusion", "39.0"):
        assert hidden not in card
    ast.parse(_code(card))


def test_a_switch_that_was_off_is_off_in_the_code(data):
    """As the prompts of training; where the template has no switch, the code has none."""
    switched = _code(model_card(dataclasses.replace(data, thinking_is_off=True)))
    ast.parse(switched)
    assert 'return_tensors="pt", enable_thinking=False' in switched
    assert "enable_thinking" not in model_card(data)


def test_further_evaluators_are_named_without_their_places(data):
    judge = {
        **_config()["evaluate"]["judge"],
        "provider": "openai",
        "model": "/home/someone/private/Other",
        "base_url": "http://10.0.0.1:8000/v1",
        "api_key_env": "SECRET_SERVICE_KEY",
    }
    config = _config(evaluate__judge=judge, evaluate__scorers=("hf:/home/someone/private/b",))
    card = model_card(dataclasses.replace(data, config=config))
    assert "judge openai Other" in card and "scorers hf:b" in card
    for hidden in ("someone", "private", "10.0.0.1", "SECRET_SERVICE_KEY"):
        assert hidden not in card
    idle = model_card(data)
    assert "judge none" not in idle and "scorers hf" not in idle
