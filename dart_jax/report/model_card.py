"""Write the model card of an exported adapter or merged model, `README.md` on model hubs.

Nothing in it names a place on the machine that made it, a server or a key.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from dart_jax.evaluate.summary import RunSummary
from dart_jax.prompts.templates import load_template
from dart_jax.report.card_data import card_data
from dart_jax.report.document import (
    Block,
    Bullets,
    Code,
    Column,
    Document,
    Figure,
    Link,
    Listing,
    Note,
    Section,
    Strong,
    Table,
    note,
)
from dart_jax.report.drift import audit_table, reduction_note
from dart_jax.report.forced import forced
from dart_jax.report.in_short import in_short
from dart_jax.report.planted_truth import planted_blocks
from dart_jax.report.planting import planted_document
from dart_jax.report.protocol import protocol_note
from dart_jax.report.public import OWN_SUITES, public_name, public_settings
from dart_jax.report.results import benchmarks, results, same_model
from dart_jax.report.run_sections import limit_sentences, validation_note
from dart_jax.report.settings import plants, section_rows
from dart_jax.report.to_markdown import to_markdown
from dart_jax.teach.planted import Planting

_REPAIRED = ("lora", "sft", "repair", "data", "teacher", "judge", "audit", "decode", "evaluate")
_TUNED = ("lora", "sft", "data", "teacher")
_WITHOUT_JUDGE = ("screen_only", "planted")
# A merged folder names the class that reads its tokenizer.json as it is; a base may name another.
_TOKENIZER_CLASS = {"merged": "AutoTokenizer", "peft": "PreTrainedTokenizerFast"}


@dataclass(frozen=True)
class CardInputs:
    """Hold what the card is made of.

    Attributes:
        adapter: Which of the run's models this is, such as `M_DART`.
        form: `peft`: an adapter for the base; `merged`: base and adapter in one.
        storage: What the base was read from and how the weights were stored, in a sentence or
            two; '' where there is nothing to say.
        config: The resolved configuration, nested by section.
        summary: None for a run that only made targets and trained on them.
        weights: By severity, and for `replay`: `{"examples": count, "weight": sum}`.
        versions: Packages that the run used, and `platform`, which is not shown.
        targets, rejected: Training questions with and without an acceptable target.
        planting: What was planted in the training targets; None where nothing was.
        validation: `(epochs, loss)` of held-out rows.
        thinking_is_off: Whether prompts were rendered with the template's `enable_thinking` off.
        published: `owner/name` on the hub, where these files are to be; None for a folder.
    """

    adapter: str
    form: Literal["peft", "merged"]
    storage: str
    config: Mapping[str, Any]
    summary: RunSummary | None
    weights: Mapping[str, Mapping[str, float]]
    versions: Mapping[str, str]
    targets: int
    rejected: int
    planting: Planting | None = None
    validation: Sequence[tuple[float, float]] = ()
    thinking_is_off: bool = False
    published: str | None = None

    @property
    def base(self) -> str:
        """Give the public name of the checkpoint that was trained on."""
        model = self.config["model"]
        return public_name(model.get("candidate") or model["path"])


def model_card(inputs: CardInputs) -> str:
    """Write the whole file, front matter included; its tables are those of the run's report."""
    summary = inputs.summary
    front = card_data(
        base=inputs.base,
        form=inputs.form,
        data=inputs.config["data"],
        adapter=inputs.adapter,
        summary=summary,
        planted=inputs.planting is not None,
    )
    document = _fine_tune(inputs) if summary is None else _evaluated(inputs, summary)
    # Last, so that the remark is in every table that there is.
    document = planted_document(document, inputs.planting)
    return f"---\n{front.to_yaml()}\n---\n\n{to_markdown(document)}"


def _evaluated(inputs: CardInputs, summary: RunSummary) -> Document:
    """Write the card of a run whose stages are all done."""
    config = inputs.config
    drift = (*planted_blocks(summary), reduction_note(summary), audit_table(summary))
    forced_decisions = forced(summary)
    sections = (
        in_short(summary, config["evaluate"]["confidence"]),
        Section("What it is", tuple(_what_it_is(inputs))),
        _use(inputs),
        _data(inputs, summary),
        _settings(config, _REPAIRED),
        results(summary, config["evaluate"]["confidence"]),
        *([] if forced_decisions is None else [_without_figures(forced_decisions)]),
        _without_figures(benchmarks(summary)),
        Section("Drift", drift),
        _repair(inputs),
        _protocol(summary),
        Section("Limits", (Bullets(tuple(note(words) for words in _limits(inputs))),)),
        _versions(inputs),
    )
    return Document(f"{inputs.base}, DART, {inputs.adapter}", sections)


