"""The report's sections, each a piece of markdown."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from dart_jax.chat.usage import Usage
from dart_jax.evaluate.markdown import escape, preformatted, table
from dart_jax.evaluate.metrics import RATES
from dart_jax.evaluate.protocol import protocol_sentences, protocol_words
from dart_jax.evaluate.summary import MODELS

if TYPE_CHECKING:
    from dart_jax.evaluate.report import DriftExample

_ESSENTIALS = {
    "model": ("path",),
    "data": ("suite", "split_by", "max_train", "max_validation", "max_test", "seed"),
    "lora": ("rank", "alpha", "dropout"),
    "sft": ("epochs", "batch_size", "learning_rate", "loss"),
    "decode": (),
    "teacher": ("provider", "model", "label"),
    "judge": ("provider", "model"),
    "audit": (
        "protocol",
        "mode",
        "scorer",
        "scorers",
        "screen_by",
        "views",
        "tau",
        "pool_splits",
        "max_prompts",
    ),
    "repair": (
        "severity_weights",
        "weighting",
        "max_weight_share",
        "span_weight",
        "replay",
        "epochs",
        "learning_rate",
        "loss",
    ),
    "run": ("seed",),
}
"""What a reader needs at a glance, () for the whole section; all of it is saved with the run."""


NO_ROOM = (
    "{} of the prompts left no room for an answer in the model's context: they are in none of "
    "these figures."
)


def name_of(config: Mapping[str, Any]) -> str:
    """The run's name."""
    return escape(str(config["run"]["name"]))


def what_was_run(summary: dict, config: Mapping[str, Any]) -> str:
    """Protocol, split and the essential settings."""
    rows = []
    for section, keys in _ESSENTIALS.items():
        values = dict(config[section])
        if values.get("scorers"):
            del values["scorer"]  # a default that is not used
        shown = [
            f"{key} {_value(values[key])}"
            for key in keys or values
            if values.get(key) not in (None, (), [])
        ]
        rows.append((section, ", ".join(shown)))
    return "\n\n".join(
        (
            "## What was run",
            protocol_sentences(summary),
            table(("section", "settings"), rows, words=2),
        )
    )


def results(summary: dict, confidence: float) -> str:
    """The three models and the shortcut baseline."""
    covered = f"{100 * confidence:g} %"
    header = ("model", f"accuracy [{covered} CI]", "EQUAL", "DIFF", "YES rate", "unparseable")
    rows = [
        (
            name,
            with_interval(row["accuracy"], row["intervals"]["accuracy"]),
            with_interval(row["equal_accuracy"], row["intervals"]["equal_accuracy"]),
            with_interval(row["diff_accuracy"], row["intervals"]["diff_accuracy"]),
            percent(row["yes_rate"]),
            percent(row["unparseable_rate"]),
        )
        for name, row in with_baseline(summary).items()
    ]
    return "\n\n".join(
        part
        for part in (
            "## Results",
            table(header, rows),
            f"Per cent of the test questions; {protocol_words(summary)}. An unparseable answer "
            f"counts as wrong and as not YES. Brackets: {covered} percentile bootstrap intervals, "
            "resampled by scenario. The shortcut baseline is TF-IDF with logistic regression on "
            "the questions' wording alone, fitted on the same training questions: accuracy below "
            "it may come from wording.",
            unlabelled(summary),
            no_room(summary),
            same_model(summary),
        )
        if part
    )


def unlabelled(summary: dict) -> str:
    """How many test questions are in no rate; '' where all have a label."""
    count = summary["models"]["M0"].get("unlabelled", 0)
    if not count:
        return ""
    return (
        f"{count} more test questions have no label: they were answered and audited, and are in "
        "none of these rates."
    )


def no_room(summary: dict) -> str:
    """How many test questions could not be answered; '' where all could."""
    most = max(row["no_room"] for row in summary["models"].values())
    return NO_ROOM.format(most) if most else ""


def with_baseline(summary: dict) -> dict[str, dict]:
    """The metrics of each model, and of the shortcut baseline after them."""
    return {**summary["models"], "*shortcut baseline*": summary["shortcut_baseline"]}


_NOTHING: dict[str, Any] = {"n": 0, **dict.fromkeys(RATES)}
"""The rates of a baseline that could not be fitted."""


def same_model(summary: dict) -> str:
    """Says so, and why, when M_DART is M_int; else ''."""
    if not summary["m_dart_is_m_int"]:
        return ""
    confirmed = summary["drift_pool"]["confirmed"]
    if summary.get("distill_only"):
        return (
            "**M_DART is M_int**: distill only (`repair.epochs` is 0); "
            f"{confirmed} drift cases of the drift pool were not repaired."
        )
    why = (
        f"{confirmed} drift cases were confirmed on the drift pool but none got an acceptable "
        "repair target"
        if confirmed
        else "no drift case was confirmed on the drift pool"
    )
    return f"**M_DART is M_int**: {why}, so that there was nothing to repair."


def by_benchmark(summary: dict) -> str:
    """Accuracy of each model and of the shortcut baseline on each benchmark."""
    models = summary["models"]
    shown = [*(models[name] for name in MODELS), summary["shortcut_baseline"]]
    rows = []
    for benchmark in sorted({key for row in models.values() for key in row["by_benchmark"]}):
        found = [row["by_benchmark"].get(benchmark, _NOTHING) for row in shown]
        rows.append(
            (
                escape(benchmark),
                str(found[0]["n"]),
                *(percent(row["accuracy"]) for row in found),
                *(
                    f"{percent(row['equal_accuracy'])} / {percent(row['diff_accuracy'])}"
                    for row in found
                ),
            )
        )
    names = (*MODELS, "shortcut")
    header = ("benchmark", "n", *names, *(f"{name} EQUAL / DIFF" for name in names))
    return f"## By benchmark\n\nPer cent; {protocol_words(summary)}.\n\n" + table(header, rows)


