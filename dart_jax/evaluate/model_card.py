"""The model card of an exported adapter or merged model: a `README.md` as model hubs read it.

Nothing in it names a place on the machine that made it, a server or a key.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from dart_jax.evaluate import audit_sections, sections
from dart_jax.evaluate.markdown import escape, table
from dart_jax.evaluate.protocol import protocol_sentences
from dart_jax.model.load import EMBEDDED
from dart_jax.prompts.templates import load_template

# Shown of the configuration; what is left out does not change a weight or a number, or names a
# place: folders, servers and the variables that hold keys.
_SHOWN = ("lora", "sft", "repair", "data", "teacher", "judge", "audit", "decode", "evaluate")
_HIDDEN = {
    "data.dir",
    "data.file",
    "sft.checkpoint_every",
    "sft.profile_steps",
    *(
        f"{role}.{key}"
        for role in ("teacher", "judge")
        for key in ("base_url", "api_key_env", "concurrency", "timeout")
    ),
}
_TUNED = ("lora", "sft", "data", "teacher")
_OWN = ("jsonl", "hub")
_SUITES = {"mini": "dart_jax_mini", "difference_awareness": "difference_awareness"}


@dataclass(frozen=True)
class CardData:
    """What the card is made of.

    Attributes:
        adapter: Which of the run's models this is, such as `M_DART`.
        form: `peft`: an adapter for the base; `merged`: base and adapter in one.
        storage: What the base was read from and how the weights were stored, in a sentence or
            two; '' where there is nothing to say.
        config: The resolved configuration, nested by section.
        summary: As built by `summary.build_summary`; None for a run that only made targets and
            trained on them, and measured nothing.
        weights: By severity, and for `replay`: `{"examples": count, "weight": sum}`.
        versions: Packages that the run used, and `platform`, which is not shown.
        targets, rejected: Training questions with and without an acceptable target.
    """

    adapter: str
    form: Literal["peft", "merged"]
    storage: str
    config: Mapping[str, Any]
    summary: dict | None
    weights: Mapping[str, Mapping[str, float]]
    versions: Mapping[str, str]
    targets: int
    rejected: int


def public_name(path: str) -> str:
    """A model by its name alone: `owner/name` where that is known, else its path's last part."""
    if path == EMBEDDED:
        return "HuggingFaceTB/SmolLM2-135M-Instruct"
    parts = Path(os.path.abspath(Path(path).expanduser())).parts
    for part in parts:
        if part.startswith("models--"):  # a hub's cache, where the last part is a commit
            return part.removeprefix("models--").replace("--", "/", 1)
    return parts[-1]


def model_card(data: CardData) -> str:
    """The page, front matter included; its tables are those of the run's report."""
    summary, config = data.summary, data.config
    base = public_name(config["model"]["path"])
    if summary is None:
        return _tuning_card(data, base)
    parts = (
        _front_matter(data, base),
        f"# {escape(base)}, DART, {escape(data.adapter)}",
        _what_it_is(data, base),
        _use(data, base),
        _data(data),
        _settings(config),
        sections.results(summary, config["evaluate"]["confidence"]),
        sections.by_benchmark(summary),
        audit_sections.drift(summary),
        _repair(data),
        _protocol(summary),
        _limits(summary, config),
        _versions(data.versions),
    )
    return "\n\n".join(parts) + "\n"


def _tuning_card(data: CardData, base: str) -> str:
    """Of a model that was trained and not measured: what can be said of it."""
    config = data.config
    own = config["data"]["suite"] in _OWN
    repaired = data.adapter != "M_int"
    then = ", then audited on questions of its training and repaired" if repaired else ""
    trained = (
        f"{escape(base)} fine-tuned with dart_jax on {data.targets} examples (rows without a "
        f"target to train on: {data.rejected}), in {config['sft']['epochs']} epochs{then}. The "
        "loss is the next-token cross-entropy of the completions, each example's times its weight "
        f"and each token's times its own where the data gives any. {_form(data)} The licence of "
        "the base model applies to it."
    )
    prompt = (
        "Prompts are as in the training data: the `messages` of its rows, in the chat template of "
        "the base model."
    )
    messages = ['messages = [{"role": "user", "content": "..."}]']
    parts = (
        _front_matter(data, base),
        f"# {escape(base)}, fine-tuned",
        "\n\n".join(text for text in (trained, data.storage, _quantized(data)) if text),
        _code(data, base, prompt, messages) if own else _use(data, base),
        _repair(data) if repaired else "",
        _settings(config, _SHOWN if repaired else _TUNED),
        "## Evaluation\n\nNone: this run measured neither what the model learned nor what it "
        "unlearned, and no safety evaluation was made.",
        _versions(data.versions),
    )
    return "\n\n".join(filter(None, parts)) + "\n"


