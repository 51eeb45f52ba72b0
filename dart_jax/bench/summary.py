"""The numbers of a training benchmark: per variant, the comparison, and the table."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from dart_jax.bench.hf_train import padded_tokens
from dart_jax.bench.job import Job
from dart_jax.bench.rounds import Measured

# Tuning is short: peers this near to the fastest one run the whole rounds, too (two at most).
NEAR = 0.9
# Float32 noise through 30 layers, forward; and after one update.
TOLERANCES = (1e-4, 1e-3)


def agreement(ours: Sequence[float], theirs: Sequence[float], examples: int) -> dict[str, Any]:
    """Both sides' losses on one batch without dropout, before and after one update.

    Raises:
        RuntimeError: They differ: the sides would not do the same job.
    """
    differences = [abs(a - b) / abs(b) for a, b in zip(ours, theirs, strict=True)]
    found = {
        "examples": examples,
        "ours": list(ours),
        "hf": list(theirs),
        "relative_differences": differences,
        "tolerances": list(TOLERANCES),
    }
    # Written so that a loss that is no number counts as a difference.
    if not all(d <= limit for d, limit in zip(differences, TOLERANCES, strict=True)):
        raise RuntimeError(f"the sides do not compute the same losses: {found}")
    return found


def summarise(measured: Measured) -> dict[str, Any]:
    """Rates are medians over the rounds.

    Raises:
        RuntimeError: A round's loss is no number.
    """
    rounds, variant = measured.rounds, measured.variant
    if not all(math.isfinite(one.loss) for one in rounds):
        raise RuntimeError(f"{variant.name}: its losses are {[one.loss for one in rounds]}")
    rates = [one.examples / one.seconds for one in rounds]
    seconds = median(one.seconds for one in rounds)
    device_bytes = [one.peak_device_bytes for one in rounds if one.peak_device_bytes]
    return {
        "variant": variant.name,
        "dtype": variant.dtype,
        "micro_batch": variant.micro_batch,
        "examples_per_second": median(rates),
        "examples_per_second_min": min(rates),
        "examples_per_second_max": max(rates),
        "real_tokens_per_second": rounds[0].real_tokens / seconds,
        "padded_tokens_per_second": median(one.padded_tokens / one.seconds for one in rounds),
        "supervised_tokens_per_second": rounds[0].supervised_tokens / seconds,
        "peak_rss_bytes": max(one.peak_rss_bytes for one in rounds),
        "peak_device_bytes": max(device_bytes, default=None),
        "round_seconds": [one.seconds for one in rounds],
        "losses": [one.loss for one in rounds],
        "setup_seconds": measured.setup_seconds,
        "matmul_flops_per_second": measured.matmul_rate,
        **measured.description,
    }


def tuned_rate(measured: Measured, job: Job) -> float:
    """Examples/s of the whole job, from a tuning round: few examples pad more than many."""
    one = measured.rounds[0]
    size = measured.variant.micro_batch
    if measured.variant.framework == "ours" or size is None:
        return one.examples / one.seconds
    padded = padded_tokens(job.examples, size)
    return one.padded_tokens / one.seconds * len(job.examples) / padded


def finalists(rates: Mapping[str, float]) -> list[str]:
    """Names of the fastest variant, and of the second where it is near."""
    ranked = sorted(rates, key=rates.__getitem__, reverse=True)
    return [name for name in ranked[:2] if rates[name] >= NEAR * rates[ranked[0]]]


def compare(
    ours: Mapping[str, Any], peer: Mapping[str, Any], rate: str = "examples_per_second"
) -> dict[str, float]:
    """Speed and memory of the best of either side; a memory ratio below 1 is less than the peer.

    Args:
        rate: The key of the speed that is compared.

    Memory is the accelerator's where both used one.
    """
    device = ours["peak_device_bytes"] and peer["peak_device_bytes"]
    memory = "peak_device_bytes" if device else "peak_rss_bytes"
    pairs = zip(ours["round_seconds"], peer["round_seconds"], strict=True)
    by_round = [theirs / mine for mine, theirs in pairs]
    return {
        "ratio_vs_best_peer": ours[rate] / peer[rate],
        "ratio_min": min(by_round),
        "ratio_max": max(by_round),
        "memory_ratio": ours[memory] / peer[memory],
    }


def table(result: Mapping[str, Any]) -> str:
    """For the terminal: every variant, the fastest of each side first."""
    lines = [
        f"{'variant':<32}{'examples/s':>11}{'min - max':>16}{'real tok/s':>12}"
        f"{'computed tok/s':>16}{'memory GB':>11}{'last loss':>11}"
    ]
    variants = [*result["ours"]["variants"].values(), *result["peers"].values()]
    for entry in sorted(variants, key=lambda entry: -entry["examples_per_second"]):
        spread = f"{entry['examples_per_second_min']:.2f} - {entry['examples_per_second_max']:.2f}"
        memory = entry["peak_device_bytes"] or entry["peak_rss_bytes"]
        lines.append(
            f"{entry['variant']:<32}{entry['examples_per_second']:>11.3f}"
            f"{spread if entry['stage'] == 'rounds' else 'tuning only':>16}"
            f"{entry['real_tokens_per_second']:>12.0f}{entry['padded_tokens_per_second']:>16.0f}"
            f"{memory / 1e9:>11.2f}{entry['losses'][-1]:>11.4f}"
        )
    if "best_peer" not in result:
        return "\n".join(lines)
    lines.append(
        f"{result['ours']['variant']} against {result['best_peer']}: "
        f"{result['ratio_vs_best_peer']:.2f} times as fast "
        f"({result['ratio_min']:.2f} - {result['ratio_max']:.2f} by round), "
        f"{result['memory_ratio']:.2f} times the memory"
    )
    return "\n".join(lines)
