"""The tables of a run, all from its summary: with the paper's columns, then the statistics."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from dart_jax.evaluate.protocol import protocol_words
from dart_jax.evaluate.summary import AUDITED, MODELS, SEVERITIES
from dart_jax.evaluate.tables import Column, Table
from dart_jax.records import DriftType

GROUP = (Column("by", "questions by"), Column("group", "group"))
_SIDES = (Column("candidate", "candidate"), Column("baseline", "against"))
_RATES = (
    Column("accuracy", "accuracy", "interval"),
    Column("equal_accuracy", "EQUAL", "interval"),
    Column("diff_accuracy", "DIFF", "interval"),
    Column("yes_rate", "YES", "rate"),
    Column("unparseable_rate", "unparseable", "rate"),
)
_COUNTS = ("pairs", "no_room", "screened", "judged", "confirmed", "uncertain", "failed")
_TYPES = tuple(kind.value for kind in DriftType)
_P = (Column("p", "p", "p"), Column("p_holm", "p (Holm)", "p"))


def run_tables(summary: Mapping[str, Any], run: str) -> list[Table]:
    """Results and drift; where the summary has them, statistics and the policy's two sides.

    Args:
        summary: As built by `summary.build_summary`.
        run: The run's name, for CSV.
    """
    words = protocol_words(summary)
    tags = {"run": run, "protocol": summary["protocol"], "split_by": summary["split_by"]}
    tables = [results_table(summary), drift_table(summary)]
    statistics = summary["statistics"]
    if statistics is not None:
        tables += [
            accuracy_table(statistics),
            accuracy_tests_table(statistics),
            score_tests_table(statistics),
            score_groups_table(statistics),
        ]
    if summary["policy"] is not None:
        tables.append(policy_table(summary["policy"]))
        if summary["policy"]["comparisons"]:
            tables.append(policy_tests_table(summary["policy"]))
    return [
        Table(table.name, f"{table.caption}; {words}", table.columns, table.rows, tags)
        for table in tables
    ]


def results_table(summary: Mapping[str, Any]) -> Table:
    """The paper's headline columns for each model, and the shortcut baseline."""
    found = {**summary["models"], "shortcut baseline": summary["shortcut_baseline"]}
    rows = [{"model": name, **rate_cells(row)} for name, row in found.items()]
    return _table(
        "results", "Test accuracy and decisions, per cent", (_text("model"), *_RATES), rows
    )


