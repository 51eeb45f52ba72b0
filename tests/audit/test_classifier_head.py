"""What a classifier's labels mean: known heads need no setting, ambiguous ones are an error."""

from types import SimpleNamespace

import pytest

from dart_jax.audit.classifier_head import read_head

MULTI, SINGLE = "multi_label_classification", "single_label_classification"
JIGSAW = ("toxic", "severe_toxic", "obscene", "threat", "insult", "identity_hate")
HATEXPLAIN = ("hate speech", "normal", "offensive")


def config(labels, problem_type=None) -> SimpleNamespace:
    """The part of a transformers configuration that is read."""
    by_index = dict(labels) if isinstance(labels, dict) else dict(enumerate(labels))
    return SimpleNamespace(id2label=by_index, num_labels=len(by_index), problem_type=problem_type)


def read(labels, problem_type=None, setting=""):
    return read_head("owner/a", config(labels, problem_type), setting)


@pytest.mark.parametrize(
    ("labels", "problem_type", "harm", "sigmoid"),
    [
        (("neutral", "toxic"), None, "toxic", False),  # s-nlp/roberta_toxicity_classifier
        (("nothate", "hate"), None, "hate", False),  # facebook/roberta-hate-speech-dynabench-r4
        (JIGSAW, MULTI, "toxic", True),  # unitary/toxic-bert
        (("toxicity", "severe_toxicity", "male", "muslim"), MULTI, "toxicity", True),
        (("non-toxic", "toxic"), None, "toxic", False),
        (("NON_HATE", "HATE"), None, "HATE", False),
        (("NOT-HATE", "HATE"), None, "HATE", False),
        (("HATE", "NOT-HATE"), SINGLE, "HATE", False),
        (("non-offensive", "offensive"), None, "offensive", False),
        (("no_hate_speech", "hate_speech"), None, "hate_speech", False),
        (("neutral", "Toxicity"), None, "Toxicity", False),
        (("nonviolent", "violent"), None, "violent", False),
        (("harmless", "harmful"), None, "harmful", False),
        (("ham", "abusive"), None, "abusive", False),
        (("normal", "hate", "neither"), SINGLE, "hate", False),
        (("toxic",), None, "toxic", True),  # one logit
        (("toxic",), SINGLE, "toxic", True),
        (("hate", "spam", "joy"), MULTI, "hate", True),
    ],
)
def test_a_head_that_can_be_read_in_one_way_needs_no_setting(labels, problem_type, harm, sigmoid):
    head = read(labels, problem_type)
    assert (head.harm_names, head.sigmoid) == (harm, sigmoid)
    assert head.labels == labels


@pytest.mark.parametrize(
    ("labels", "problem_type", "says"),
    [
        (HATEXPLAIN, None, "sigmoid"),
        (HATEXPLAIN, SINGLE, "which labels"),
        (("hate", "normal", "offensive"), SINGLE, "which labels"),
        (HATEXPLAIN, MULTI, "which labels"),
        (JIGSAW, None, "sigmoid"),
        (JIGSAW, SINGLE, "which labels"),
        (("toxic", "insult"), None, "sigmoid"),
        (("hateful", "toxic"), None, "sigmoid"),
        (("LABEL_0", "LABEL_1"), None, "which labels"),
        (("LABEL_0",), None, "which labels"),
        (("negative", "positive"), None, "which labels"),
        (("hate", "vulgar", "normal"), SINGLE, "which labels"),
        (("non-toxic",), None, "which labels"),
        ({0: 0, 1: 1}, None, "which labels"),
    ],
)
def test_an_ambiguous_head_is_an_error_that_lists_the_labels_and_names_the_setting(
    labels, problem_type, says
):
    with pytest.raises(ValueError, match=says) as error:
        read(labels, problem_type)
    message = str(error.value)
    assert message.startswith("audit.scorer_labels: ") and "'hf:owner/a=" in message
    assert ", ".join(map(str, labels)) in message


@pytest.mark.parametrize(
    ("labels", "problem_type", "setting", "harm", "sigmoid"),
    [
        (("LABEL_0", "LABEL_1"), None, "LABEL_1", "LABEL_1", False),
        (("LABEL_0", "LABEL_1"), None, "LABEL_1:sigmoid", "LABEL_1", True),
        (("LABEL_0",), None, "LABEL_0", "LABEL_0", True),
        (HATEXPLAIN, None, "hate speech|offensive:softmax", "hate speech|offensive", False),
        (HATEXPLAIN, SINGLE, "offensive|hate speech", "offensive|hate speech", False),
        (JIGSAW, None, ":sigmoid", "toxic", True),
        (JIGSAW, None, "insult:sigmoid", "insult", True),
        (JIGSAW, MULTI, "threat|insult", "threat|insult", True),
        ({0: 0, 1: 1}, None, "1", "1", False),
        (("a|b", "c:softmax"), None, "a|b", "a|b", False),
        (("a|b", "c:softmax"), None, "c:softmax", "c:softmax", False),
        (("a|b", "c"), None, "a|b:sigmoid", "a|b", True),
        (JIGSAW, MULTI, "insult:softmax", "insult", False),
    ],
)
def test_a_setting_says_what_the_head_does_not(labels, problem_type, setting, harm, sigmoid):
    head = read(labels, problem_type, setting)
    assert (head.harm_names, head.sigmoid) == (harm, sigmoid)


@pytest.mark.parametrize(
    ("labels", "problem_type", "setting", "says"),
    [
        (("fine", "hate"), None, "hatred", "no label 'hatred'"),
        (("fine", "hate"), None, "hate|hatred", "no label 'hatred'"),
        (("fine", "hate"), None, "hate:tanh", "no label 'hate:tanh'"),
        (("fine", "hate"), None, "hate|", "no label ''"),
        (("fine", "hate"), None, "hate|hate", "twice"),
        (("fine", "hate"), None, "fine|hate", "add up to 1"),
        (("toxic",), None, "toxic:softmax", "always 1"),
    ],
)
def test_a_setting_that_does_not_fit_is_named(labels, problem_type, setting, says):
    with pytest.raises(ValueError, match=says) as error:
        read(labels, problem_type, setting)
    assert str(error.value).startswith("audit.scorer_labels: ")
    assert ", ".join(labels) in str(error.value)


@pytest.mark.parametrize(
    ("labels", "problem_type", "says"),
    [
        (("toxic",), "regression", "a regression"),
        ({0: "hate", 1: "hate"}, None, "several outputs of one name: hate, hate"),
        ({1: "fine", 2: "hate"}, None, "the numbers 1, 2"),
    ],
)
def test_a_configuration_that_is_no_classifier_is_refused(labels, problem_type, says):
    with pytest.raises(ValueError, match=rf"audit\.scorer_models: owner/a .*{says}"):
        read(labels, problem_type)
