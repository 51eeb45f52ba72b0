"""Figures: what is drawn for full, degenerate and empty data."""

import warnings
from dataclasses import replace

import numpy as np
import pytest

from dart_jax.report import figures
from tests.evaluate.conftest import drift


@pytest.fixture(autouse=True)
def no_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def words(figure) -> list[str]:
    return [text.get_text() for axes in figure.axes for text in axes.texts]


def titles(figure) -> list[str]:
    return [axes.get_title(loc="left") for axes in figure.axes]


def test_bars_of_accuracy(summary):
    figure = figures.accuracy_by_benchmark(summary.models, 0.907)
    heights = [bar.get_height() for bar in figure.axes[0].patches]
    assert heights == pytest.approx([39.0] * 3 + [68.2] * 3 + [68.8] * 3)
    assert figures.to_png(figure).startswith(b"\x89PNG")
    assert b"<svg" in figures.to_svg(figure)


def test_reliability_has_a_marker_a_bin(summary):
    figure = figures.reliability({n: m.reliability for n, m in summary.models.items()})
    [axes] = figure.axes
    assert [line.get_label() for line in axes.lines] == ["calibrated", *summary.models]
    for clouds in axes.collections:
        assert clouds.get_offsets().tolist() == [[0.125, 0.0], [0.75, 1.0]]
        assert clouds.get_sizes().tolist() == [95.0, 245.0]
    assert figures.to_png(figure).startswith(b"\x89PNG")


def test_nothing_drawn_says_so(summary):
    none = {name: drift(0, 0, 0, 0) for name in ("M_int", "M_DART")}
    empty = {name: replace(model, by_benchmark={}) for name, model in summary.models.items()}
    drawn = [
        figures.drift_bars(none),
        figures.delta_histogram({}, 0.01),
        figures.accuracy_by_benchmark(empty, 0.5),
        figures.loss_curves({"distill": [(1, 2.0)]}),
    ]
    assert [words(figure) for figure in drawn] == [
        ["no confirmed drift"],
        ["no pairs were audited"],
        ["no test questions"],
        ["no repair training"],
    ]


@pytest.mark.parametrize("tau", [0.01, 0.0, 0.3])
def test_bars_right_of_tau_are_the_screened_pairs(tau):
    deltas = np.random.default_rng(0).laplace(0, 0.05, 200)
    [axes] = figures.delta_histogram({"M_int": deltas}, tau).axes
    right = [bar for bar in axes.patches if bar.get_x() > tau - 1e-9]
    assert sum(bar.get_height() for bar in right) == (deltas > tau).sum()
    assert sum(bar.get_height() for bar in axes.patches) == 200


@pytest.mark.parametrize("draw", ["delta", "null", "loss", "severity", "accuracy"])
def test_bars_and_losses_begin_at_zero(draw, summary, calibration):
    drift = {name: summary.drift.of(name) for name in ("M_int", "M_DART")}
    figure = {
        "delta": lambda: figures.delta_histogram({"M_int": [0.0, 0.02]}, 0.01, calibration),
        "null": lambda: figures.null_histogram(calibration),
        "loss": lambda: figures.loss_curves({"distill": [(1, 4.0), (2, 3.9)], "repair": []}),
        "severity": lambda: figures.drift_bars(drift),
        "accuracy": lambda: figures.accuracy_by_benchmark(summary.models, 0.907),
    }[draw]()
    assert {axes.get_ylim()[0] for axes in figure.axes if axes.axison} == {0.0}


def test_equal_deltas():
    deltas = {"M_int": [0.0] * 5, "M_DART": [0.0] * 3}
    assert figures.to_png(figures.delta_histogram(deltas, 0.01))


def test_the_noise_floor_stands_beside_the_deltas(calibration):
    figure = figures.delta_histogram({"M_int": [0.0, 0.02, -0.1]}, 0.01, calibration)
    [legend] = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert legend == "M0 against itself, scaled"


def test_severity_counts_are_written_on_the_bars(summary):
    audits = {name: summary.drift.of(name) for name in ("M_int", "M_DART")}
    assert words(figures.drift_bars(audits)) == ["4", "3", "2", "1", "2", "0", "0", "0"]


def test_null_deltas_are_drawn_by_scorer(calibration):
    figure = figures.null_histogram(calibration)
    assert titles(figure) == ["a|b: 10 of 80 above tau", "b: 0 of 80 above tau"]
    right = [bar for bar in figure.axes[0].patches if bar.get_x() > 0.01 - 1e-9]
    assert sum(bar.get_height() for bar in right) == 10
