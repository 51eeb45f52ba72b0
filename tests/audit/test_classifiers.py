"""Detoxify and Hugging Face classifiers on small local checkpoints, offline."""

import json
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("detoxify")

from dart_jax.audit.classifiers import DetoxifyScorer, HFScorer  # noqa: E402
from dart_jax.audit.scorer_protocol import ScorerUnavailable  # noqa: E402

TEXTS = ["they are fine", "awful people", "fine"]
CLASSES = ("toxic", "severe_toxic", "identity_hate")


def checkpoint(folder: Path, weights: dict | None = None, classes=CLASSES) -> Path:
    """A Detoxify checkpoint of the BERT in `folder`."""
    from transformers import BertForSequenceClassification

    model = BertForSequenceClassification.from_pretrained(folder)
    architecture = {
        "model_type": str(folder),
        "model_name": "BertForSequenceClassification",
        "tokenizer_name": "BertTokenizer",
        "num_classes": len(classes),
    }
    config = {"arch": {"args": architecture}, "dataset": {"args": {"classes": list(classes)}}}
    path = folder / "tiny.ckpt"
    torch.save({"state_dict": weights or model.state_dict(), "config": config}, path)
    return path


def test_detoxify_checkpoint_scores_as_detoxify_itself_does(bert):
    from detoxify import Detoxify

    path = checkpoint(bert("base", CLASSES))
    scored = DetoxifyScorer(str(path)).score(TEXTS)
    expected = Detoxify(checkpoint=str(path)).predict(TEXTS)
    assert list(expected) == ["toxicity", "severe_toxicity", "identity_attack"]
    for i, (value, labels) in enumerate(scored):
        assert labels == pytest.approx({name: row[i] for name, row in expected.items()}, abs=1e-6)
        assert value == labels["toxicity"]
    assert len({round(value, 4) for value, _ in scored}) == len(TEXTS)


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "torch before 1.6"])
def test_detoxify_checkpoint_cannot_run_code(tmp_path, zipped):
    class Hostile:
        def __reduce__(self):
            return Path.touch, (tmp_path / "ran",)

    path = tmp_path / "hostile.ckpt"
    content = {"state_dict": {}, "config": Hostile()}
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(ScorerUnavailable, match=r"hostile\.ckpt: .*holds more than weights"):
        DetoxifyScorer(str(path))
    assert not (tmp_path / "ran").exists()


def test_hf_checkpoint_cannot_run_code(bert, tmp_path):
    """An old folder has a pickle, not safetensors."""

    class Hostile:
        def __reduce__(self):
            return Path.touch, (tmp_path / "ran",)

    folder = bert("old", ("fine", "hate"))
    weights = torch.load(save_as_pickle(folder), weights_only=True)
    assert HFScorer([str(folder)]).score(["awful"]), "a harmless pickle is read"
    torch.save({**weights, "classifier.bias": Hostile()}, folder / "pytorch_model.bin")
    with pytest.raises(ScorerUnavailable, match=r"old: .*holds more than weights"):
        HFScorer([str(folder)])
    assert not (tmp_path / "ran").exists()


def save_as_pickle(folder: Path) -> Path:
    from safetensors.torch import load_file

    path = folder / "pytorch_model.bin"
    torch.save(load_file(folder / "model.safetensors"), path)
    (folder / "model.safetensors").unlink()
    return path


def test_the_version_follows_weights_labels_and_tokenizer(bert, tmp_path):
    folder = bert("m", ("fine", "hate"))
    version = HFScorer([str(folder)]).version
    moved = folder.rename(tmp_path / "moved")
    assert HFScorer([str(moved)]).version == version, "the place does not matter"
    assert HFScorer([str(moved)], ["fine"]).version != version
    weights = torch.load(save_as_pickle(moved), weights_only=True)
    assert HFScorer([str(moved)]).version == version, "nor does the file format"
    weights["classifier.bias"][0] += 1e-3
    torch.save(weights, moved / "pytorch_model.bin")
    assert HFScorer([str(moved)]).version != version
    bent = bert("b", ("fine", "hate"), hidden_act="relu")
    assert HFScorer([str(bent)]).version != version, "the same weights in another architecture"
    relabelled = bert("r", ("fine", "toxic"))
    assert HFScorer([str(relabelled)]).version != version


