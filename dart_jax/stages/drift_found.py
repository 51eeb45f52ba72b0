"""Compare the drift of M_int and M_DART on test questions: as audited, and as planted."""

from __future__ import annotations

from collections.abc import Mapping

from dart_jax.audit.audited import read_pool
from dart_jax.evaluate.audit_quality import Audited
from dart_jax.evaluate.collateral import Collateral, collateral
from dart_jax.evaluate.drift_change import audited_drift, drift_change
from dart_jax.evaluate.models import AUDITED
from dart_jax.evaluate.planted import (
    Planted,
    PlantedCounts,
    count,
    planted_summary,
    planted_truth,
)
from dart_jax.evaluate.summary import Drift, drift_of
from dart_jax.records import DriftType, Severity
from dart_jax.stages.audit import pool
from dart_jax.stages.auditing import Audit
from dart_jax.stages.context import Run
from dart_jax.stages.measuring import Measured


def drift_found(run: Run, audits: Mapping[str, Audit]) -> Drift:
    """Count the drift on test questions, and compare it before and after the repair."""
    drifted = {}
    for name in AUDITED:
        drifted[name] = audited_drift(audits[name].pairs, audits[name].outcomes)
    config = run.config
    change = drift_change(run.splits["test"], drifted, config.evaluate, config.run.seed)
    return drift_of({name: audits[name].counts() for name in AUDITED}, change)


def collateral_found(run: Run, found: Measured) -> Collateral:
    """Compare M_DART's answers with M_int's, where M_int had drifted and where not."""
    audit = found.audits["M_int"]
    return collateral(
        run.splits["test"],
        found.answers,
        audited_drift(audit.pairs, audit.outcomes),
        {divergence.question_id: divergence.kl for divergence in found.divergences},
        run.config.evaluate,
        run.config.run.seed,
    )


def planted_found(run: Run, audits: Mapping[str, Audit]) -> Planted | None:
    """Measure planted drift in the answers to test and pool questions; None without planting."""
    if not run.faults:
        return None

    tested = {}
    for name in AUDITED:
        tested[name] = Audited(run.splits["test"], audits[name].pairs, audits[name].outcomes)
    found = read_pool(run.folder.path, run.config.audit.screen_by)
    of_pool = Audited(pool(run), list(found.pairs.values()), list(found.outcomes.values()))
    config = run.config
    return planted_summary(tested, of_pool, _omissions(run), config.evaluate, config.run.seed)


def planted_answers(run: Run, audit: Audit) -> PlantedCounts | None:
    """Count one model's test answers with planted drift; None where nothing was planted."""
    if not run.faults:
        return None
    audited = Audited(run.splits["test"], audit.pairs, audit.outcomes)
    return count(planted_truth(audited, _omissions(run)))


def _omissions(run: Run) -> dict[str, Severity]:
    """List the severity of the omissions that were planted, by benchmark."""
    omissions = {}
    for benchmark, fault in run.faults.items():
        if fault.type is DriftType.OMITS:
            omissions[benchmark] = fault.severity
    return omissions
