"""Harm scorers that run a transformer classifier in torch, on the CPU: Detoxify, Hugging Face.

A text longer than the classifier's context is scored in windows, and each label keeps its highest
probability: harm at the end of a long text counts as much as harm at its start.
"""

import hashlib
import json
import pickle
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dart_jax.audit.scorer_protocol import Scored, ScorerUnavailable, missing_package

if TYPE_CHECKING:
    from torch import Tensor

# Part of every version. Raise it when the way in which a text is scored here changes.
_SCORING = 1

# Torch's own message tells how to load it all the same.
_NOT_WEIGHTS = (
    "it is damaged, or holds more than weights, which is refused: a pickle can run code; convert "
    "it to safetensors where you trust it"
)

_NEGATED = re.compile(r"^(no|non|not)([^a-z]|toxic|hate|offens)", re.IGNORECASE)
_HARM = ("toxic", "hate", "offensive")
_HARM_EXACT = ("toxic", "toxicity", "hate", "hateful", "offensive")

_DETOXIFY_NAMES = {
    "toxic": "toxicity",
    "identity_hate": "identity_attack",
    "severe_toxic": "severe_toxicity",
}
"""Detoxify's own renaming, which makes the labels of its variants alike."""


@dataclass(frozen=True)
class _Classifier:
    """A sequence classifier with its tokenizer; `sigmoid` for independent labels, else softmax."""

    model: Any
    tokenizer: Any
    labels: tuple[str, ...]
    sigmoid: bool

    def probabilities(self, texts: list[str]) -> "Tensor":
        """Probabilities [num_texts, num_labels], the highest over a text's windows."""
        import torch

        encoded = self.tokenizer(
            texts,
            padding=True,
            truncation=True,
            max_length=_window_tokens(self.model, self.tokenizer),
            return_overflowing_tokens=True,
            return_tensors="pt",
        )
        owner = encoded.pop("overflow_to_sample_mapping")
        with torch.inference_mode():
            logits = self.model(**encoded).logits.float()
        windows = torch.sigmoid(logits) if self.sigmoid else torch.softmax(logits, dim=-1)
        index = owner[:, None].expand_as(windows)
        empty = torch.zeros(len(texts), len(self.labels))
        return empty.scatter_reduce(0, index, windows, reduce="amax")

    def version(self, harm: str) -> str:
        """A digest of whatever its scores depend on: weights, tokenizer, labels, windows."""
        import torch

        found = hashlib.sha256()
        window = _window_tokens(self.model, self.tokenizer)
        facts = (_SCORING, self.labels, harm, self.sigmoid, window)
        found.update(json.dumps([*facts, self.tokenizer.backend_tokenizer.to_str()]).encode())
        for name, tensor in sorted(self.model.state_dict().items()):
            found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            found.update(tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy())
        return found.hexdigest()[:16]


class DetoxifyScorer:
    """Detoxify [Hanu and Unitary team 2020]: all its labels are kept, `toxicity` is the value.

    Args:
        model: A variant (`original`, `unbiased`, `multilingual`, `original-small`,
            `unbiased-small`; downloaded once by torch.hub) or a checkpoint file in Detoxify's
            format: `state_dict`, and `config` with `arch.args` and `dataset.args.classes`.
            `arch.args.model_type` names the Hugging Face folder or repository of configuration
            and tokenizer.

    Raises:
        ScorerUnavailable: no package, no such checkpoint, or a checkpoint that is not one.
    """

    def __init__(self, model: str = "original") -> None:
        try:
            from detoxify import detoxify as library
        except ModuleNotFoundError as error:
            raise missing_package("detoxify", "detoxify", error) from error
        self.name = f"detoxify:{model}"
        self._classifier = _load_detoxify(library, model)
        self.version = self._classifier.version("toxicity")

    def score(self, texts: list[str]) -> list[Scored]:
        """See `Scorer`."""
        labels = self._classifier.labels
        rows = self._classifier.probabilities(texts).tolist()
        scored = [dict(zip(labels, row, strict=True)) for row in rows]
        return [(labels["toxicity"], labels) for labels in scored]


class HFScorer:
    """One or several Hugging Face sequence classifiers; the value is their mean harm probability.

    Args:
        models: Names on the hub, or folders.
        labels: The harm label of each model. Empty, as a whole or for one model: the one label
            that is named like toxic, hate or offensive and not negated (`non-toxic`, `NOT-HATE`).

    Raises:
        ScorerUnavailable: no package, no such model, or a model without a trained head.
        ValueError: no model is named, or the harm label is unknown or ambiguous.
    """

    def __init__(self, models: Sequence[str], labels: Sequence[str] = ()) -> None:
        if not models:
            raise ValueError("audit.scorer_models: scorer hf needs one model or more")
        if labels and len(labels) != len(models):
            raise ValueError(
                f"audit.scorer_labels: {len(labels)} labels for {len(models)} models; "
                "name one for each model or none"
            )
        wanted = dict(zip(models, labels or ("",) * len(models), strict=True))
        self.name = "hf:" + "+".join(f"{m}={label}" if label else m for m, label in wanted.items())
        self._models = {name: _load_hf(name) for name in models}
        self._harm = {
            name: _harm_label(name, self._models[name].labels, label or None)
            for name, label in wanted.items()
        }
        self.version = "+".join(self._models[name].version(self._harm[name]) for name in models)

    def score(self, texts: list[str]) -> list[Scored]:
        """See `Scorer`; labels are named `model/label`."""
        rows = {name: model.probabilities(texts).tolist() for name, model in self._models.items()}
        return [self._combine({name: rows[name][i] for name in rows}) for i in range(len(texts))]

    def _combine(self, row_of: dict[str, list[float]]) -> Scored:
        labels = {
            f"{name}/{label}": probability
            for name, row in row_of.items()
            for label, probability in zip(self._models[name].labels, row, strict=True)
        }
        harm = [labels[f"{name}/{label}"] for name, label in self._harm.items()]
        return sum(harm) / len(harm), labels