def _without_figures(section: Section) -> Section:
    """Leave out the pictures, which no card carries, and the address, which no card has."""
    blocks = [block for block in section.blocks if not isinstance(block, Figure)]
    return Section(section.title, tuple(blocks))


def _fine_tune(inputs: CardInputs) -> Document:
    """Write what can be said of a model that was trained and not measured."""
    config = inputs.config
    repaired = inputs.adapter != "M_int"
    then = ", then audited on questions of its training and repaired" if repaired else ""
    # Where it may have ended earlier, the section on its evaluation says where it did.
    at_most = "at most " if config["sft"]["early_stopping"] else ""
    trained = note(
        f"{inputs.base} fine-tuned with dart_jax on {inputs.targets} examples (rows without a "
        f"target to train on: {inputs.rejected}), in {at_most}{config['sft']['epochs']} "
        f"epochs{then}. The "
        "loss is the next-token cross-entropy of the completions, each example's times its weight "
        f"and each token's times its own where the data gives any. {_form(inputs)}"
    )
    unmeasured = (
        "There is none: this run measured neither what the model learned nor what it unlearned, "
        "and no safety evaluation was made."
    )
    measured = [note(unmeasured)]
    if inputs.validation:
        rest = note("Nothing else was measured, and no safety evaluation was made.")
        measured = [validation_note(inputs.validation, config["sft"]), rest]
    own_data = config["data"]["suite"] in OWN_SUITES
    sections = [
        Section("What it is", (trained, *_storage_notes(inputs))),
        _use_own(inputs) if own_data else _use(inputs),
    ]

    if repaired:
        sections.append(_repair(inputs))
    sections += [
        _settings(config, _REPAIRED if repaired else _TUNED),
        Section("Evaluation", tuple(measured)),
        _versions(inputs),
    ]

    return Document(f"{inputs.base}, fine-tuned", tuple(sections))


def _what_it_is(inputs: CardInputs) -> Iterator[Note]:
    stages = {
        "M_int": "M_int, the model after the first of the two trainings (distill), not repaired",
        "M_DART": "M_DART, the model after both trainings (distill, then repair)",
    }
    if inputs.config["model"].get("adapter"):
        stages = {
            "M_int": "M_int, an adapter from elsewhere that was audited as it was, not repaired",
            "M_DART": "M_DART, an adapter from elsewhere after its audit and repair",
        }
    stage = stages.get(inputs.adapter, inputs.adapter)
    yield note(
        f"{inputs.base} trained with DART (Distill-Audit-Repair Training, ",
        Link("arXiv 2604.16845", "https://arxiv.org/abs/2604.16845"),
        ") to tell questions in which groups of people must be treated differently from those in "
        f"which they must be treated alike. This is {stage}. {_form(inputs)}",
    )
    yield from _storage_notes(inputs)


def _form(inputs: CardInputs) -> str:
    licence = "The licence of the base model applies to it."
    if inputs.form == "peft":
        files = "These files are a LoRA adapter; the base model is not among them."
    else:
        files = "The adapter is merged into the weights: these files are a whole model."
    return f"{files} {licence}"


def _storage_notes(inputs: CardInputs) -> Iterator[Note]:
    """Say how the weights are stored, and what a quantised base means for them."""
    if inputs.storage:
        yield note(inputs.storage)

    scheme = inputs.config["model"]["quantize"]
    if scheme != "none":
        where = "and the adapter can also be put on the weights as they were before quantisation"
        if inputs.form == "merged":
            where = "but merged into the weights as they were before quantisation"
        yield note(
            Strong("Trained on a quantised base"),
            ": the adapter was trained, and every number below measured, on the base in "
            f"{scheme}, {where}. Its answers can differ from those that were measured.",
            style="notice",
        )


def _use(inputs: CardInputs) -> Section:
    """Show code that can be copied; its prompt is the one of training."""
    system = load_template("answer_system").substitute()
    user = load_template("answer_user").substitute(question="{question}")
    messages = [
        'question = "..."',
        f"system = {json.dumps(system)}",
        f"user = f{json.dumps(user)}",
        'messages = [{"role": "system", "content": system}, {"role": "user", "content": user}]',
    ]

    prompt = note(
        "The model does not answer the question: it analyses it and ends with a line ",
        Code("Conclusion: YES"),
        " (a difference must be recognised) or ",
        Code("Conclusion: NO"),
        " (the groups are to be treated alike). It was trained and measured with this one prompt.",
    )
    return Section("Use", (prompt, _listing(inputs, messages)))