def _front_matter(data: CardData, base: str) -> str:
    # JSON is YAML; the licence is the base model's to state.
    peft = data.form == "peft"
    values = {
        "base_model": base,
        "base_model_relation": "adapter" if peft else "finetune",
        "library_name": "peft" if peft else "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["dart", "difference-awareness", "fairness", "lora", "jax"],
        "datasets": _datasets(data.config["data"]),
    }
    if data.summary is None:
        values["tags"] = ["lora", "jax"]
    if not values["datasets"]:
        del values["datasets"]
    lines = (f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in values.items())
    return "\n".join(("---", *lines, "---"))


def _datasets(config: Mapping[str, Any]) -> list[str]:
    """By public name; a file of one's own has none."""
    if config["suite"] == "hub":
        return [_hub_name(config["hub"])]
    return [_SUITES[config["suite"]]] if config["suite"] in _SUITES else []


def _form(data: CardData) -> str:
    if data.form == "peft":
        return "These files are a LoRA adapter; the base model is not among them."
    return "The adapter is merged into the weights: these files are a whole model."


def _what_it_is(data: CardData, base: str) -> str:
    stage = {
        "M_int": "M_int, the model after the first of the two trainings (distill), not repaired",
        "M_DART": "M_DART, the model after both trainings (distill, then repair)",
    }.get(data.adapter, data.adapter)
    lines = [
        f"{escape(base)} trained with DART (Distill-Audit-Repair Training, "
        "[arXiv 2604.16845](https://arxiv.org/abs/2604.16845)) to tell questions in which groups "
        "of people must be treated differently from those in which they must be treated alike. "
        f"This is {escape(stage)}. {_form(data)} The licence of the base model applies to it.",
        data.storage,
        _quantized(data),
    ]
    return "\n\n".join(line for line in lines if line)


def _quantized(data: CardData) -> str:
    scheme = data.config["model"]["quantize"]
    if scheme == "none":
        return ""
    where = (
        "but merged into the weights as they were before quantisation"
        if data.form == "merged"
        else "and the adapter can also be put on the weights as they were before quantisation"
    )
    return (
        f"**Trained on a quantised base**: the adapter was trained, and every number below "
        f"measured, on the base in {scheme}, {where}. Its answers can differ from those that "
        "were measured."
    )


def _use(data: CardData, base: str) -> str:
    """Code that can be copied: the prompt in it is the one that was trained with."""
    system = load_template("answer_system").substitute()
    user = load_template("answer_user").substitute(question="{question}")
    messages = [
        'question = "..."',
        f"system = {json.dumps(system)}",
        f"user = f{json.dumps(user)}",
        'messages = [{"role": "system", "content": system}, {"role": "user", "content": user}]',
    ]
    prompt = (
        "The model does not answer the question: it analyses it and ends with a line "
        "`Conclusion: YES` (a difference must be recognised) or `Conclusion: NO` (the groups "
        "are to be treated alike). It was trained and measured with this one prompt."
    )
    return _code(data, base, prompt, messages)


# A merged folder names the class that reads its tokenizer.json as it is; a base may name another.
_TOKENIZER_CLASS = {"merged": "AutoTokenizer", "peft": "PreTrainedTokenizerFast"}


def _code(data: CardData, base: str, prompt: str, messages: list[str]) -> str:
    """The section `Use`; `messages` are the lines that make them."""
    lines = [
        f"from transformers import AutoModelForCausalLM, {_TOKENIZER_CLASS[data.form]}",
        "",
        *_loading(data.form, json.dumps(base if "/" in base else f"path/to/{base}")),
        "",
        *messages,
        "inputs = tokenizer.apply_chat_template(",
        '    messages, add_generation_prompt=True, return_dict=True, return_tensors="pt"',
        ")",
        "answer = model.generate(**inputs, max_new_tokens=256)",
        'prompt_length = inputs["input_ids"].shape[1]',
        "print(tokenizer.decode(answer[0, prompt_length:], skip_special_tokens=True))",
    ]
    return "\n\n".join(("## Use", prompt, "```python\n" + "\n".join(lines) + "\n```"))


def _loading(form: str, base: str) -> list[str]:
    folder = json.dumps("path/to/this/folder")
    if form == "merged":
        return [
            f"tokenizer = {_TOKENIZER_CLASS[form]}.from_pretrained({folder})",
            f"model = AutoModelForCausalLM.from_pretrained({folder})",
        ]
    return [
        "from peft import PeftModel",
        "",
        f"tokenizer = {_TOKENIZER_CLASS[form]}.from_pretrained({base})",
        f"base = AutoModelForCausalLM.from_pretrained({base})",
        f"model = PeftModel.from_pretrained(base, {folder})",
    ]


