"""Write the front matter of a model card, as model hubs read it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from dart_jax.evaluate.summary import RunSummary
from dart_jax.report.public import OWN_SUITES, hub_name

if TYPE_CHECKING:
    from huggingface_hub import EvalResult, ModelCardData

_SUITES = {"mini": "dart_jax_mini", "difference_awareness": "difference_awareness"}
# The hub's identifiers of the licences that the known bases come under, by the start of the name.
_LICENCES = {
    "HuggingFaceTB/SmolLM2": "apache-2.0",
    # With its hyphen: 3.1 comes under another licence.
    "meta-llama/Meta-Llama-3-": "llama3",
    "meta-llama/Meta-Llama-3.1": "llama3.1",
    "meta-llama/Llama-3.1": "llama3.1",
    "meta-llama/Llama-3.2": "llama3.2",
    "mistralai/Mistral-7B-": "apache-2.0",
    # Of Qwen2.5, the 3B and the 72B come under others.
    "Qwen/Qwen2.5-0.5B": "apache-2.0",
    "Qwen/Qwen2.5-1.5B": "apache-2.0",
    "Qwen/Qwen2.5-7B": "apache-2.0",
    "Qwen/Qwen3-": "apache-2.0",
}
_REPORTED = {
    "accuracy": "Accuracy",
    "equal_accuracy": "Accuracy on EQUAL questions",
    "diff_accuracy": "Accuracy on DIFF questions",
}


def card_data(
    *,
    base: str,
    form: str,
    data: Mapping[str, Any],
    adapter: str,
    summary: RunSummary | None,
    planted: bool = False,
) -> ModelCardData:
    """State language, licence, base model, tags and evaluation results.

    Args:
        base: The base model's public name.
        form: `peft` or `merged`.
        data: The configuration's section of that name.
        adapter: Which of the run's models this is, such as `M_DART`.
        summary: The run's figures; None where nothing was measured.
        planted: Whether faults were planted in the training targets.
    """
    from huggingface_hub import ModelCardData

    datasets = _datasets(data)
    tags, name, results = ["lora", "jax"], None, None
    # A model of a later cycle is none of the summary's three, and claims no result.
    measured = summary is not None and adapter in summary.models
    if measured:
        tags = ["dart", "difference-awareness", "fairness", *tags]
    if planted:
        tags.append("planted-faults")

    # The hub takes results only with a model's name, and each with its data set.
    if measured and datasets:
        name = f"{base.split('/')[-1]}-DART-{adapter}"
        results = _results(summary, adapter, datasets[0])

    return ModelCardData(
        base_model=base,
        base_model_relation="adapter" if form == "peft" else "finetune",
        datasets=datasets or None,
        eval_results=results,
        # Nobody has said in what language one's own data is.
        language=None if data["suite"] in OWN_SUITES else "en",
        library_name="peft" if form == "peft" else "transformers",
        license=_licence(base),
        model_name=name,
        pipeline_tag="text-generation",
        tags=tags,
    )


def _datasets(data: Mapping[str, Any]) -> list[str]:
    """Name the datasets by their public names; a file of one's own has none."""
    if data["suite"] == "hub":
        return [hub_name(data["hub"])]
    return [_SUITES[data["suite"]]] if data["suite"] in _SUITES else []


def _licence(base: str) -> str | None:
    """Give the base model's licence where it is known; otherwise it is left to be stated."""
    for start, licence in _LICENCES.items():
        if base.startswith(start):
            return licence
    return None


def _results(summary: RunSummary, adapter: str, dataset: str) -> list[EvalResult]:
    """List accuracies and confirmed drift on the test questions, each a share in [0, 1]."""
    from huggingface_hub import EvalResult

    figures = []
    for rate, name in _REPORTED.items():
        figures.append(("accuracy", name, getattr(summary.models[adapter], rate)))
    drift = summary.drift.rates.get(adapter)
    if drift is not None:
        figures.append(("drift_rate", "Confirmed drift against the base model", drift.value))

    # How the questions were held out from training decides what a figure is worth.
    conditions = {"split_by": summary.split_by, "protocol": summary.protocol}
    return [
        EvalResult(
            task_type="text-generation",
            task_name="Difference awareness",
            dataset_type=dataset,
            dataset_name=f"{dataset} (test)",
            dataset_split="test",
            dataset_args=conditions,
            metric_type=kind,
            metric_name=name,
            metric_value=round(value, 4),
        )
        for kind, name, value in figures
        if value is not None
    ]
