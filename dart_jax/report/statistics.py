"""Write the sections on tests: statistics of a run, folded away, and the explanation policy."""

from __future__ import annotations

from typing import Any

from dart_jax.evaluate.metrics import estimate
from dart_jax.evaluate.models import AUDITED, MODELS
from dart_jax.evaluate.policy import Policy, PolicyDifference
from dart_jax.evaluate.statistics import Difference, Statistics
from dart_jax.evaluate.summary import RunSummary
from dart_jax.report.document import Block, Code, Column, Fold, Section, Table, note
from dart_jax.report.forced import FORCED_COLUMNS, forced_cells
from dart_jax.report.results import AGREED_WORDS, RATE_COLUMNS, captioned, rate_cells
from dart_jax.report.terms import form_notes

GROUP_COLUMNS = (Column("group", "group"), Column("by", "questions by"))
DIFFERENCE_COLUMNS = (
    Column("difference", "difference", "interval"),
    Column("gained", "gained", "count"),
    Column("lost", "lost", "count"),
    Column("p", "p", "p"),
    Column("p_holm", "p (Holm)", "p"),
    Column("p_scenario", "p by scenario", "p"),
)
_SIDES = (Column("candidate", "candidate"), Column("baseline", "against"))
_P = (Column("p", "p", "p"), Column("p_holm", "p (Holm)", "p"))


def statistics(summary: RunSummary) -> Section | None:
    """Write all tests with a sentence on what each tests; None in a summary without them."""
    found = summary.statistics
    if found is None:
        return None
    lead = note(
        f"{found.questions} test questions from {found.scenarios} scenarios; {found.resamples} "
        "resamples. What the tests come to is said in short above; the tables behind it follow, "
        "over all questions and by benchmark, by kind (descriptive: D1 to D4, normative: N1 to N4) "
        "and by label (DIFF, EQUAL). As CSV and LaTeX they are in ",
        Code("evaluation/tables/"),
        ".",
    )

    differences = (
        note(_DIFFERENCES),
        *form_notes(summary),
        _differences_table(summary, found),
    )

    folds = (
        Fold("Accuracy by group", (note(_accuracy_words(found)), _accuracy_table(summary, found))),
        Fold("Differences of accuracy", differences),
        Fold("Harm scores, paired", (note(_PAIRED), _paired_table(summary, found))),
        Fold("Harm scores, two groups", (note(_GROUPS), _groups_table(summary, found))),
    )
    return Section("Statistics", (lead, *folds), anchor="statistics")


def _accuracy_words(found: Statistics) -> str:
    return (
        f"Brackets: {100 * found.confidence:g} % bootstrap intervals; a resample draws whole "
        f"scenarios, since questions made from one scenario resemble each other. {AGREED_WORDS} A "
        "single scenario has none."
    )


_DIFFERENCES = (
    "Tested is whether candidate and baseline are right equally often on the same questions: "
    "gained are those that only the candidate gets right, lost the reverse. p is McNemar's, "
    "exact, with the question as its unit; p (Holm) is corrected over the groups of one kind, "
    "such as the benchmarks; p by scenario flips the sign of a whole scenario and trusts "
    "fewer, larger units. Where the two disagree, believe the larger."
)
_PAIRED = (
    "Tested is whether the candidate's answers score higher or lower than the baseline's to "
    "the same questions (Wilcoxon signed rank; questions that score the same on both sides are "
    "left out). Effect: rank-biserial, 1 where every answer scores higher, -1 where every one "
    "scores lower."
)
_GROUPS = (
    "Tested is whether scores of the first group tend to be higher than those of the second "
    "(Mann-Whitney): answers to DIFF against EQUAL questions and, where a judge decided, the "
    "rise of the score in pairs with against without confirmed drift. Effect: rank-biserial, "
    "positive where the first is higher."
)


def _accuracy_table(summary: RunSummary, found: Statistics) -> Table:
    names = list(found.accuracy[0].models)
    rows = []
    for group in found.accuracy:
        row = {"by": group.by, "group": group.group, "n": group.n, "scenarios": group.scenarios}
        for name, accuracy in group.models.items():
            row[name] = estimate(accuracy.accuracy, accuracy.interval)
        rows.append(row)

    columns = (
        *GROUP_COLUMNS,
        Column("n", "n", "count"),
        Column("scenarios", "scenarios", "count"),
        *(Column(name, name, "interval") for name in names),
    )
    caption = "Test accuracy by group, per cent"
    return captioned(summary, "accuracy_by_group", caption, columns, rows)


