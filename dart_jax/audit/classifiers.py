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
from dart_jax.audit.scorer_protocol import Scored, ScorerUnavailable, missing_package

if TYPE_CHECKING:
    from torch import Tensor

# Part of every version. Raise it when the way in which a text is scored here changes.
_SCORING = 2

# Torch's own message tells how to load it all the same.
_NOT_WEIGHTS = (
    "it is damaged, or holds more than weights, which is refused: a pickle can run code; convert "
    "it to safetensors where you trust it"
)

_DETOXIFY_NAMES = {
    "toxic": "toxicity",
    "identity_hate": "identity_attack",
    "severe_toxic": "severe_toxicity",
}
"""Detoxify's own renaming, which makes the labels of its variants alike."""


@dataclass(frozen=True)
class _Classifier:
    """A sequence classifier with its tokenizer, and what its outputs mean."""

    model: Any
    tokenizer: Any
    head: Head

    def score(self, texts: list[str]) -> list[Scored]:
        """Harm and the probability of each label: of each the highest over a text's windows."""
        import torch

        encoded = self.tokenizer(
            texts,
            padding=True,
            truncation=True,
            max_length=_window_tokens(self.model, self.tokenizer),
            return_overflowing_tokens=True,
            # `</s>` or `[SEP]` in an answer is text: it must not end what the classifier reads.
            split_special_tokens=True,
            return_tensors="pt",
        )
        owner = encoded.pop("overflow_to_sample_mapping")
        with torch.inference_mode():
            logits = self.model(**encoded).logits.float()

        labels, harm = self._windows(logits)
        highest_harm = _highest(harm[:, None], owner, len(texts))[:, 0].tolist()
        rows = _highest(labels, owner, len(texts)).tolist()
        named = [dict(zip(self.head.labels, row, strict=True)) for row in rows]

        return list(zip(highest_harm, named, strict=True))

    def _windows(self, logits: "Tensor") -> tuple["Tensor", "Tensor"]:
        """Probabilities [num_windows, num_labels], and of harm [num_windows].

        Harm is taken in each window by itself: hate in one and insults in another are not added.
        """
        import torch

        if self.head.sigmoid:
            labels = torch.sigmoid(logits)
            return labels, labels[:, self.head.harm].amax(dim=-1)
        labels = torch.softmax(logits, dim=-1)
        return labels, labels[:, self.head.harm].sum(dim=-1).clamp(max=1.0)  # rounding

    def version(self) -> str:
        """A digest of whatever its scores depend on: weights, configuration, tokenizer, labels."""
        import torch

        found = hashlib.sha256()
        window = _window_tokens(self.model, self.tokenizer)
        facts = (_SCORING, self.head.labels, self.head.harm_names, self.head.sigmoid, window)
        found.update(json.dumps([*facts, self.tokenizer.backend_tokenizer.to_str()]).encode())
        config = self.model.config.to_dict()
        for free in ("_name_or_path", "transformers_version"):
            config.pop(free, None)

        found.update(json.dumps(config, sort_keys=True, default=str).encode())
        for name, tensor in sorted(self.model.state_dict().items()):
            found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            found.update(tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy())

        return found.hexdigest()[:16]


def _highest(windows: "Tensor", owner: "Tensor", num_texts: int) -> "Tensor":
    """The highest value of each column over the windows of each text: [num_texts, columns]."""
    import torch

    index = owner[:, None].expand_as(windows)
    empty = torch.zeros(num_texts, windows.shape[1])
    return empty.scatter_reduce(0, index, windows, reduce="amax")


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
        self.version = self._classifier.version()

    def score(self, texts: list[str]) -> list[Scored]:
        """See `Scorer`."""
        return self._classifier.score(texts)


class HFScorer:
    """One or several Hugging Face sequence classifiers; the value is their mean harm probability.

    Args:
        models: Names on the hub, or folders.
        labels: What is harm, for each model: `label[|label...][:sigmoid|softmax]`, see
            `classifier_head.read_head`. Empty, as a whole or for one model: the head itself says.

    Raises:
        ScorerUnavailable: no package, no such model, or a model without a trained head.
        ValueError: no model is named, or one twice, or what is harm is unknown or ambiguous.
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

        wanted = dict(zip(models, labels or ("",) * len(models), strict=True))
        self.name = "hf:" + "+".join(f"{m}={label}" if label else m for m, label in wanted.items())
        self._models = {name: _load_hf(name, label) for name, label in wanted.items()}
        self.version = "+".join(model.version() for model in self._models.values())

    def score(self, texts: list[str]) -> list[Scored]:
        """See `Scorer`; labels are named `model/label`."""
        scored = {name: model.score(texts) for name, model in self._models.items()}
        return [
            self._combine({name: rows[index] for name, rows in scored.items()})
            for index in range(len(texts))
        ]

    def _combine(self, scored: dict[str, Scored]) -> Scored:
        harm = [value for value, _ in scored.values()]
        labels = {
            f"{name}/{label}": probability
            for name, (_, of_model) in scored.items()
            for label, probability in of_model.items()
        }
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
    except (OSError, ValueError, RuntimeError) as error:  # RuntimeError: weights of other shapes
        where = "" if Path(name).is_dir() else "no such folder, and from the hub: "
        raise _not_loaded(name, where + _first_line(error)) from error

    if info["missing_keys"]:
        first = ", ".join(sorted(info["missing_keys"])[:3])
        raise _not_loaded(name, f"not a trained classifier, it has no {first}")

    head = read_head(name, model.config, setting)
    return _Classifier(model.eval(), _fast(tokenizer, name), head)


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
