"""The report's sections on the audit's own error: noise, and what people say."""

from collections.abc import Mapping, Sequence
from typing import Any

from dart_jax.audit.noise_floor import rate_at
from dart_jax.evaluate.markdown import escape, table
from dart_jax.evaluate.sections import with_interval
from dart_jax.evaluate.summary import AUDITED

PAPER = {"precision": 0.720, "recall": 0.810}
"""Of the published audit against people (arXiv 2604.16845), gold labels."""

_SAMPLES = {
    "sample": "a blinded sample",
    "page_blind": "a sample that was blinded on the report's page",
    "page_open": "pairs that they chose themselves, with the verdicts in view (**no blinded "
    "sample, and no estimate of the audit's error**)",
}


def by_scorer(above_tau: Mapping[str, Mapping[str, int]]) -> str:
    """How many test pairs each of several scorers picks; '' where there is one scorer."""
    scorers = list(dict.fromkeys(name for counts in above_tau.values() for name in counts))
    if len(scorers) < 2:
        return ""
    rows = [
        (escape(scorer), *(str(counts[scorer]) for counts in above_tau.values()))
        for scorer in scorers
    ]
    header = ("test pairs above tau by", *above_tau)
    return table(header, rows)


def noise_floor(calibration: Mapping[str, Any] | None, summary: dict) -> str:
    """What M0 against itself passes, beside what was screened; '' where it was not measured."""
    if calibration is None:
        return ""
    parts = {
        "M_int, drift pool": summary["drift_pool"],
        **{f"{name}, test": summary["drift"][name] for name in AUDITED},
    }
    floor = rate_at(calibration)
    expected = [
        (
            name,
            str(row["pairs"]),
            str(row["screened"]),
            f"{floor['rate'] * row['pairs']:.1f} "
            f"[{floor['low'] * row['pairs']:.1f}, {floor['high'] * row['pairs']:.1f}]",
            str(row["confirmed"]),
        )
        for name, row in parts.items()
    ]
    covered = f"{100 * calibration['confidence']:g} %"
    header = ("audited against M0", "pairs", "screened", "by noise alone", "confirmed")
    return "\n\n".join(
        (
            "## Noise floor",
            f"M0 against M0 under {len(calibration['seeds'])} seeds on {calibration['questions']} "
            f"questions of the drift pool{_without_room(calibration)}: any delta above tau is "
            "sampling noise. In an audit both sides of a pair share their noise, so that this is "
            "the most that noise can do. "
            f"Brackets: {covered} intervals, the question as the unit.",
            table(header, expected),
            table(*rates_table(calibration)),
            table(*grid_table(calibration)),
        )
    )


def _without_room(calibration: Mapping[str, Any]) -> str:
    """How many more questions could not be answered; earlier calibrations do not say."""
    count = calibration.get("no_room", 0)
    return f" ({count} more left no room for an answer)" if count else ""


def rates_table(calibration: Mapping[str, Any]) -> tuple[Sequence[str], list[Sequence[str]]]:
    """Header and rows: by scorer the false-positive rate at tau, and the taus for low rates."""
    scorers = calibration["scorers"]
    levels = [row["level"] for row in next(iter(scorers.values()))["thresholds"]]
    header = (
        "scorer",
        f"false positives at tau {calibration['tau']:g}, %",
        *(f"tau for {100 * level:g} %" for level in levels),
    )
    rows = [
        (
            escape(name) + (" (screens)" if name == calibration["screen"] else ""),
            _rate(rate_at(calibration, name)),
            *(_threshold(row) for row in of_scorer["thresholds"]),
        )
        for name, of_scorer in scorers.items()
    ]
    return header, rows


def grid_table(calibration: Mapping[str, Any]) -> tuple[Sequence[str], list[Sequence[str]]]:
    """Header and rows: the false-positive rate over the grid of taus, one column a scorer."""
    columns = [of_scorer["rates"] for of_scorer in calibration["scorers"].values()]
    header = ("tau", *(f"{escape(name)}, %" for name in calibration["scorers"]))
    return header, [(f"{row[0]['tau']:g}", *map(_rate, row)) for row in zip(*columns, strict=True)]


def _rate(row: Mapping[str, float]) -> str:
    return with_interval(row["rate"], (row["low"], row["high"]))