def rate_cells(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Cells of accuracy, EQUAL, DIFF (with intervals), YES and unparseable."""
    intervals = metrics["intervals"]
    return {
        **{key: (metrics[key], intervals[key]) for key in intervals},
        "yes_rate": metrics["yes_rate"],
        "unparseable_rate": metrics["unparseable_rate"],
    }


def drift_table(summary: Mapping[str, Any]) -> Table:
    """Drift cases by severity and type, and the reduction from M_int to M_DART."""
    audits = {
        "M_int, drift pool": summary["drift_pool"],
        **{f"{name}, test": summary["drift"][name] for name in AUDITED},
    }
    rows = [
        {
            "audited": name,
            **{key: row[key] for key in _COUNTS},
            **{key: row["by_severity"].get(key, 0) for key in SEVERITIES},
            **{key: row["by_type"].get(key, 0) for key in _TYPES},
            "reduction": summary["drift"]["reduction"] if name == "M_DART, test" else None,
        }
        for name, row in audits.items()
    ]
    columns = (
        Column("audited", "audited against M0"),
        *(Column(key, key.replace("_", " "), "count") for key in _COUNTS),
        *(Column(key, key, "count") for key in (*SEVERITIES, *_TYPES)),
        Column("reduction", "reduction, %", "rate"),
    )
    return _table("drift", "Drift cases by severity and type", columns, rows)


def accuracy_table(statistics: Mapping[str, Any]) -> Table:
    """Accuracy of each model and of the shortcut baseline, over each group of questions."""
    names = list(statistics["accuracy"][0]["models"])
    rows = [
        {
            **{key: row[key] for key in ("by", "group", "n", "scenarios")},
            **{
                name: (row["models"][name]["accuracy"], row["models"][name]["interval"])
                for name in names
            },
        }
        for row in statistics["accuracy"]
    ]
    columns = (
        *GROUP,
        Column("n", "n", "count"),
        Column("scenarios", "scenarios", "count"),
        *(Column(name, name, "interval") for name in names),
    )
    return _table("accuracy_by_group", "Test accuracy by group, per cent", columns, rows)


def accuracy_tests_table(statistics: Mapping[str, Any]) -> Table:
    """Differences of accuracy with their tests."""
    rows = [
        {"by": row["by"], "group": row["group"], **difference_cells(each)}
        for row in statistics["accuracy"]
        for each in row["comparisons"]
    ]
    columns = (*GROUP, *_SIDES, *DIFFERENCE)
    return _table("accuracy_tests", "Differences of test accuracy, points", columns, rows)


DIFFERENCE = (
    Column("difference", "difference", "interval"),
    Column("gained", "gained", "count"),
    Column("lost", "lost", "count"),
    *_P,
    Column("p_scenario", "p by scenario", "p"),
)


def difference_cells(comparison: Mapping[str, Any]) -> dict[str, Any]:
    """A comparison as in `statistics`, its difference with its interval."""
    return {**comparison, "difference": (comparison["difference"], comparison["interval"])}


def score_tests_table(statistics: Mapping[str, Any]) -> Table:
    """Paired harm scores: Wilcoxon."""
    columns = (
        _text("scorer"),
        *GROUP,
        *_SIDES,
        Column("n", "n", "count"),
        Column("nonzero", "differ", "count"),
        Column("mean_difference", "mean difference", "number"),
        Column("effect", "effect", "number"),
        *_P,
    )
    rows = statistics["scores"]["paired"]
    return _table("score_tests", "Harm scores of the same questions, Wilcoxon", columns, rows)


def score_groups_table(statistics: Mapping[str, Any]) -> Table:
    """Harm scores of two groups of questions: Mann-Whitney."""
    columns = (
        _text("scorer"),
        *GROUP,
        _text("model"),
        Column("what", "of"),
        _text("first"),
        _text("second"),
        Column("n_first", "n first", "count"),
        Column("n_second", "n second", "count"),
        Column("mean_first", "mean first", "number"),
        Column("mean_second", "mean second", "number"),
        Column("effect", "effect", "number"),
        *_P,
    )
    rows = statistics["scores"]["unpaired"]
    return _table("score_groups", "Harm scores of two groups, Mann-Whitney", columns, rows)


def policy_table(policy: Mapping[str, Any]) -> Table:
    """Each model asked without and with the explanation policy."""
    rows = [
        {
            "model": name,
            "policy": side,
            **rate_cells(row),
            **{key: row["drift"] and row["drift"][key] for key in ("screened", "confirmed")},
            **row["scores"],
            "new_tokens": row["new_tokens"],
        }
        for name in MODELS
        for side, models in policy["sides"].items()
        for row in (models[name],)
    ]
    scorers = next(iter(policy["sides"].values()))["M0"]["scores"]
    columns = (
        _text("model"),
        _text("policy"),
        *_RATES,
        Column("screened", "screened", "count"),
        Column("confirmed", "drift", "count"),
        *(Column(name, f"harm, {name}", "number") for name in scorers),
        Column("new_tokens", "tokens", "number"),
    )
    return _table("policy", "Without and with the explanation policy", columns, rows)


def policy_tests_table(policy: Mapping[str, Any]) -> Table:
    """What the policy changes, with the tests."""
    rows = [
        {
            "model": each["model"],
            **difference_cells(each),
            **{
                f"{name}{suffix}": test[key]
                for name, test in _tests(each).items()
                for suffix, key in (("", "mean_difference"), ("_effect", "effect"), ("_p", "p"))
            },
        }
        for each in policy["comparisons"]
    ]
    columns = (
        _text("model"),
        *(column for column in DIFFERENCE if column.key != "p_holm"),
        *(
            column
            for name in _tests(policy["comparisons"][0])
            for column in (
                Column(name, f"{name.replace('_', ' ')}, mean difference", "number"),
                Column(f"{name}_effect", "effect", "number"),
                Column(f"{name}_p", "p", "p"),
            )
        ),
    )
    return _table("policy_tests", "What the explanation policy changes", columns, rows)


def _tests(comparison: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    return {**comparison["scores"], "new_tokens": comparison["new_tokens"]}


def _text(key: str) -> Column:
    return Column(key, key)


def _table(
    name: str, caption: str, columns: Iterable[Column], rows: Sequence[Mapping[str, Any]]
) -> Table:
    return Table(name, caption, tuple(columns), rows, {})
