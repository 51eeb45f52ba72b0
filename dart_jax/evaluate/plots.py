"""The report's figures. Each function takes plain data and a path, and returns the path."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dart_jax.audit.noise_floor import null_deltas
from dart_jax.evaluate.summary import AUDITED, MODELS, SEVERITIES

# Okabe and Ito's palette, told apart by colour-blind readers; one colour for a model throughout.
COLOURS = {"M0": "#8C8C8C", "M_int": "#E69F00", "M_DART": "#0072B2"}
# Of the same palette, for variants that are no model's; with markers for those who see no colour.
_VARIANTS = ("#0072B2", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#4D4D4D")
_MARKERS = ("o", "s", "^", "D", "v", "P", "p", "<", ">", "h", "*")
_LINE = "#1A1A1A"
_STYLE = {
    "font.size": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.edgecolor": "#666666",
    "grid.color": "#E3E3E3",
    "figure.constrained_layout.use": True,
}


def accuracy_by_benchmark(models: Mapping[str, dict], shortcut: float | None, path: Path) -> Path:
    """Accuracy of each model by benchmark and overall (with its interval), and the shortcut.

    Args:
        models: `metrics.model_metrics` of M0, M_int and M_DART on the same questions.
        shortcut: Accuracy of the shortcut baseline over all test questions, in [0, 1], if any.
        path: PNG to write.
    """
    benchmarks = sorted(models["M0"]["by_benchmark"])
    figure, axes = _figure(width=max(6.0, 1.15 * len(benchmarks) + 3.4), height=4.2)
    _title(axes, "Accuracy by benchmark")
    if not benchmarks:
        _say(axes, "no test questions")
        return _save(figure, path)
    places = np.append(np.arange(len(benchmarks)), len(benchmarks) + 0.35)
    width = 0.8 / len(MODELS)
    for index, name in enumerate(MODELS):
        offsets = places + (index - (len(MODELS) - 1) / 2) * width
        rates = [models[name]["by_benchmark"][key]["accuracy"] for key in benchmarks]
        heights = [_percent(rate) for rate in [*rates, models[name]["accuracy"]]]
        axes.bar(offsets, heights, width * 0.92, color=COLOURS[name], label=name)
        _interval(axes, offsets[-1], heights[-1], models[name]["intervals"]["accuracy"])
    if shortcut is not None:
        line = {"color": _LINE, "linestyle": "--", "linewidth": 1.4}
        axes.axhline(100 * shortcut, label="shortcut\n(overall)", **line)
    axes.axvline(len(benchmarks) - 0.325, color="#BBBBBB", linewidth=1)
    axes.set(ylim=(0, 100), ylabel="accuracy (%)")
    axes.set_xticks(places, [*benchmarks, "overall"])
    axes.grid(axis="y")
    _legend_right(figure)
    return _save(figure, path)


def delta_histogram(deltas: Mapping[str, Sequence[float]], tau: float, path: Path) -> Path:
    """Distribution of score(candidate) - score(M0) over the test pairs, and the screen.

    A bin edge lies on tau: the bars to its right are the pairs that were screened.

    Args:
        deltas: Differences in [-1, 1], by model name.
        tau: The screening threshold.
        path: PNG to write.
    """
    names = [name for name in AUDITED if len(deltas.get(name, ()))]
    figure, panels = _figure(width=8.6, height=2.3 * max(1, len(names)), rows=max(1, len(names)))
    if not names:
        _title(panels, "Score differences")
        _say(panels, "no pairs were audited")
        return _save(figure, path)
    edges = _edges_through(tau, np.concatenate([deltas[name] for name in names]))
    most = max(np.histogram(deltas[name], edges)[0].max() for name in names)
    for name, axes in zip(names, np.atleast_1d(panels), strict=True):
        values = np.asarray(deltas[name], float)
        axes.hist(values, edges, color=COLOURS[name], edgecolor="white", linewidth=0.6)
        axes.axvline(tau, color=_LINE, linestyle="--", linewidth=1.4)
        axes.set(yscale="log", ylabel="pairs (log)", ylim=(0.7, 1.5 * most))
        # Plain counts on the decades only: 6 x 10^0 is no way to write six.
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter("")
        _title(axes, f"{name}: {int((values > tau).sum())} of {len(values)} pairs above tau")
        axes.grid(axis="y")
    axes.set_xlabel(f"harm score of the candidate minus that of M0   (dashed: tau = {tau:g})")
    return _save(figure, path)


def null_histogram(calibration: Mapping[str, Any], path: Path) -> Path:
    """Distribution of the deltas of M0 against itself, by scorer, with tau and thresholds.

    Args:
        calibration: `audit/calibration.json`.
        path: PNG to write.
    """
    scores, tau = calibration["scores"], calibration["tau"]
    figure, panels = _figure(width=8.6, height=0.6 + 2.3 * len(scores), rows=len(scores))
    deltas = {name: null_deltas(np.array(values)).ravel() for name, values in scores.items()}
    edges = _edges_through(tau, np.concatenate(list(deltas.values())))
    for (name, values), axes in zip(deltas.items(), np.atleast_1d(panels), strict=True):
        axes.hist(values, edges, color=COLOURS["M0"], edgecolor="white", linewidth=0.6)
        axes.axvline(tau, color=_LINE, linestyle="--", linewidth=1.4)
        thresholds = calibration["scorers"][name]["thresholds"]
        for row, style, height in zip(thresholds, ("-.", ":"), (0.97, 0.83), strict=True):
            if row["tau"] is not None:
                axes.axvline(row["tau"], color=COLOURS["M_DART"], linestyle=style, linewidth=1.4)
                axes.annotate(
                    f"{100 * row['level']:g} %",
                    (row["tau"], height),
                    xycoords=("data", "axes fraction"),
                    textcoords="offset points",
                    xytext=(3, 0),
                    va="top",
                    color=COLOURS["M_DART"],
                )
        axes.set(yscale="log", ylabel="deltas (log)")
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter("")
        above = int((values > tau).sum())
        _title(axes, f"{name}: {above} of {len(values)} above tau".replace("$", r"\$"))
        axes.grid(axis="y")
    np.atleast_1d(panels)[-1].set_xlabel(
        f"harm score of M0 under one seed minus another   (dashed: tau = {tau:g})"
    )
    return _save(figure, path)


def severity_bars(drift: Mapping[str, dict], path: Path) -> Path:
    """Confirmed drift by severity, M_int beside M_DART.

    Args:
        drift: `audit.drift.summarise_drift` by model name.
        path: PNG to write.
    """
    counts = {
        name: [drift[name]["by_severity"].get(key, 0) for key in SEVERITIES] for name in AUDITED
    }
    most = max(map(max, counts.values()))
    figure, axes = _figure(width=7.2, height=3.6)
    _title(axes, "Confirmed drift by severity (test)")
    if most == 0:
        _say(axes, "no confirmed drift")
        return _save(figure, path)
    places = np.arange(len(SEVERITIES))
    for name, side in zip(AUDITED, (-0.2, 0.2), strict=True):
        bars = axes.bar(places + side, counts[name], 0.37, color=COLOURS[name], label=name)
        axes.bar_label(bars, padding=2, color="#333333")
    axes.set(ylim=(0, 1.15 * most), ylabel="drift cases")
    axes.yaxis.get_major_locator().set_params(integer=True)
    axes.set_xticks(places, SEVERITIES)
    axes.grid(axis="y")
    _legend_right(figure)
    return _save(figure, path)


def loss_curves(losses: Mapping[str, Sequence[tuple[int, float]]], path: Path) -> Path:
    """Training loss by step, one panel for each stage.

    Args:
        losses: `(step, loss in nats a token)` by stage name, `distill` and `repair`.
        path: PNG to write.
    """
    figure, panels = _figure(width=9.2, height=3.3, columns=2)
    stages = (("distill", "M_int"), ("repair", "M_DART"))
    for (stage, model), axes in zip(stages, panels, strict=True):
        points = losses.get(stage, ())
        _title(axes, f"{stage} ({model})")
        if not points:
            _say(axes, "no repair training" if stage == "repair" else "no training")
            continue
        steps, values = zip(*points, strict=True)
        axes.plot(
            steps,
            values,
            color=COLOURS[model],
            linewidth=1.6,
            marker="o" if len(points) <= 40 else "",
            markersize=3.5,
        )
        axes.set(xlabel="step", ylabel="loss (nats a token)")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid()
    return _save(figure, path)


def accuracy_against_drift(table: Mapping[str, Any], path: Path) -> Path:
    """The models of a sweep: a point a seed, their mean with its intervals, M0 and the shortcut.

    Args:
        table: `sweep.table.build_table`.
        path: PNG or SVG to write.
    """
    figure, axes = _figure(width=8.6, height=4.8)
    _title(axes, "Accuracy against remaining drift (test)")
    if not table["rows"]:
        _say(axes, "no run is done")
        return _save(figure, path)
    lines = [("shortcut", table["shortcut"]["mean"], _LINE, "--")]
    lines += [
        (row["name"], row["metrics"]["accuracy"]["mean"], COLOURS["M0"], ":")
        for row in table["rows"]
        if row["model"] == "M0"
    ]
    for name, accuracy, colour, style in lines:
        axes.axhline(100 * accuracy, color=colour, linestyle=style, linewidth=1.4, label=name)
    rows = [row for row in table["rows"] if row["model"] != "M0"]
    for index, row in enumerate(rows):
        distilled = row["model"] == "M_int"
        colour = COLOURS["M_int"] if distilled else _VARIANTS[index % len(_VARIANTS)]
        _cloud(axes, row, colour, "X" if distilled else _MARKERS[index % len(_MARKERS)])
    axes.set(xlabel="remaining drift (% of the test pairs)", ylabel="accuracy (%)")
    axes.margins(0.08)
    low, high = axes.get_xlim()
    low = min(0.0, low)
    axes.set_xlim(low, high + 0.03 * (high - low))  # or 0 would leave the last marker no margin
    axes.grid()
    _legend_right(figure)
    return _save(figure, path)


def _cloud(axes: Any, row: Mapping[str, Any], colour: str, marker: str) -> None:
    drift, accuracy = (row["metrics"][key] for key in ("drift", "accuracy"))
    seeds = list(accuracy["values"])
    points = [[100 * stat["values"][seed] for seed in seeds] for stat in (drift, accuracy)]
    axes.scatter(*points, s=22, color=colour, marker=marker, alpha=0.45, linewidths=0)
    spans = [
        None if stat["low"] is None else 100 * (stat["high"] - stat["mean"])
        for stat in (drift, accuracy)
    ]
    axes.errorbar(
        100 * drift["mean"],
        100 * accuracy["mean"],
        xerr=spans[0],
        yerr=spans[1],
        color=colour,
        marker=marker,
        markersize=9,
        linestyle="none",
        capsize=3,
        linewidth=1.2,
        label=f"{row['name']} (n = {accuracy['n']})".replace("$", r"\$"),
    )


def _figure(width: float, height: float, rows: int = 1, columns: int = 1) -> tuple[Any, Any]:
    """A figure of its own, without pyplot's global state; inches."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(width, height))
        FigureCanvasAgg(figure)
        return figure, figure.subplots(rows, columns, sharex=rows > 1, sharey=rows > 1)


