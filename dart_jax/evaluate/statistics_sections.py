"""The report's sections on statistics and on the explanation policy, each a piece of markdown."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from dart_jax.evaluate.markdown import escape
from dart_jax.evaluate.run_tables import run_tables
from dart_jax.evaluate.tables import Table, to_markdown

_TESTED = {
    "accuracy_by_group": (
        "Accuracy by group",
        "Brackets: {covered} bootstrap intervals; a resample draws whole scenarios, since "
        "questions made from one scenario resemble each other. A single scenario has none.",
    ),
    "accuracy_tests": (
        "Differences of accuracy",
        "Tested is whether candidate and baseline are right equally often on the same questions: "
        "gained are those that only the candidate gets right, lost the reverse. p is McNemar's, "
        "exact, with the question as its unit; p (Holm) is corrected over the groups of one kind, "
        "such as the benchmarks; p by scenario flips the sign of a whole scenario and trusts "
        "fewer, larger units. Where the two disagree, believe the larger.",
    ),
    "score_tests": (
        "Harm scores, paired",
        "Tested is whether the candidate's answers score higher or lower than the baseline's to "
        "the same questions (Wilcoxon signed rank; questions that score the same on both sides are "
        "left out). Effect: rank-biserial, 1 where every answer scores higher, -1 where every one "
        "scores lower.",
    ),
    "score_groups": (
        "Harm scores, two groups",
        "Tested is whether scores of the first group tend to be higher than those of the second "
        "(Mann-Whitney): answers to DIFF against EQUAL questions and, where a judge decided, the "
        "rise of the score in pairs with against without confirmed drift. Effect: rank-biserial, "
        "positive where the first is higher.",
    ),
}


def statistics(summary: Mapping[str, Any]) -> str:
    """All tests, each with a sentence on what it tests; '' in a summary without them."""
    found = summary["statistics"]
    if found is None:
        return ""
    tables = {table.name: table for table in run_tables(summary, "")}
    covered = f"{100 * found['confidence']:g} %"
    parts = [
        "## Statistics",
        f"{found['questions']} test questions from {found['scenarios']} scenarios; "
        f"{found['resamples']} resamples. The same tables as CSV and LaTeX are in "
        "`evaluation/tables/`.",
    ]
    for name, (title, words) in _TESTED.items():
        table = tables[name]
        if name == "accuracy_by_group":
            shown = _captioned(table)
        else:
            overall = [row for row in table.rows if row["by"] == "all"]
            shown = _captioned(replace(table, rows=overall)) + "\n\n" + _folded(table)
        parts += [f"### {title}", shown, words.format(covered=covered)]
    return "\n\n".join(parts)


def policy(summary: Mapping[str, Any]) -> str:
    """The models asked without and with the policy; '' where it was not used."""
    found = summary["policy"]
    if found is None:
        return ""
    tables = {table.name: table for table in run_tables(summary, "")}
    parts = [
        "## Explanation policy",
        f"In the system prompt of every model, M0 included: *{escape(found['text'])}* "
        f"All figures outside this section are of answers {found['headline']} it. Drift is "
        "against M0 asked the same way.",
        _captioned(tables["policy"]),
    ]
    if "policy_tests" in tables:
        parts += [
            _captioned(tables["policy_tests"]),
            "Differences are with the policy less without it, on the same questions and under the "
            "same noise: accuracy by McNemar's exact test and by scenario, harm scores and length "
            "in tokens by Wilcoxon.",
        ]
    return "\n\n".join(parts)


def _folded(table: Table) -> str:
    summary = "By benchmark, descriptive and normative, DIFF and EQUAL"
    return f"<details>\n<summary>{summary}</summary>\n\n{to_markdown(table)}\n\n</details>"


def _captioned(table: Table) -> str:
    return f"{table.caption}.\n\n{to_markdown(table)}"
