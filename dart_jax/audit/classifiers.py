"""Harm scorers that run a transformer classifier in torch, on the CPU: Detoxify, Hugging Face.

A text longer than the classifier's context is scored in windows, and each label keeps its highest
probability: harm at the end of a long text counts as much as harm at its start.
"""

import hashlib
import json
import pickle
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dart_jax.audit.classifier_head import Head, read_head
from dart_jax.audit.scorer_protocol import Scored, ScorerUnavailable
from dart_jax.extras import need

if TYPE_CHECKING:
    from torch import Tensor

# Part of every version. Raise it when this file scores a text in another way.
_SCORING = 2

# Torch's own message would tell the user how to load it unsafely.
_NOT_WEIGHTS = (
    "it is damaged, or holds more than weights, which is refused: a pickle can run code; convert "
    "it to safetensors where you trust it"
)

_DETOXIFY_NAMES = {
    "toxic": "toxicity",
    "identity_hate": "identity_attack",
    "severe_toxic": "severe_toxicity",
}
"""Detoxify's renaming of labels, which makes those of its variants alike."""


@dataclass(frozen=True)
class _Classifier:
    """A sequence classifier with its tokenizer and the meaning of its outputs."""

    model: Any
    tokenizer: Any
    head: Head

    def score(self, texts: list[str]) -> list[Scored]:
        """Score harm and each label, each as the highest probability over a text's windows."""
        import torch

        encoded = self.tokenizer(
            texts,
            padding=True,
            truncation=True,
            max_length=_window_tokens(self.model, self.tokenizer),
            return_overflowing_tokens=True,
            # `</s>` or `[SEP]` in an answer is text: it must not end the classifier's input.
            split_special_tokens=True,
            return_tensors="pt",
        )
        text_of_window = encoded.pop("overflow_to_sample_mapping")
        with torch.inference_mode():
            logits = self.model(**encoded).logits.float()

        labels, harm = self._windows(logits)
        highest_harm = _highest(harm[:, None], text_of_window, len(texts))[:, 0].tolist()
        highest_labels = _highest(labels, text_of_window, len(texts)).tolist()
        named = [dict(zip(self.head.labels, of_text, strict=True)) for of_text in highest_labels]

        return list(zip(highest_harm, named, strict=True))

    def _windows(self, logits: "Tensor") -> tuple["Tensor", "Tensor"]:
        """Turn logits into probabilities: labels [num_windows, num_labels], harm [num_windows].

        Harm is taken in each window by itself: hate in one and insults in another are not added.
        """
        import torch

        if self.head.sigmoid:
            labels = torch.sigmoid(logits)
            return labels, labels[:, self.head.harm].amax(dim=-1)
        labels = torch.softmax(logits, dim=-1)
        # Rounding may take the sum above 1.
        return labels, labels[:, self.head.harm].sum(dim=-1).clamp(max=1.0)

    def version(self) -> str:
        """Digest all that the scores depend on: weights, configuration, tokenizer, labels."""
        import torch

        digest = hashlib.sha256()
        window = _window_tokens(self.model, self.tokenizer)
        facts = (_SCORING, self.head.labels, self.head.harm_names, self.head.sigmoid, window)
        digest.update(json.dumps([*facts, self.tokenizer.backend_tokenizer.to_str()]).encode())
        config = self.model.config.to_dict()

        # Neither path nor version changes a score.
        for irrelevant in ("_name_or_path", "transformers_version"):
            config.pop(irrelevant, None)

        digest.update(json.dumps(config, sort_keys=True, default=str).encode())
        for name, tensor in sorted(self.model.state_dict().items()):
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            # Bytes, as numpy lacks some of torch's types (bfloat16); flat, as a scalar has no axis.
            digest.update(tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy())

        return digest.hexdigest()[:16]


def _highest(windows: "Tensor", text_of_window: "Tensor", num_texts: int) -> "Tensor":
    """Take the highest value of each column over the windows of each text: [num_texts, columns]."""
    import torch

    index = text_of_window[:, None].expand_as(windows)
    # The zeros count in the maximum, too; no probability is below them.
    empty = torch.zeros(num_texts, windows.shape[1])
    return empty.scatter_reduce(0, index, windows, reduce="amax")


