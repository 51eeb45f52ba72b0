"""Draw planted drift by severity: the dose-response of the repair."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from dart_jax.evaluate.models import AUDITED, SEVERITIES
from dart_jax.evaluate.planted import Planted
from dart_jax.report.figures import COLOURS, INK, legend_right, new_figure, write_in_place
from dart_jax.summaries import Estimate

_MARKERS = {"M_int": "X", "M_DART": "o"}


def dose_response(planted: Planted) -> Any:
    """Draw the answers with planted drift by severity, and how much of M_int's M_DART has left.

    To the left are shares of all answers, M_int beside M_DART; to the right what is left of
    M_int's. Whiskers are the bootstrap intervals; a severity that M_int never shows has no mark.
    """
    figure, (shares, left) = new_figure(width=9.2, height=3.6, columns=2)
    if not planted.models["M_int"].drifted:
        left.set_axis_off()
        return write_in_place(figure, shares, "no planted drift in M_int")

    places = np.arange(len(SEVERITIES))
    for name, side in zip(AUDITED, (-0.1, 0.1), strict=True):
        rates = [planted.severities[key].rates[name] for key in SEVERITIES]
        _marks(shares, places + side, rates, COLOURS[name], _MARKERS[name], name)

    remaining = [_left(planted, key) for key in SEVERITIES]
    _marks(left, places, remaining, COLOURS["M_DART"], _MARKERS["M_DART"], None)
    left.axhline(100, color=INK, linestyle="--", linewidth=1.4)

    shares.set_title("answers with planted drift (%)", loc="left")
    left.set_title("left after the repair (% of M_int's)", loc="left")
    for axes in (shares, left):
        axes.set_xticks(places, SEVERITIES)
        axes.set_xlim(-0.5, len(SEVERITIES) - 0.5)
        axes.set_ylim(bottom=0)
        axes.grid(axis="y")
    legend_right(figure)
    return figure


def _left(planted: Planted, severity: str) -> Estimate:
    reduction = planted.severities[severity].reduction
    if reduction.value is None:
        return Estimate(None)
    if reduction.low is None:
        return Estimate(1 - reduction.value)
    # What is left is 1 less the reduction: the bounds change places.
    return Estimate(1 - reduction.value, 1 - reduction.high, 1 - reduction.low)


def _marks(
    axes: Any,
    places: np.ndarray,
    values: Sequence[Estimate],
    colour: str,
    marker: str,
    label: str | None,
) -> None:
    """Draw a mark for each value that there is, with whiskers where it has an interval."""
    for place, value in zip(places, values, strict=True):
        if value.value is None:
            continue
        reach = None
        if value.low is not None:
            below = max(0.0, value.value - value.low)
            above = max(0.0, value.high - value.value)
            reach = [[100 * below], [100 * above]]
        axes.errorbar(
            place,
            100 * value.value,
            yerr=reach,
            color=colour,
            marker=marker,
            markersize=8,
            linestyle="none",
            clip_on=False,  # a mark on zero is drawn whole
            capsize=3,
            linewidth=1.4,
            label=label,
        )
        label = None  # once in the legend
