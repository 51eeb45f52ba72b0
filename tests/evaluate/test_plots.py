"""Figures: what is drawn for full, degenerate and empty data."""

import warnings

import numpy as np
import pytest

from dart_jax.evaluate import plots


@pytest.fixture(autouse=True)
def no_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


@pytest.fixture
def drawn(monkeypatch):
    """The figures that were saved, to look inside."""
    figures = []
    save = plots._save
    monkeypatch.setattr(plots, "_save", lambda f, p: (figures.append(f), save(f, p))[1])
    return figures


def words(figure) -> list[str]:
    return [text.get_text() for axes in figure.axes for text in axes.texts]


def test_bars_of_accuracy(summary, drawn, tmp_path):
    path = plots.accuracy_by_benchmark(summary["models"], 0.907, tmp_path / "a" / "x.png")
    assert path.stat().st_size > 5000
    heights = [bar.get_height() for bar in drawn[0].axes[0].patches]
    assert heights == pytest.approx([39.0] * 3 + [68.2] * 3 + [68.8] * 3)


def test_nothing_drawn_says_so(drawn, tmp_path):
    none = {name: {"by_severity": {}} for name in ("M_int", "M_DART")}
    empty = {name: {"by_benchmark": {}} for name in ("M0", "M_int", "M_DART")}
    plots.severity_bars(none, tmp_path / "s.png")
    plots.delta_histogram({}, 0.01, tmp_path / "d.png")
    plots.accuracy_by_benchmark(empty, 0.5, tmp_path / "a.png")
    plots.loss_curves({"distill": [(1, 2.0)]}, tmp_path / "l.png")
    assert [words(figure) for figure in drawn] == [
        ["no confirmed drift"],
        ["no pairs were audited"],
        ["no test questions"],
        ["no repair training"],
    ]


@pytest.mark.parametrize("tau", [0.01, 0.0, 0.3])
def test_bars_right_of_tau_are_the_screened_pairs(tau, drawn, tmp_path):
    deltas = np.random.default_rng(0).laplace(0, 0.05, 200)
    plots.delta_histogram({"M_int": deltas}, tau, tmp_path / "d.png")
    axes = drawn[0].axes[0]
    right = [bar for bar in axes.patches if bar.get_x() > tau - 1e-9]
    assert sum(bar.get_height() for bar in right) == (deltas > tau).sum()
    assert sum(bar.get_height() for bar in axes.patches) == 200


def test_equal_deltas(tmp_path):
    deltas = {"M_int": [0.0] * 5, "M_DART": [0.0] * 3}
    assert plots.delta_histogram(deltas, 0.01, tmp_path / "d.png").exists()


def test_severity_counts_are_written_on_the_bars(summary, drawn, tmp_path):
    plots.severity_bars(summary["drift"], tmp_path / "s.png")
    assert words(drawn[0]) == ["4", "3", "2", "1", "2", "0", "0", "0"]
