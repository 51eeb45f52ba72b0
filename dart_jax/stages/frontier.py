"""Measure M0 with a part of M_int's adapter: what the cheapest defence costs in accuracy.

M0 + strength x adapter needs no training and no judge to choose its repairs: between strengths 0
(M0) and 1 (M_int) it trades what distillation taught for what it spoiled. The engine has a scale
for each row, so that all strengths answer in the pass of the other models.
"""

from __future__ import annotations

from dart_jax.evaluate.drift_change import audited_drift, drift_rate
from dart_jax.evaluate.models import at_strength
from dart_jax.evaluate.summary import FrontierPoint
from dart_jax.stages.context import Run
from dart_jax.stages.drift_found import planted_answers
from dart_jax.stages.measuring import Measured, model_figures
from dart_jax.summaries import Estimate


def frontier_models(run: Run) -> dict[str, float]:
    """List the models of `evaluate.frontier` by name, with their strengths, ascending."""
    strengths = sorted(run.config.evaluate.frontier or ())
    return {at_strength("M_int", strength): strength for strength in strengths}


def frontier_points(run: Run, found: Measured) -> list[FrontierPoint]:
    """Sum up accuracy and drift of each strength on the test questions."""
    config, points = run.config, []
    for name, strength in frontier_models(run).items():
        audit = found.audits[name]
        drifted = audited_drift(audit.pairs, audit.outcomes)
        rate = drift_rate(run.splits["test"], drifted, config.evaluate, config.run.seed)

        points.append(
            FrontierPoint(
                model=name,
                strength=strength,
                test=model_figures(run, found, name),
                drift=audit.counts(),
                rate=Estimate(rate.value, rate.low, rate.high),
                planted=planted_answers(run, audit),
            )
        )
    return points
