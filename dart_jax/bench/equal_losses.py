"""The check before training is timed: every way in which a side trains computes the same losses.

Two losses of one small batch without dropout, before and after one update, in float32; those of a
peer that computes in bfloat16 by nature are held to what its rounding allows.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dart_jax.bench.contest import alternate, say
from dart_jax.bench.jobs import PEER_KINDS, TrainJob, Variant
from dart_jax.bench.options import Packing, PeerKind
from dart_jax.bench.prepare import check_job
from dart_jax.bench.worker import WorkerDied

CHECKED_EXAMPLES = 4
# Float32 noise through 30 layers, forward; and after one update.
FLOAT32_TOLERANCES = (1e-4, 1e-3)
BFLOAT16_TOLERANCES = (1e-2, 2e-2)


def check_losses(
    job: TrainJob,
    packings: Sequence[Packing],
    kinds: Sequence[PeerKind],
    folder: Path,
    failed: dict[str, str],
) -> dict[str, Any]:
    """Compare all with our first packing; the losses, for `--out`.

    Args:
        failed: Gets the reason where a kind of peer does not run at all here, such as a compiler
            that is missing; such a kind is not in the result.

    Raises:
        RuntimeError: The losses of one differ, or none of the peer's kinds runs (WorkerDied).
    """
    say(f"checking that all compute the same losses, on {CHECKED_EXAMPLES} examples")
    small = check_job(job, CHECKED_EXAMPLES)
    ours = {}
    for packing in packings:
        ours[packing] = _losses(small, Variant("ours", "float32", packing=packing), folder)
    expected = ours[packings[0]]
    for packing, losses in ours.items():
        compare_losses(f"ours, {packing}", losses, expected, FLOAT32_TOLERANCES)

    peers = {}
    for kind in kinds:
        # Adapters in the type of the base are a kind of its own only where that is not float32.
        in_bfloat16 = kind == "adapter" or PEER_KINDS[kind].autocast
        dtype = "bfloat16" if kind == "adapter" else "float32"
        try:
            losses = _losses(small, Variant("hf", dtype, small.amount, kind=kind), folder)
        except WorkerDied as error:
            failed[kind] = str(error)
            say(f"  {kind}: failed; {error}")
            continue
        tolerances = BFLOAT16_TOLERANCES if in_bfloat16 else FLOAT32_TOLERANCES
        peers[kind] = compare_losses(kind, losses, expected, tolerances)
    if not peers:
        raise WorkerDied("\n".join(failed.values()))
    return {"examples": small.amount, "ours": ours, "peers": peers}


def _losses(job: TrainJob, variant: Variant, folder: Path) -> list[float]:
    [(_, rounds, _)] = alternate(job, [variant], job.sft.epochs, folder)
    return [one.result.loss for one in rounds]


def compare_losses(
    name: str, losses: Sequence[float], expected: Sequence[float], tolerances: Sequence[float]
) -> dict[str, list[float]]:
    """Relative differences of the losses before and after the update.

    Raises:
        RuntimeError: They are above the tolerances: it would not be the same job.
    """
    differences = [abs(a - b) / abs(b) for a, b in zip(losses, expected, strict=True)]
    check = {
        "losses": list(losses),
        "relative_differences": differences,
        "tolerances": list(tolerances),
    }
    # Written so that a loss that is no number counts as a difference.
    if not all(d <= limit for d, limit in zip(differences, tolerances, strict=True)):
        raise RuntimeError(
            f"{name} does not compute the same losses as ours, {list(expected)}: {check}"
        )
    return check