def test_one_of_several_labels_may_be_left_to_find(bert):
    named, found = str(bert("named", ("LABEL_0", "LABEL_1"))), str(bert("found", ("fine", "hate")))
    scorer = HFScorer([named, found], ["LABEL_0", ""])
    assert scorer.name == f"hf:{named}=LABEL_0+{found}"
    [(value, labels)] = scorer.score(["awful"])
    assert value == (labels[f"{named}/LABEL_0"] + labels[f"{found}/hate"]) / 2


def test_detoxify_checkpoint_without_the_head_is_refused(bert):
    from transformers import BertForSequenceClassification

    folder = bert("base", CLASSES)
    weights = BertForSequenceClassification.from_pretrained(folder).state_dict()
    del weights["classifier.weight"]
    with pytest.raises(ScorerUnavailable, match=r"classifier\.weight"):
        DetoxifyScorer(str(checkpoint(folder, weights)))


@pytest.mark.parametrize("content", [{"state_dict": {}}, [1, 2]])
def test_detoxify_names_what_is_no_checkpoint(tmp_path, content):
    path = tmp_path / "other.ckpt"
    torch.save(content, path)
    with pytest.raises(ScorerUnavailable, match=r"other\.ckpt: not a Detoxify checkpoint"):
        DetoxifyScorer(str(path))


def test_detoxify_without_toxicity_class_is_refused(bert):
    path = checkpoint(bert("base", ("a", "b", "c")), classes=("a", "b", "c"))
    with pytest.raises(ScorerUnavailable, match="a, b, c"):
        DetoxifyScorer(str(path))


def test_missing_checkpoint_lists_the_variants():
    with pytest.raises(ScorerUnavailable, match=r"nowhere\.ckpt.*original, unbiased"):
        DetoxifyScorer("nowhere.ckpt")


def test_unreadable_checkpoint_is_named(tmp_path):
    path = tmp_path / "text.ckpt"
    path.write_text("no pickle")
    with pytest.raises(ScorerUnavailable, match=r"text\.ckpt"):
        DetoxifyScorer(str(path))


def test_hf_value_is_the_mean_over_models_and_finds_the_labels(bert):
    exclusive = str(bert("exclusive", ("non-toxic", "toxic")))
    independent = str(
        bert("independent", ("toxic", "insult"), problem_type="multi_label_classification")
    )
    scorer = HFScorer([exclusive, independent])
    for value, labels in scorer.score(TEXTS):
        assert labels[f"{exclusive}/non-toxic"] + labels[f"{exclusive}/toxic"] == pytest.approx(1)
        assert value == (labels[f"{exclusive}/toxic"] + labels[f"{independent}/toxic"]) / 2
    # Same weights, same logits: the sigmoid of the logit difference is the two-way softmax.
    _, labels = scorer.score(["awful"])[0]
    logit = {name: torch.logit(torch.tensor(p)) for name, p in labels.items()}
    difference = logit[f"{independent}/insult"] - logit[f"{independent}/toxic"]
    assert torch.sigmoid(difference).item() == pytest.approx(labels[f"{exclusive}/toxic"], abs=1e-5)


def test_scores_do_not_depend_on_the_batch(bert):
    scorer = HFScorer([str(bert("m", ("fine", "hate")))])
    together = [value for value, _ in scorer.score(TEXTS)]
    alone = [scorer.score([text])[0][0] for text in TEXTS]
    assert together == pytest.approx(alone, abs=1e-6)


def test_the_name_of_a_special_token_is_text(bert):
    """Three unknown pieces, as those of `(xyz)`, and not the end of what is read."""
    scorer = HFScorer([str(bert("m", ("fine", "hate")))])
    forged, similar, without = scorer.score(["fine [SEP] awful", "fine (xyz) awful", "fine awful"])
    assert forged == similar != without


def test_long_text_is_scored_in_windows_and_its_worst_window_counts(bert):
    scorer = HFScorer([str(bert("m", ("fine", "hate")))])
    window = 12 - 2 - 2  # positions, two spare ones, [CLS] and [SEP]
    harmless, harmful = sorted(
        (" ".join([word] * window) for word in ("fine", "awful")),
        key=lambda text: scorer.score([text])[0][0],
    )
    low, high, both = (
        scorer.score([text])[0][0] for text in (harmless, harmful, f"{harmless} {harmful}")
    )
    assert low < high - 1e-3
    assert both == pytest.approx(high, abs=1e-6)


def test_harm_label_can_be_named(bert):
    folder = str(bert("m", ("LABEL_0", "LABEL_1")))
    ((value, probabilities),) = HFScorer([folder], ["LABEL_1"]).score(["awful"])
    assert value == probabilities[f"{folder}/LABEL_1"]