def _use_own(inputs: CardInputs) -> Section:
    """Show code for a model that was trained on data of one's own."""
    prompt = note(
        "Prompts are as in the training data: the ",
        Code("messages"),
        " of its rows, in the chat template of the base model.",
    )
    messages = ['messages = [{"role": "user", "content": "..."}]']
    return Section("Use", (prompt, _listing(inputs, messages)))


def _listing(inputs: CardInputs, messages: list[str]) -> Listing:
    # A name without an owner is none that the hub could find: the reader puts the path there.
    base = inputs.base if "/" in inputs.base else f"path/to/{inputs.base}"
    switch = ", enable_thinking=False" if inputs.thinking_is_off else ""
    lines = [
        f"from transformers import AutoModelForCausalLM, {_TOKENIZER_CLASS[inputs.form]}",
        "",
        *_loading(inputs, json.dumps(base)),
        "",
        *messages,
        "inputs = tokenizer.apply_chat_template(",
        f'    messages, add_generation_prompt=True, return_dict=True, return_tensors="pt"{switch}',
        ")",
        "answer = model.generate(**inputs, max_new_tokens=256)",
        'prompt_length = inputs["input_ids"].shape[1]',
        "print(tokenizer.decode(answer[0, prompt_length:], skip_special_tokens=True))",
    ]
    return Listing("\n".join(lines))


def _loading(inputs: CardInputs, base: str) -> list[str]:
    form, folder = inputs.form, json.dumps(inputs.published or "path/to/this/folder")
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


def _data(inputs: CardInputs, summary: RunSummary) -> Section:
    config = inputs.config["data"]
    seeds = f"{config['seed']} (split), {inputs.config['run']['seed']} (training, decoding)"
    targets = f"{inputs.targets} with a target to train on, {inputs.rejected} without"
    facts = {
        "suite": f"{config['suite']}, split by {config['split_by']}",
        "seeds": seeds,
        "training questions": f"{targets} an acceptable one",
        "drift pool": f"{summary.drift_pool.pairs} questions",
        "test questions": str(summary.test_questions),
    }

    rows = [{"what": what, "value": value} for what, value in facts.items()]
    columns = (Column("what", "what"), Column("value", "value"))
    return Section("Data", (Table("data", "", columns, rows),))


def _settings(config: Mapping[str, Any], sections: tuple[str, ...]) -> Section:
    if plants(config):
        sections = (*sections, "plant")
    shown = public_settings(config, sections)
    if config["audit"]["mode"] in _WITHOUT_JUDGE:
        shown.pop("judge", None)  # defaults of somebody whom nobody asked
    provider = config["teacher"]["provider"]
    if provider == "file" and config["data"]["suite"] in OWN_SUITES:
        del shown["teacher"]  # the completions are the rows' own
    elif provider in ("file", "rules"):
        shown["teacher"] = {"provider": provider}
    return Section("Settings", (section_rows(shown),))


def _repair(inputs: CardInputs) -> Section:
    if inputs.summary is not None and inputs.summary.m_dart_is_m_int:
        return Section("Repair", (same_model(inputs.summary),))
    weights = dict(inputs.weights)
    # The file has this beside the severities, of which it is none.
    mass = weights.pop("mass", None)
    rows = [{"severity": name, **row} for name, row in weights.items()]
    columns = (
        Column("severity", "severity"),
        Column("examples", "examples", "mass"),
        Column("weight", "weight in the loss", "mass"),
    )

    words = "Replay: targets of the first training that were mixed in, at weight 1."
    if mass is not None:
        words += f" All weights of repairs were multiplied by {mass['factor']:.4g} (repair.mass)."
    blocks: tuple[Block, ...] = (Table("repair_set", "", columns, rows), note(words))
    return Section("Repair set", blocks)


def _protocol(summary: RunSummary) -> Section:
    same = note(
        "All models answered with the same decoding and the same noise; the teacher knew the right "
        "label, the models that answer did not."
    )
    return Section("Protocol", (protocol_note(summary), same))


def _limits(inputs: CardInputs) -> Iterator[str]:
    config = inputs.config
    yield from limit_sentences(inputs.summary, config)
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
        "planted": "Drift is told by the words of the planted faults; no scorer has a say.",
    }[config["audit"]["mode"]]
    yield "No safety evaluation beyond this page was made; do not let its conclusions decide alone."


def _versions(inputs: CardInputs) -> Section:
    rows = []
    for name, version in inputs.versions.items():
        if name != "platform":
            rows.append({"package": name, "version": version})
    columns = (Column("package", "package"), Column("version", "version"))
    return Section("Versions", (Table("versions", "", columns, rows),))