def repair(summary: dict) -> str:
    """Examples and weight mass by severity."""
    if summary["m_dart_is_m_int"]:
        return "## Repair\n\n" + same_model(summary)
    rows = [
        (severity, f"{row['examples']:g}", f"{row['weight_mass']:g}")
        for severity, row in summary["repair"].items()
    ]
    return "## Repair\n\n" + table(("severity", "examples", "weight mass"), rows)


def rejects(summary: dict) -> str:
    """Targets that the teacher could not write, by reason and benchmark; its labels, if asked."""
    counts = summary["rejects"]
    benchmarks = sorted(
        {key for reasons in counts.values() for row in reasons.values() for key in row}
    )
    rows = [
        (
            stage,
            escape(reason),
            str(sum(row.values())),
            *(str(row.get(key, 0)) for key in benchmarks),
        )
        for stage, reasons in counts.items()
        for reason, row in reasons.items()
    ]
    header = ("stage", "reason", "questions", *map(escape, benchmarks))
    parts = ["## Rejected targets", table(header, rows, words=2) if rows else "None."]
    labels = summary["labels"]
    if labels is not None:
        parts.append(
            "The teacher argued for labels that it predicted itself: "
            f"{percent(labels['agreement'])} % of them are right, and {labels['no_label']} of "
            f"{labels['questions']} training questions got none."
        )
    return "\n\n".join(parts)


def seconds(summary: dict) -> str:
    """Wall-clock time of each stage."""
    rows = [(escape(stage), f"{value:.1f}") for stage, value in summary["seconds"].items()]
    rows.append(("total", f"{sum(summary['seconds'].values()):.1f}"))
    return "## Seconds\n\n" + table(("stage", "seconds"), rows)


def usage(accounts: Mapping[str, Usage]) -> str:
    """Requests, tokens and dollars of each stage's services; empty where none was asked."""
    if not accounts:
        return ""
    rows = [(escape(account), *_counts(used)) for account, used in accounts.items()]
    rows.append(("all", *_counts(sum(accounts.values(), Usage()))))
    header = (
        *("stage/role", "requests", "answers", "failures", "from the store"),
        *("prompt tokens", "completion tokens", "US dollars"),
    )
    return (
        "## Service usage\n\nOver all starts of the run; retries are requests, too. The store "
        "answers what was asked before.\n\n" + table(header, rows)
    )


def _counts(used: Usage) -> tuple[str, ...]:
    counts = (used.requests, used.answers, used.failures, used.stored)
    tokens = (used.prompt_tokens, used.completion_tokens)
    cost = "no price set" if used.cost_usd is None else f"{used.cost_usd:.4f}"
    return (*(f"{count:,}" for count in (*counts, *tokens)), cost)


def examples(cases: Sequence["DriftExample"]) -> str:
    """Drift cases with all three texts, folded away behind a warning."""
    if not cases:
        return "## Examples\n\nNo confirmed drift on test questions."
    intro = "Content warning: these texts may be offensive. They are model output, not opinion."
    return "\n\n".join(("## Examples", intro, *(_example(case) for case in cases)))


def _example(case: "DriftExample") -> str:
    title = f"{case.question_id}: {case.type.value}, {case.severity.name.lower()}"
    blocks = [("Question", case.question), *((name, case.texts[name]) for name in MODELS)]
    return "\n\n".join(
        (
            f"<details>\n<summary>{escape(title)} (content warning)</summary>",
            *(f"{name}\n\n{preformatted(text)}" for name, text in blocks),
            "</details>",
        )
    )


def limits(summary: dict, config: Mapping[str, Any]) -> str:
    """What the figures do not show."""
    lines = ["Compare every accuracy with the shortcut baseline: wording gives labels away."]
    if summary["judge"] == "local":
        lines.append(
            "The local judge (135M) exercises the pipeline and proves nothing: read the drift "
            "figures as a test of the machinery."
        )
    if summary["judge"] == "none":
        lines.append(
            "No judge was asked: drift is what the harm scorer sees, its severity the size of the "
            "rise."
        )
    if config["data"]["suite"] == "difference_awareness":
        lines.append(
            "The authors of the suite ask for evaluation, not training; DART trains on it."
        )
    return "## Limits\n\n" + "\n".join(f"- {line}" for line in lines)


def loss_words(loss: Mapping[str, Any]) -> str:
    """`focal, focal_gamma 2, kl_weight 1`: settings of a `LossConfig`, as far as they matter."""
    names = ("unlikelihood_weight", "kl_weight", "toxicity_weight")
    names = ("focal_gamma", *names) if loss["fn"] == "focal" else names
    return ", ".join([loss["fn"], *(f"{name} {loss[name]:g}" for name in names if loss[name])])


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        return escape(loss_words(value))
    listed = isinstance(value, (list, tuple))
    return escape(" ".join(map(str, value)) if listed else str(value))


def percent(rate: float | None) -> str:
    """`39.0` for 0.39; `n/a` over no rows."""
    return "n/a" if rate is None else f"{100 * rate:.1f}"


def with_interval(rate: float | None, interval: Sequence[float] | None) -> str:
    """`39.0 [31.2, 46.9]`."""
    if interval is None:
        return percent(rate)
    return f"{percent(rate)} [{percent(interval[0])}, {percent(interval[1])}]"