def _save(figure: Any, path: Path) -> Path:
    import matplotlib

    path.parent.mkdir(parents=True, exist_ok=True)
    # No date, version or random id: the same data give the same file.
    metadata = {"Date": None, "Creator": None} if path.suffix == ".svg" else {"Software": None}
    with matplotlib.rc_context({**_STYLE, "svg.hashsalt": "dart_jax"}):
        figure.savefig(path, dpi=150, metadata=metadata)
    return path


def _say(axes: Any, words: str) -> None:
    """Words in place of an empty frame."""
    axes.set_axis_off()
    axes.text(
        0.5,
        0.5,
        words,
        transform=axes.transAxes,
        ha="center",
        va="center",
        fontsize=14,
        color="#666666",
    )


def _title(axes: Any, words: str) -> None:
    axes.set_title(words, loc="left")


def _legend_right(figure: Any) -> None:
    figure.legend(loc="outside right upper", frameon=False)


def _percent(rate: float | None) -> float:
    return np.nan if rate is None else 100 * rate


def _interval(axes: Any, place: float, height: float, interval: list[float] | None) -> None:
    if interval is None:
        return
    low, high = (100 * bound for bound in interval)
    axes.errorbar(
        place,
        height,
        [[max(0.0, height - low)], [max(0.0, high - height)]],
        color=_LINE,
        capsize=3,
        linewidth=1.2,
    )


def _edges_through(tau: float, values: np.ndarray, bins: int = 40) -> np.ndarray:
    """About `bins` equal bins over the values, one edge exactly at tau."""
    low, high = min(values.min(), tau), max(values.max(), tau)
    width = max(high - low, 0.02) / bins
    below = int(np.ceil((tau - low) / width)) + 1
    above = int(np.ceil((high - tau) / width)) + 1
    return tau + width * np.arange(-below, above + 1)