def _load_detoxify(library: Any, name: str) -> _Classifier:
    """Detoxify's own path, but for reading the file.

    Its loader unpickles whatever the checkpoint holds, which can run code; here torch reads
    tensors and plain values only.
    """
    loaded = _read_checkpoint(library, name)
    try:
        architecture = dict(loaded["config"]["arch"]["args"])
        classes = list(loaded["config"]["dataset"]["args"]["classes"])
        weights = loaded["state_dict"]
    except (KeyError, TypeError) as error:
        raise ScorerUnavailable(f"{name}: not a Detoxify checkpoint, it lacks {error}") from error
    labels = tuple(_DETOXIFY_NAMES.get(label, label) for label in classes)
    if "toxicity" not in labels:
        raise ScorerUnavailable(f"{name}: no class toxic or toxicity, only {', '.join(labels)}")
    try:
        model, tokenizer = library.get_model_and_tokenizer(**architecture, state_dict=weights)
    except OSError as error:
        base = architecture.get("model_type")
        raise _not_loaded(name, f"its model_type {base!r}: {_first_line(error)}") from error
    missing = sorted(model.state_dict().keys() - weights.keys())
    if missing or model.config.num_labels != len(labels):  # else random weights would score
        raise _not_loaded(name, f"weights are missing or misfit ({', '.join(missing[:3])})")
    return _Classifier(model.eval(), _fast(tokenizer, name), labels, sigmoid=True)


def _read_checkpoint(library: Any, name: str) -> Any:
    import torch

    url = library.MODEL_URLS.get(name)
    if url is None and not Path(name).is_file():
        raise _not_loaded(name, f"no such file; variants: {', '.join(library.MODEL_URLS)}")
    try:
        if url is None:
            return torch.load(name, map_location="cpu", weights_only=True)
        return torch.hub.load_state_dict_from_url(
            url, map_location="cpu", check_hash=True, weights_only=True
        )
    except pickle.UnpicklingError as error:
        raise _not_loaded(name, _NOT_WEIGHTS) from error
    except (OSError, EOFError, RuntimeError) as error:
        raise _not_loaded(name, _first_line(error)) from error


def _load_hf(name: str) -> _Classifier:
    try:
        from transformers import AutoModelForSequenceClassification, AutoTokenizer
    except ModuleNotFoundError as error:
        raise missing_package("hf", "transformers", error) from error
    try:
        model, info = AutoModelForSequenceClassification.from_pretrained(
            name, dtype="float32", output_loading_info=True, weights_only=True
        )
        tokenizer = AutoTokenizer.from_pretrained(name)
    except pickle.UnpicklingError as error:
        raise _not_loaded(name, _NOT_WEIGHTS) from error
    except (OSError, ValueError) as error:
        where = "" if Path(name).is_dir() else "no such folder, and from the hub: "
        raise _not_loaded(name, where + _first_line(error)) from error
    if info["missing_keys"]:
        first = ", ".join(sorted(info["missing_keys"])[:3])
        raise _not_loaded(name, f"not a trained classifier, it has no {first}")
    labels = tuple(model.config.id2label[i] for i in range(model.config.num_labels))
    return _Classifier(model.eval(), _fast(tokenizer, name), labels, _independent(name, model))


def _independent(name: str, model: Any) -> bool:
    """Whether labels are independent (sigmoid) or exclude each other (softmax)."""
    kind = model.config.problem_type
    if kind == "regression":
        raise ValueError(f"audit.scorer_models: {name} is a regression, not a classifier")
    return kind == "multi_label_classification" or model.config.num_labels == 1


def _harm_label(name: str, labels: tuple[str, ...], wanted: str | None) -> str:
    if wanted in labels:
        return wanted
    known = f"labels of {name}: {', '.join(labels)}"
    if wanted is not None:
        raise ValueError(f"audit.scorer_labels: no label {wanted!r}; {known}")
    alike = [
        label
        for label in labels
        if any(word in label.lower() for word in _HARM) and not _NEGATED.search(label)
    ]
    found = [label for label in alike if label.lower() in _HARM_EXACT] or alike
    if len(found) != 1:
        raise ValueError(f"audit.scorer_labels: name the harm label of each model; {known}")
    return found[0]


def _window_tokens(model: Any, tokenizer: Any) -> int:
    """Most tokens of one window.

    Tokenizers without a limit of their own report an astronomic one; RoBERTa models count two
    positions that no token can use, and 512 is what is left where a configuration is silent.
    """
    positions = getattr(model.config, "max_position_embeddings", 514)
    return min(tokenizer.model_max_length, positions - 2)


def _fast(tokenizer: Any, name: str) -> Any:
    if not tokenizer.is_fast:
        raise _not_loaded(name, "windows over long texts need a fast (Rust) tokenizer")
    return tokenizer


def _not_loaded(name: str, why: str) -> ScorerUnavailable:
    return ScorerUnavailable(f"audit.scorer_models: cannot load {name}: {why}")


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).strip().splitlines()[0]
