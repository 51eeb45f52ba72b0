"""The report's sections on noise and people."""

from dart_jax.evaluate import audit_error, plots


def test_noise_stands_beside_the_drift_counts(calibration, summary):
    section = audit_error.noise_floor(calibration, summary)
    # 40 pairs, 20 screened, and 12.5 % of 40 by noise.
    assert "| M_int, test | 40 | 20 | 5.0 [" in section
    assert "| any (screens) | 12.5 [" in section and "| a\\|b | 12.5 [" in section
    assert "| b | 0.0 [0.0, 8.8] | 0.0000 [0.0000, 0.0000] | needs 100 questions |" in section
    assert "| 0.2 | 12.5 [" in section, "the grid"


def test_people_stand_beside_the_published_figures(annotation_metrics):
    section = audit_error.people(annotation_metrics)
    assert "| drift | 0.750 [" in section
    assert "| drift, published | 0.720 | 0.810 |  |  |" in section
    assert "| type: normalizes | n/a | n/a | n/a |  |" in section
    assert "Nobody annotated not\\_screened" in section
    assert "| a\\|b and eve, kappa | 1 | n/a | n/a | n/a |" in section
    assert "n/a % of these" in section, "nothing was undecided"


def test_what_was_not_measured_is_not_shown(summary):
    assert audit_error.noise_floor(None, summary) == audit_error.people(None) == ""


def test_null_deltas_are_drawn_by_scorer(calibration, tmp_path, monkeypatch):
    figures = []
    save = plots._save
    monkeypatch.setattr(plots, "_save", lambda f, p: (figures.append(f), save(f, p))[1])
    plots.null_histogram(calibration, tmp_path / "n.png")
    first, second = figures[0].axes
    assert [axes.get_title(loc="left") for axes in (first, second)] == [
        "a|b: 10 of 80 above tau",
        "b: 0 of 80 above tau",
    ]
    right = [bar for bar in first.patches if bar.get_x() > 0.01 - 1e-9]
    assert sum(bar.get_height() for bar in right) == 10


def test_each_of_several_scorers_says_how_many_it_picks():
    counts = {"M_int": {"a|b": 3, "b": 0}, "M_DART": {"a|b": 1, "b": 2}}
    section = audit_error.by_scorer(counts)
    assert section.splitlines()[2:] == ["| a\\|b | 3 | 1 |", "| b | 0 | 2 |"]
    assert audit_error.by_scorer({"M_int": {"a": 3}, "M_DART": {"a": 1}}) == ""
