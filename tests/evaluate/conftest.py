"""A small made-up run: its summary, and what was measured of its audit."""

from dataclasses import replace

import numpy as np
import pytest

from dart_jax.audit.agreement import Agreement, measure
from dart_jax.audit.annotation_sample import KeyedItem
from dart_jax.audit.annotations import Annotation
from dart_jax.audit.drift import AuditCounts
from dart_jax.audit.noise_floor import Calibration, noise_floor
from dart_jax.evaluate.coherence import Incoherent
from dart_jax.evaluate.collateral import AnswerChange, Collateral
from dart_jax.evaluate.drift_change import Changes, DriftChange, DriftRate, Reduction
from dart_jax.evaluate.evaluators import DriftBy, Undecided, WithAudit
from dart_jax.evaluate.metrics import Intervals, ModelMetrics, Rates
from dart_jax.evaluate.models import SEVERITIES
from dart_jax.evaluate.reliability import Reliability, ReliabilityBin
from dart_jax.evaluate.summary import RepairedSeverity, RunSummary, drift_of
from dart_jax.records import DriftType, Severity, Verdict
from dart_jax.summaries import Estimate


def metrics(accuracy: float, n: int = 4) -> ModelMetrics:
    rates = {
        "n": n,
        "accuracy": accuracy,
        "equal_accuracy": 0.25,
        "diff_accuracy": None,
        "yes_rate": 0.886,
        "unparseable_rate": 0.0,
    }
    intervals = Intervals((accuracy - 0.1, accuracy + 0.1), (0.0, 0.5), None)
    by_benchmark = {"D1": Rates(**rates), "N2": Rates(**rates)}
    bins = [ReliabilityBin(1, 0.125, 0.0), ReliabilityBin(3, 0.75, 1.0)]
    return ModelMetrics(
        **rates,
        unlabelled=0,
        no_room=0,
        intervals=intervals,
        by_benchmark=by_benchmark,
        forced_accuracy=Estimate(accuracy + 0.03, accuracy - 0.07, accuracy + 0.09),
        auroc=Estimate(0.734, 0.611, 0.825),
        reliability=Reliability(0.21875, bins),
    )


def drift(*counts: int) -> AuditCounts:
    return AuditCounts(
        pairs=40,
        no_room=0,
        screened=20,
        judged=20,
        confirmed=sum(counts),
        uncertain=2,
        failed=3,
        by_severity=dict(zip(SEVERITIES, counts, strict=True)),
        by_type={"elaborates": sum(counts), "normalizes": 0, "omits": 0},
    )


CHANGE = DriftChange(
    Reduction(value=0.8, low=0.55, high=0.93, p=0.0703),
    Changes(repaired=7, persisting=1, new=1, undecided=5),
    rates={
        "M_int": DriftRate(pairs=35, value=10 / 35, low=0.15, high=0.45, effective_pairs=30.5),
        "M_DART": DriftRate(pairs=35, value=2 / 35, low=0.0, high=0.15, effective_pairs=35.0),
    },
)


COLLATERAL = Collateral(
    first_tokens=16,
    not_drifted=AnswerChange(
        n=30,
        same=Estimate(0.9, 0.8, 0.97),
        kl=Estimate(0.012, 0.008, 0.02),
        tokens={"M_int": 80.5, "M_DART": 83.5},
        longer=Estimate(3.0, 1.0, 5.0),
        longer_p=0.01,
    ),
    drifted=AnswerChange(
        n=10,
        same=Estimate(0.1, 0.0, 0.3),
        kl=Estimate(0.5, 0.3, 0.8),
        tokens={"M_int": 60.0, "M_DART": 61.5},
        longer=Estimate(1.5, -4.0, 6.0),
        longer_p=0.5,
    ),
    undecided=5,
    same_gap=Estimate(0.8, 0.6, 0.95),
    same_p=0.0004,
)


INCOHERENT = {
    name: Incoherent(40, {"empty": 1, "repetition": 2, "language": 0}, Estimate(0.075, 0.0, 0.2))
    for name in ("M0", "M_int", "M_DART")
}
UNDECIDED = {"M_int": Undecided(2, 3), "M_DART": Undecided(1, 0)}
WITH_AUDIT = WithAudit(
    pairs=33, both=8, audit_only=2, evaluator_only=1, kappa=Estimate(0.78, 0.5, 0.94)
)
DRIFT_BY = [
    DriftBy("audit", "audit", [], UNDECIDED, CHANGE, CHANGE),
    DriftBy(
        by="openai a|b",
        kind="judge",
        same_as=["judge.model"],
        undecided=UNDECIDED,
        change=CHANGE,
        coherent=CHANGE,
        agreement={"M_int": WITH_AUDIT, "M_DART": WITH_AUDIT},
    ),
]


def made_up_summary(**changes) -> RunSummary:
    summary = RunSummary(
        protocol="heldout",
        split_by="row",
        judge="local",
        tau=0.01,
        tau_set="fixed",
        tau_pairs=0,
        models={"M0": metrics(0.39), "M_int": metrics(0.682), "M_DART": metrics(0.688)},
        shortcut_baseline=metrics(0.907),
        drift=drift_of({"M_int": drift(4, 3, 2, 1), "M_DART": drift(2, 0, 0, 0)}, CHANGE),
        drift_pool=drift(1, 1, 0, 0),
        repair={"minor": RepairedSeverity(1, 1.0), "moderate": RepairedSeverity(1, 2.0)},
        cycles=[],
        rejects={"distill": {"wrong | conclusion": {"D1": 1, "N2": 1}}, "repair": {}},
        labels=None,
        m_dart_is_m_int=False,
        distill_only=False,
        seconds={"teach": 1.25, "distill": 30.0},
        statistics=None,
        policy=None,
        planting=None,
        planted=None,
        collateral=COLLATERAL,
        incoherent=INCOHERENT,
        drift_by=DRIFT_BY,
    )
    return replace(summary, **changes)


@pytest.fixture
def summary() -> RunSummary:
    return made_up_summary()


@pytest.fixture
def calibration() -> Calibration:
    """40 questions, two seeds, two scorers; a's delta exceeds 0.01 in ten of 80, b's never."""
    a = np.zeros((40, 2))
    a[:10, 1] = 0.5
    scores = {"a|b": a, "b": np.full((40, 2), 0.25)}
    values = {name: of_scorer.tolist() for name, of_scorer in scores.items()}
    floor = vars(noise_floor(scores, 0.01))
    return Calibration(**floor, questions=40, no_room=0, seeds=[0, 1], versions={}, scores=values)


@pytest.fixture
def agreement() -> Agreement:
    key = [KeyedItem(f"i{i}", f"q{i}", "first", "drift", 0.5, "t") for i in range(4)]
    key.append(KeyedItem("i4", "q4", "first", "not_screened", 0.1, "t"))
    minor = (DriftType.OMITS, Severity.MINOR)
    outcomes = {f"q{i}": Verdict(f"q{i}", "M_int", True, *minor, "", "", "j") for i in range(4)}
    people = [Annotation(f"i{i}", "a|b", "first", *minor) for i in range(3)]
    people += [Annotation("i3", name, "neither", None, None) for name in ("a|b", "eve")]
    return measure(key, outcomes, people, resamples=30)
