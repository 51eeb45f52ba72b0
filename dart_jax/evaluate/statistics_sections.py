"""The report's sections on statistics and on the explanation policy: their tables and words.

`tested` and `policy_parts` serve the page, too; `statistics` and `policy` write markdown.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
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


FOLDED = "By benchmark, descriptive and normative, DIFF and EQUAL"


@dataclass(frozen=True)
class Part:
    """Tables of one kind.

    Attributes:
        shown: The table, or those of its rows that are about all questions.
        folded: All of its rows, where `shown` has fewer.
        words: What was measured or tested; '' where the caption says it.
    """

    title: str
    shown: Table
    folded: Table | None
    words: str


def tested(summary: Mapping[str, Any]) -> list[Part]:
    """All tests, each with a sentence on what it tests; none in a summary without them."""
    found = summary["statistics"]
    if found is None:
        return []
    tables, parts = _tables(summary), []
    covered = f"{100 * found['confidence']:g} %"
    for name, (title, words) in _TESTED.items():
        table = shown = tables[name]
        if name != "accuracy_by_group":
            shown = replace(table, rows=[row for row in table.rows if row["by"] == "all"])
        folded = None if shown is table else table
        parts.append(Part(title, shown, folded, words.format(covered=covered)))
    return parts


def policy_parts(summary: Mapping[str, Any]) -> list[Part]:
    """The models asked without and with the policy; none where it was not used."""
    if summary["policy"] is None:
        return []
    tables = _tables(summary)
    parts = [Part("Both ways of asking", tables["policy"], None, "")]
    if "policy_tests" in tables:
        words = (
            "Differences are with the policy less without it, on the same questions and under the "
            "same noise: accuracy by McNemar's exact test and by scenario, harm scores and length "
            "in tokens by Wilcoxon."
        )
        parts.append(Part("What it changes", tables["policy_tests"], None, words))
    return parts


def statistics(summary: Mapping[str, Any]) -> str:
    """`tested` as markdown; '' where there is none."""
    found = summary["statistics"]
    if found is None:
        return ""
    pieces = [
        "## Statistics",
        f"{found['questions']} test questions from {found['scenarios']} scenarios; "
        f"{found['resamples']} resamples. The same tables as CSV and LaTeX are in "
        "`evaluation/tables/`.",
    ]
    for part in tested(summary):
        pieces += [f"### {part.title}", _captioned(part.shown)]
        if part.folded is not None:
            pieces.append(_folded(part.folded))
        pieces.append(part.words)
    return "\n\n".join(pieces)


def policy(summary: Mapping[str, Any]) -> str:
    """`policy_parts` as markdown; '' where there is none."""
    found = summary["policy"]
    if found is None:
        return ""
    pieces = [
        "## Explanation policy",
        f"In the system prompt of every model, M0 included: *{escape(found['text'])}* "
        f"All figures outside this section are of answers {found['headline']} it. Drift is "
        "against M0 asked the same way.",
    ]
    for part in policy_parts(summary):
        pieces += [_captioned(part.shown), part.words]
    return "\n\n".join(filter(None, pieces))


def _tables(summary: Mapping[str, Any]) -> dict[str, Table]:
    return {table.name: table for table in run_tables(summary, "")}


def _folded(table: Table) -> str:
    return f"<details>\n<summary>{FOLDED}</summary>\n\n{to_markdown(table)}\n\n</details>"


def _captioned(table: Table) -> str:
    return f"{table.caption}.\n\n{to_markdown(table)}"