def _data(data: CardData) -> str:
    config, summary = data.config["data"], data.summary
    rows = [
        ("suite", f"{escape(config['suite'])}, split by {config['split_by']}"),
        ("seeds", f"{config['seed']} (split), {data.config['run']['seed']} (training, decoding)"),
        (
            "training questions",
            f"{data.targets} with a target to train on, {data.rejected} without an acceptable one",
        ),
        ("drift pool", f"{summary['drift_pool']['pairs']} questions"),
        ("test questions", str(summary["models"]["M0"]["n"])),
    ]
    return "## Data\n\n" + table(("", ""), rows, words=2)


def _settings(config: Mapping[str, Any], shown: tuple[str, ...] = _SHOWN) -> str:
    rows = [("model", _listed("model", _public_model(config["model"])))]
    rows += [(section, _listed(section, _public(config[section]))) for section in shown]
    return "## Settings\n\n" + table(("section", "settings"), rows, words=2)


def _public_model(model: Mapping[str, Any]) -> dict[str, Any]:
    return {**model, "path": public_name(model["path"])}


def _public(section: Mapping[str, Any]) -> dict[str, Any]:
    """Models by name where they are local files."""
    shown = dict(section)
    if section.get("hub"):
        shown["hub"] = _hub_name(section["hub"])
    if section.get("provider") == "local" and section["model"] is not None:
        shown["model"] = public_name(section["model"])
    if section.get("scorer_models"):
        shown["scorer_models"] = [_hub_name(model) for model in section["scorer_models"]]
    if section.get("scorers"):
        del shown["scorer"]  # a default that is not used
        shown["scorers"] = [_public_scorer(scorer) for scorer in section["scorers"]]
        shown["screen_by"] = _public_scorer(section["screen_by"])
    return shown


def _public_scorer(scorer: str) -> str:
    """`hf:/some/where/a=toxic+o/b` as `hf:a=toxic+o/b`."""
    kind, colon, models = scorer.partition(":")
    parts = (model.partition("=") for model in models.split("+"))
    names = ((_hub_name(model), equals, label) for model, equals, label in parts)
    return kind + colon + "+".join(map("".join, names)) if colon else scorer


def _hub_name(model: str) -> str:
    """`owner/name` on a hub stays; what can only be a path is named by its last part."""
    is_path = model.startswith(("/", ".", "~")) or model.count("/") > 1
    return public_name(model) if is_path else model


def _listed(section: str, values: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{escape(key)} {escape(_words(value))}"
        for key, value in values.items()
        if value not in (None, (), []) and f"{section}.{key}" not in _HIDDEN
    )


def _words(value: Any) -> str:
    if isinstance(value, Mapping) and "fn" in value:
        return sections.loss_words(value)
    return " ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def _repair(data: CardData) -> str:
    if data.summary and data.summary["m_dart_is_m_int"]:
        return sections.repair(data.summary)
    rows = [
        (name, f"{row['examples']:g}", f"{row['weight']:g}") for name, row in data.weights.items()
    ]
    return (
        "## Repair set\n\n"
        + table(("severity", "examples", "weight in the loss"), rows)
        + "\n\nReplay: targets of the first training that were mixed in, at weight 1."
    )


def _protocol(summary: dict) -> str:
    return (
        "## Protocol\n\n"
        f"{protocol_sentences(summary)} All models answered with the same decoding and "
        "the same noise; the teacher knew the right label, the models that answer did not."
    )


def _limits(summary: dict, config: Mapping[str, Any]) -> str:
    return "\n".join((sections.limits(summary, config), *(f"- {it}" for it in _further(config))))


def _further(config: Mapping[str, Any]) -> Iterator[str]:
    parts = {
        "heldout": "Trained on one part of a suite and measured on another part of it",
        "transductive": "Trained and measured on the same suite, repaired on its test prompts",
    }
    yield (
        f"{parts[config['audit']['protocol']]}: not comparable with models that never saw the "
        "suite, and no evidence for questions of another kind."
    )
    if config["data"]["suite"] == "mini":
        yield (
            "The mini suite is small, and its sources were not looked up one by one: it shows "
            "that the training runs, and is nothing to report."
        )
    if list(config["audit"]["scorers"] or [config["audit"]["scorer"]]) == ["profanity"]:
        yield (
            "The scorer that screened for drift knows profanity, not stereotypes: harm in "
            "polite words was not looked at."
        )
    yield {
        "screen_then_judge": (
            "Drift is what a judge confirmed among the pairs that a scorer had picked; drift that "
            "the scorer passed over is not counted."
        ),
        "judge_all": "Drift is what a judge confirmed; nobody checked it.",
        "screen_only": "Drift is a rise of a scorer's harm score; nothing else was looked at.",
    }[config["audit"]["mode"]]
    yield "No safety evaluation beyond this page was made; do not let its conclusions decide alone."


def _versions(versions: Mapping[str, str]) -> str:
    rows = [(escape(name), escape(text)) for name, text in versions.items() if name != "platform"]
    return "## Versions\n\n" + table(("package", "version"), rows, words=2)