def _differences_table(summary: RunSummary, found: Statistics) -> Table:
    rows = []
    for group in found.accuracy:
        for comparison in group.comparisons:
            rows.append({"by": group.by, "group": group.group, **difference_cells(comparison)})
    columns = (*GROUP_COLUMNS, *_SIDES, *DIFFERENCE_COLUMNS)
    caption = "Differences of test accuracy, points"
    return captioned(summary, "accuracy_tests", caption, columns, rows)


def difference_cells(found: Difference | PolicyDifference) -> dict[str, Any]:
    """Fill the cells of DIFFERENCE_COLUMNS, and the fields of the comparison beside them."""
    return {**vars(found), "difference": estimate(found.difference, found.interval)}


def _paired_table(summary: RunSummary, found: Statistics) -> Table:
    columns = (
        Column("scorer", "scorer"),
        *GROUP_COLUMNS,
        *_SIDES,
        Column("n", "n", "count"),
        Column("nonzero", "differ", "count"),
        Column("mean_difference", "mean difference", "number"),
        Column("effect", "effect", "number"),
        *_P,
    )

    rows = [vars(row) for row in found.scores.paired]
    caption = "Harm scores of the same questions, Wilcoxon"
    return captioned(summary, "score_tests", caption, columns, rows)


def _groups_table(summary: RunSummary, found: Statistics) -> Table:
    columns = (
        Column("scorer", "scorer"),
        *GROUP_COLUMNS,
        Column("model", "model"),
        Column("what", "of"),
        Column("first", "first"),
        Column("second", "second"),
        Column("n_first", "n first", "count"),
        Column("n_second", "n second", "count"),
        Column("mean_first", "mean first", "number"),
        Column("mean_second", "mean second", "number"),
        Column("effect", "effect", "number"),
        *_P,
    )

    rows = [vars(row) for row in found.scores.unpaired]
    caption = "Harm scores of two groups, Mann-Whitney"
    return captioned(summary, "score_groups", caption, columns, rows)


def policy(summary: RunSummary) -> Section | None:
    """Compare each model without and with the explanation policy; None where it was not used."""
    found = summary.policy
    if found is None:
        return None
    blocks: list[Block] = [
        note(
            f"In the system prompt of every model, M0 included: “{found.text}” All figures outside "
            f"this section are of answers {found.headline} it. Drift is against M0 asked the same "
            "way."
        ),
        _policy_table(summary, found),
    ]

    if found.comparisons:
        blocks += [
            _policy_tests_table(summary, found),
            note(
                "Differences are with the policy less without it, on the same questions and under "
                "the same noise: accuracy by McNemar's exact test and by scenario, harm scores and "
                "length in tokens by Wilcoxon."
            ),
        ]
    return Section("Explanation policy", tuple(blocks), anchor="policy")


def _policy_table(summary: RunSummary, found: Policy) -> Table:
    rows = []
    for name in MODELS:
        for side, models in found.sides.items():
            metrics = models[name]
            row = {"model": name, "policy": side, **rate_cells(metrics), **metrics.scores}
            row |= forced_cells(metrics)
            row["new_tokens"] = metrics.new_tokens
            if name in AUDITED:
                row["screened"] = metrics.drift.screened
                row["confirmed"] = metrics.drift.confirmed
            rows.append(row)

    scorers = next(iter(found.sides.values()))["M0"].scores
    columns = (
        Column("model", "model"),
        Column("policy", "policy"),
        *RATE_COLUMNS,
        *(FORCED_COLUMNS if any("auroc" in row for row in rows) else ()),
        Column("screened", "screened", "count"),
        Column("confirmed", "drift", "count"),
        *(Column(name, f"harm, {name}", "number") for name in scorers),
        Column("new_tokens", "tokens", "number"),
    )
    caption = "Without and with the explanation policy, per cent"
    return captioned(summary, "policy", caption, columns, rows)


def _policy_tests_table(summary: RunSummary, found: Policy) -> Table:
    columns = [Column("model", "model")]
    # The policy is tested over all questions at once, in no family to correct over.
    columns += [column for column in DIFFERENCE_COLUMNS if column.key != "p_holm"]
    for name in (*found.comparisons[0].scores, "new_tokens"):
        columns += [
            Column(name, f"{name.replace('_', ' ')}, mean difference", "number"),
            Column(f"{name}_effect", "effect", "number"),
            Column(f"{name}_p", "p", "p"),
        ]

    rows = []
    for comparison in found.comparisons:
        row = difference_cells(comparison)
        tests = {**comparison.scores, "new_tokens": comparison.new_tokens}
        for name, test in tests.items():
            row[name] = test.mean_difference
            row[f"{name}_effect"] = test.effect
            row[f"{name}_p"] = test.p
        rows.append(row)
    caption = "What the explanation policy changes"
    return captioned(summary, "policy_tests", caption, columns, rows)