def _threshold(row: Mapping[str, float | None]) -> str:
    if row["tau"] is None:
        return f"needs {round(1 / row['level'])} questions"
    return f"{row['tau']:.4f} [{row['low']:.4f}, {row['high']:.4f}]"


def people(metrics: Mapping[str, Any] | None) -> str:
    """The audit against annotators; '' where nobody annotated."""
    if metrics is None:
        return ""
    strata = [
        (escape(name), *(str(row[key]) for key in ("pairs", "sampled", "annotated")))
        for name, row in metrics["strata"].items()
    ]
    silent = [name for name, row in metrics["strata"].items() if not row["annotated"]]
    who = ", ".join(f"{escape(name)} {count}" for name, count in metrics["annotators"].items())
    covered, undecided = f"{100 * metrics['confidence']:g} %", metrics["undecided"]
    recall = _measure(metrics["drift"]["recall_undecided_missed"])
    parts = (
        "## People",
        f"The audit's verdicts on the drift pool against people's (answers: {who}), on "
        f"{_SAMPLES[metrics.get('source', 'sample')]}, weighted to all pairs of the pool. A pair "
        "that was not screened is the audit's "
        f"*no drift*. Brackets: {covered} bootstrap intervals, resampled by item within strata.",
        table(*people_table(metrics)),
        "Left out, since the audit has no verdict: "
        f"{_measure(undecided['share'], True)} % of the pairs; people see drift in "
        f"{_measure(undecided['drift'], True)} % of these. Counted as missed, they leave a recall "
        f"of {recall}.",
        table(("audit's stratum", "pairs", "sampled", "annotated"), strata),
        f"Nobody annotated {escape(', '.join(silent))}: the figures say nothing of these pairs."
        if silent
        else "",
        _between(metrics["between_annotators"]),
    )
    return "\n\n".join(part for part in parts if part)


def people_table(metrics: Mapping[str, Any]) -> tuple[Sequence[str], list[Sequence[str]]]:
    """Header and rows: precision, recall, F1 and kappa of drift, of each type and severity."""
    names = ("precision", "recall", "f1")
    rows = [
        ("drift", *(_measure(metrics["drift"][name]) for name in (*names, "kappa"))),
        ("drift, published", *(f"{PAPER[name]:.3f}" for name in names[:2]), "", ""),
    ]
    for group in ("type", "severity"):
        kappa, both = (metrics[group][key] for key in ("kappa", "kappa_where_both_see_drift"))
        weighted = " (quadratic weights)" if group == "severity" else ""
        rows.append((f"{group}{weighted}", "", "", "", _measure(kappa)))
        rows.append((f"{group}, where both see drift", "", "", "", _measure(both)))
        found = metrics[group]
        classes = [key.removesuffix(" f1") for key in found if key.endswith(" f1")]
        rows += [
            (
                f"{group}: {each}",
                *(_measure(metrics[group][f"{each} {name}"]) for name in names),
                "",
            )
            for each in classes
        ]
    return ("audit against people", "precision", "recall", "F1", "kappa"), rows


def _between(found: Mapping[str, Any]) -> str:
    if not found["pairs"]:
        return "One person annotated: how well people agree is not known."
    measures = ("drift", "type", "severity")
    rows = [("all, alpha", str(found["items"]), *(_plain(found["alpha"][key]) for key in measures))]
    rows += [
        (
            f"{escape(' and '.join(row['annotators']))}, kappa",
            str(row["items"]),
            *(_plain(row[key]) for key in measures),
        )
        for row in found["pairs"]
    ]
    return "Agreement between people (Krippendorff's alpha, Cohen's kappa):\n\n" + table(
        ("annotators", "shared items", *measures), rows
    )


def _measure(row: Mapping[str, float] | None, in_percent: bool = False) -> str:
    """`0.720 [0.650, 0.790]`, or in per cent `7.2 [6.5, 7.9]`; `n/a` where not defined."""
    if row is None:
        return "n/a"
    if in_percent:
        return with_interval(row["value"], (row["low"], row["high"]))
    return f"{row['value']:.3f} [{row['low']:.3f}, {row['high']:.3f}]"


def _plain(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.3f}"