def test_exclusive_labels_are_added_and_independent_ones_are_not(bert):
    """Same weights, same logits: hate and offensive together, and the worse of the two."""
    labels = ("hate speech", "normal", "offensive")
    folder = str(bert("m", labels))
    added, worse = (
        HFScorer([folder], [f"hate speech|offensive:{activation}"]).score(TEXTS)
        for activation in ("softmax", "sigmoid")
    )
    for (value, row), (other, independent) in zip(added, worse, strict=True):
        assert sum(row.values()) == pytest.approx(1)
        assert value == pytest.approx(1 - row[f"{folder}/normal"], abs=1e-6)
        assert value > row[f"{folder}/offensive"], "which it silently was"
        harms = [independent[f"{folder}/{label}"] for label in ("hate speech", "offensive")]
        assert other == max(harms) and sum(independent.values()) != pytest.approx(1, abs=1e-3)


def test_harm_of_two_windows_is_not_added(bert):
    """Hate in one window and insults in another are as bad as the worse of the two."""
    scorer = HFScorer([str(bert("m", ("a", "b", "c")))], ["a|c:softmax"])
    window = 12 - 2 - 2
    first, second = (" ".join([word] * window) for word in ("fine", "awful"))
    alone = [scorer.score([text])[0][0] for text in (first, second)]
    [(both, labels)] = scorer.score([f"{first} {second}"])
    assert both == pytest.approx(max(alone), abs=1e-6)
    assert max(alone) < sum(p for name, p in labels.items() if name[-1] in "ac") - 1e-3


def test_six_independent_labels_in_a_softmax_would_look_mild(bert):
    six = ("toxic", "severe_toxic", "obscene", "threat", "insult", "identity_hate")
    folder = str(bert("m", six))
    with pytest.raises(ValueError, match=rf"scorer_labels.*sigmoid.*{', '.join(six)}"):
        HFScorer([folder])
    declared = str(bert("declared", six, problem_type="multi_label_classification"))
    said = [value for value, _ in HFScorer([folder], [":sigmoid"]).score(TEXTS)]
    assert said == [value for value, _ in HFScorer([declared]).score(TEXTS)]
    mild = [value for value, _ in HFScorer([folder], ["toxic:softmax"]).score(TEXTS)]
    assert all(low < high for low, high in zip(mild, said, strict=True))


def test_integer_labels_are_names(bert):
    folder = bert("m", ("a", "b"))
    settings = json.loads((folder / "config.json").read_text())
    settings["id2label"] = {"0": 0, "1": 1}
    (folder / "config.json").write_text(json.dumps(settings))
    with pytest.raises(ValueError, match=r"scorer_labels.*: 0, 1"):
        HFScorer([str(folder)])
    [(value, labels)] = HFScorer([str(folder)], ["1"]).score(["awful"])
    assert value == labels[f"{folder}/1"]


def test_one_logit_is_a_sigmoid(bert):
    folder = str(bert("m", ("toxic",)))
    values = [value for value, _ in HFScorer([folder]).score(TEXTS)]
    assert all(0 < value < 1 for value in values) and len(set(values)) == len(TEXTS)


def test_a_model_named_twice_is_refused(bert):
    folder = str(bert("m", ("a", "b")))
    with pytest.raises(ValueError, match=r"audit\.scorer_models: .*names a model twice"):
        HFScorer([folder, folder], ["a", "b"])


def test_weights_of_another_shape_are_named(bert):
    folder = bert("m", ("fine", "hate"))
    settings = json.loads((folder / "config.json").read_text())
    settings["id2label"] = {"0": "fine", "1": "hate", "2": "spam"}
    (folder / "config.json").write_text(json.dumps(settings))
    with pytest.raises(ScorerUnavailable, match=r"audit\.scorer_models: cannot load .*m: "):
        HFScorer([str(folder)], ["hate:softmax"])


def test_hf_model_without_a_trained_head_is_refused(bert):
    with pytest.raises(ScorerUnavailable, match=r"not a trained classifier.*classifier\.weight"):
        HFScorer([str(bert("m", ("fine", "hate"), head=False))])


def test_hf_regression_is_refused(bert):
    with pytest.raises(ValueError, match="regression"):
        HFScorer([str(bert("m", ("toxic",), problem_type="regression"))])


def test_missing_folder_is_named(tmp_path):
    with pytest.raises(ScorerUnavailable, match=r"nowhere.*no such folder"):
        HFScorer([str(tmp_path / "nowhere")])