class DetoxifyScorer:
    """Detoxify [Hanu and Unitary team 2020]; `toxicity` is the value, all labels are kept.

    Args:
        model: A variant (`original`, `unbiased`, `multilingual`, `original-small`,
            `unbiased-small`; downloaded once by torch.hub) or a checkpoint file in Detoxify's
            format: `state_dict`, and `config` with `arch.args` and `dataset.args.classes`.
            `arch.args.model_type` names the Hugging Face folder or repository of configuration
            and tokenizer.

    Raises:
        MissingExtra: torch or detoxify is not installed.
        ScorerUnavailable: The checkpoint is missing, or the file is no checkpoint.
    """

    def __init__(self, model: str = "original") -> None:
        need("classifiers", ("torch", "detoxify"), "audit.scorer detoxify")
        from detoxify import detoxify as library

        self.name = f"detoxify:{model}"
        self._classifier = _load_detoxify(library, model)
        self.version = self._classifier.version()

    def score(self, texts: list[str]) -> list[Scored]:
        """Score texts as `Scorer` does."""
        return self._classifier.score(texts)


class HFScorer:
    """One or several Hugging Face sequence classifiers; the value is their mean harm probability.

    Args:
        models: Names on the hub, or folders.
        labels: Harmful labels of each model, as `label[|label...][:sigmoid|softmax]`, see
            `classifier_head.read_head`. Where empty, as a whole or for one model, they are read
            from the head itself.

    Raises:
        MissingExtra: torch is not installed.
        ScorerUnavailable: A model is missing, or has no trained head.
        ValueError: No model is named, or one twice, or the harmful labels are unknown or ambiguous.
    """

    def __init__(self, models: Sequence[str], labels: Sequence[str] = ()) -> None:
        if not models:
            raise ValueError("audit.scorer_models: scorer hf needs one model or more")
        if labels and len(labels) != len(models):
            raise ValueError(
                f"audit.scorer_labels: {len(labels)} labels for {len(models)} models; "
                "name one for each model or none"
            )
        if len(set(models)) < len(models):
            raise ValueError(
                f"audit.scorer_models: {', '.join(models)} names a model twice; several labels of "
                "one model are joined by |, as in hate|offensive"
            )

        need("classifiers", ("torch",), "audit.scorer hf")
        label_of = dict(zip(models, labels or ("",) * len(models), strict=True))
        specs = [f"{name}={label}" if label else name for name, label in label_of.items()]
        self.name = "hf:" + "+".join(specs)
        self._models = {name: _load_hf(name, label) for name, label in label_of.items()}
        self.version = "+".join(model.version() for model in self._models.values())

    def score(self, texts: list[str]) -> list[Scored]:
        """Score texts as `Scorer` does; labels are named `model/label`."""
        by_model = [model.score(texts) for model in self._models.values()]
        return [self._combine(of_text) for of_text in zip(*by_model, strict=True)]

    def _combine(self, scored: Sequence[Scored]) -> Scored:
        """Combine the scores that the models gave to one text."""
        harm = [value for value, _ in scored]
        labels = {}
        for name, (_, of_model) in zip(self._models, scored, strict=True):
            for label, probability in of_model.items():
                labels[f"{name}/{label}"] = probability
        return sum(harm) / len(harm), labels


def _load_detoxify(library: Any, name: str) -> _Classifier:
    """Load a model as Detoxify does, except for reading the file.

    Detoxify's loader unpickles whatever the checkpoint holds, which can run code; here torch reads
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

    head = Head(labels, (labels.index("toxicity"),), sigmoid=True)
    return _Classifier(model.eval(), _fast(tokenizer, name), head)


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


def _load_hf(name: str, setting: str) -> _Classifier:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    try:
        model, info = AutoModelForSequenceClassification.from_pretrained(
            name, dtype="float32", output_loading_info=True, weights_only=True
        )
        tokenizer = AutoTokenizer.from_pretrained(name)
    except pickle.UnpicklingError as error:
        raise _not_loaded(name, _NOT_WEIGHTS) from error
    except (OSError, ValueError, RuntimeError) as error:  # RuntimeError: weights of other shapes
        # A path that is no folder is looked up on the hub, whose error does not say so.
        where = "" if Path(name).is_dir() else "no such folder, and from the hub: "
        raise _not_loaded(name, where + _first_line(error)) from error

    if info["missing_keys"]:
        first = ", ".join(sorted(info["missing_keys"])[:3])
        raise _not_loaded(name, f"not a trained classifier, it has no {first}")

    head = read_head(name, model.config, setting)
    return _Classifier(model.eval(), _fast(tokenizer, name), head)


def _window_tokens(model: Any, tokenizer: Any) -> int:
    """Return the maximal number of tokens in one window.

    Tokenizers without a limit report an astronomic one, and RoBERTa models count two positions that
    no token can use. Where a configuration is silent, 512 tokens are assumed.
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
