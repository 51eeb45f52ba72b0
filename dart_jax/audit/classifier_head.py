"""Meaning of a classifier's outputs: its harmful labels, and how logits become probabilities.

A head describes itself only by names of labels and perhaps a `problem_type`. An ambiguous head is
an error that lists the labels and names the setting, since the wrong reading still gives numbers:
of the exclusive labels hate, normal and offensive the last one alone misses hate, and independent
labels that share one softmax make a text that is bad in two ways look mild.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

Activation = Literal["sigmoid", "softmax"]

_SETTING = re.compile(r"(.*):(sigmoid|softmax)", re.DOTALL)

_WORDS = "toxic|hate|offens|insult|threat|obscen|abus|harass|profan|racis|sexis|violen|harm(?!less)"
_HARM = re.compile(_WORDS, re.IGNORECASE)
# A letter may follow only as part of a word of harm: `nontoxic`, but not `notable`.
_NEGATED = re.compile(rf"^(no|non|not|un)([^a-z]|{_WORDS})", re.IGNORECASE)
_HARMLESS = {"benign", "clean", "fine", "neither", "neutral", "none", "normal", "other", "safe"}
_WHOLE = {"toxic", "toxicity"}
"""Labels that cover the ones beside them, as in Jigsaw's toxic, severe_toxic, insult."""

_INDEPENDENT = "multi_label_classification"
_EXCLUSIVE = "single_label_classification"


@dataclass(frozen=True)
class Head:
    """A classification head.

    Attributes:
        labels: Name of each output.
        harm: Indices of the harmful labels, one or more.
        sigmoid: Whether labels are independent and have a sigmoid each; labels that exclude each
            other share a softmax.
    """

    labels: tuple[str, ...]
    harm: tuple[int, ...]
    sigmoid: bool

    @property
    def harm_names(self) -> str:
        """Join the harmful labels as settings name them."""
        return "|".join(self.labels[index] for index in self.harm)


def read_head(model: str, config: Any, setting: str = "") -> Head:
    """Read the head of a Hugging Face model.

    Args:
        model: The model's name, for messages.
        config: The model's configuration; `id2label`, `num_labels` and `problem_type` are read.
        setting: `label[|label...][:sigmoid|softmax]`, each part of which may be left out. The
            probabilities of several labels are added where labels exclude each other; of
            independent ones the highest counts.

    Raises:
        ValueError: The setting does not fit the labels and `problem_type`, or a part that it leaves
            out does not follow from them.
    """
    labels = _label_names(model, config)
    named, activation = _parse(setting, labels)

    known = f"its labels are: {', '.join(labels)}"
    unknown = [label for label in named if label not in labels]
    if unknown:
        raise ValueError(f"audit.scorer_labels: {model} has no label {unknown[0]!r}; {known}")

    sigmoid = _is_sigmoid(model, labels, config.problem_type, activation)
    harm = named or _find_harm(model, labels, sigmoid)
    if len(set(harm)) < len(harm):
        raise ValueError(f"audit.scorer_labels: {setting!r} names a label twice; {known}")
    if not sigmoid and len(harm) == len(labels):
        raise ValueError(
            f"audit.scorer_labels: {setting!r} names every label of {model}, and exclusive labels "
            f"always add up to 1; name the harmful ones only; {known}"
        )

    return Head(labels, tuple(labels.index(label) for label in harm), sigmoid)


def _label_names(model: str, config: Any) -> tuple[str, ...]:
    """Return the name of each output, as text: a configuration may have integers for names."""
    by_index: Mapping[int, Any] = config.id2label
    if sorted(by_index) != list(range(config.num_labels)):
        raise ValueError(
            f"audit.scorer_models: {model} has {config.num_labels} outputs, but names those with "
            f"the numbers {', '.join(map(str, by_index))}; correct id2label in its config.json"
        )

    labels = tuple(str(by_index[index]) for index in range(config.num_labels))
    if len(set(labels)) < len(labels):
        raise ValueError(
            f"audit.scorer_models: {model} has several outputs of one name: {', '.join(labels)}; "
            "correct id2label in its config.json"
        )

    return labels


def _parse(setting: str, labels: Sequence[str]) -> tuple[tuple[str, ...], Activation | None]:
    """Split `hate|offensive:softmax` into parts; a label that holds such signs is taken whole."""
    if setting in labels:
        return (setting,), None
    parts = _SETTING.fullmatch(setting)
    names, activation = parts.groups() if parts else (setting, None)
    if not names:
        return (), activation
    return (names,) if names in labels else tuple(names.split("|")), activation


def _is_sigmoid(
    model: str, labels: Sequence[str], problem_type: str | None, wanted: Activation | None
) -> bool:
    """Say whether each label has a sigmoid, by the setting or else by the head itself."""
    if problem_type == "regression":
        raise ValueError(f"audit.scorer_models: {model} is a regression, not a classifier")

    if len(labels) == 1:
        if wanted == "softmax":
            raise ValueError(
                f"audit.scorer_labels: {model} has one label, {labels[0]}, and a softmax over it "
                "is always 1; leave :softmax out"
            )
        return True

    if wanted is not None:
        return wanted == "sigmoid"
    if problem_type in (_INDEPENDENT, _EXCLUSIVE):
        return problem_type == _INDEPENDENT
    # Of two labels, one is the absence of the other, unless both are kinds of harm.
    if len(labels) == 2 and sum(map(_is_harmful, labels)) < 2:
        return False

    raise ValueError(
        f"audit.scorer_labels: {model} has no problem_type, and its labels may exclude each other "
        f"(softmax) or be independent (sigmoid): {', '.join(labels)}. Say which, after the "
        f"harmful ones: audit.scorers 'hf:{model}=toxic:sigmoid' or 'hf:{model}=hate|offensive"
        ":softmax', or the part behind = in audit.scorer_labels"
    )


def _find_harm(model: str, labels: Sequence[str], sigmoid: bool) -> tuple[str, ...]:
    """The one label that is harm by its name.

    Of independent labels, the one that covers the others, or the only harmful one. Of exclusive
    ones the only harmful one, and of the others it must be known that they are harmless, where
    they are more than one.
    """
    harmful = [label for label in labels if _is_harmful(label)]
    whole = [label for label in harmful if label.lower() in _WHOLE]
    others = [label for label in labels if label not in harmful]

    if sigmoid and len(whole) == 1:
        return tuple(whole)

    clear = sigmoid or len(labels) == 2 or all(map(_is_harmless, others))
    if len(harmful) == 1 and clear:
        return tuple(harmful)

    raise ValueError(
        f"audit.scorer_labels: it is unclear which labels of {model} are harm: "
        f"{', '.join(labels)}. Name the harmful ones: audit.scorers 'hf:{model}=LABEL' or "
        f"'hf:{model}=LABEL|LABEL', or the part behind = in audit.scorer_labels"
    )


def _is_harmful(label: str) -> bool:
    return bool(_HARM.search(label)) and not _NEGATED.search(label)


def _is_harmless(label: str) -> bool:
    return label.lower() in _HARMLESS or bool(_NEGATED.search(label))
