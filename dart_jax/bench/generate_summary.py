"""The numbers of a decoding benchmark: the check, per variant, the comparison, and the table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import zip_longest
from statistics import median
from typing import Any

from dart_jax.bench.generate_job import ADAPTED, BASE, GenerateJob, PairsRound
from dart_jax.bench.rounds import Measured
from dart_jax.bench.summary import compare

Entry = dict[str, Any]

PAIRS = "pairs_per_second"
TITLES = {
    "fixed": "fixed number of new tokens",
    "natural": "natural stops",
    "sampled": "fixed number, temperature 0.2, top-p 0.9",
}


def same_tokens(job: GenerateJob, ours: PairsRound, theirs: PairsRound) -> dict[str, int]:
    """Both sides' answers to a small greedy job, token by token.

    Raises:
        RuntimeError: They differ, or the adapter changes nothing: then the sides would not do
            the same job, or nobody could see whether they do.
    """
    for name in (BASE, ADAPTED):
        rows = zip(job.prompts, ours.answers[name], theirs.answers[name], strict=True)
        for prompt, mine, other in rows:
            if mine.tokens != other.tokens:
                pairs = enumerate(zip_longest(mine.tokens, other.tokens))
                index, (a, b) = next((i, pair) for i, pair in pairs if pair[0] != pair[1])
                raise RuntimeError(
                    f"the sides do not decode the same: {name}, {prompt.id}, new token {index} "
                    f"is {a} in ours and {b} in the peer's (greedy, float32)"
                )
    if ours.answers[BASE] == ours.answers[ADAPTED]:
        raise RuntimeError(
            "the adapter's answers are the base model's: the check cannot see whether both sides "
            "apply it; give --run a run whose adapter was trained"
        )
    return {"prompts": len(job.prompts), "answers": 2 * len(job.prompts), "tokens": ours.new_tokens}


def summarise_pairs(job: GenerateJob, measured: Measured) -> Entry:
    """Rates are medians over the rounds.

    Raises:
        RuntimeError: A number of new tokens that the job fixes was not kept.
    """
    rounds, variant = measured.rounds, measured.variant
    expected = 2 * len(job.prompts) * job.new_tokens
    if not job.natural_stops and any(one.new_tokens != expected for one in rounds):
        found = [one.new_tokens for one in rounds]
        raise RuntimeError(f"{variant.name}: {found} new tokens in a round, not {expected}")
    rates = [one.pairs / one.seconds for one in rounds]
    device_bytes = [one.peak_device_bytes for one in rounds if one.peak_device_bytes]
    return {
        "variant": variant.name,
        "dtype": variant.dtype,
        "rows": variant.rows,
        PAIRS: median(rates),
        f"{PAIRS}_min": min(rates),
        f"{PAIRS}_max": max(rates),
        "new_tokens_per_second": median(one.new_tokens / one.seconds for one in rounds),
        "new_tokens_per_answer": median(one.new_tokens / one.pairs / 2 for one in rounds),
        "stops": rounds[0].stops,
        "peak_rss_bytes": max(one.peak_rss_bytes for one in rounds),
        "peak_device_bytes": max(device_bytes, default=None),
        "round_seconds": [one.seconds for one in rounds],
        "setup_seconds": measured.setup_seconds,
        "matmul_flops_per_second": measured.matmul_rate,
        **measured.description,
    }


def best(entries: Sequence[Entry]) -> Entry:
    """The fastest of those that ran the whole rounds."""
    whole = [entry for entry in entries if entry["stage"] == "rounds"]
    return max(whole, key=lambda entry: entry[PAIRS])


def compare_modes(modes: Mapping[str, Mapping[str, Sequence[Entry]]]) -> dict[str, Any]:
    """What `--out` holds of the measurements.

    Args:
        modes: By rule of stopping `fixed`, `natural` and `sampled`; then by side `ours` and
            `peers`; the entries of its variants.

    Returns:
        `ours`: its fastest variant for each rule, and all its variants. `peers`: every variant's
        entries by rule. `best_peer` and the ratios: of the fastest of either side.
    """
    fastest = {mode: {side: best(e) for side, e in sides.items()} for mode, sides in modes.items()}
    fixed, natural = (fastest[mode]["ours"] for mode in ("fixed", "natural"))
    ratios = {
        mode: compare(sides["ours"], sides["peers"], PAIRS) for mode, sides in fastest.items()
    }
    return {
        "ours": {
            "variant": fixed["variant"],
            "variant_natural": natural["variant"],
            PAIRS: fixed[PAIRS],
            f"{PAIRS}_natural": natural[PAIRS],
            "new_tokens_per_second": fixed["new_tokens_per_second"],
            "new_tokens_per_second_natural": natural["new_tokens_per_second"],
            "peak_rss_bytes": max(fixed["peak_rss_bytes"], natural["peak_rss_bytes"]),
            "variants": _by_variant(modes, "ours"),
        },
        "peers": _by_variant(modes, "peers"),
        "best_peer": fastest["fixed"]["peers"]["variant"],
        "best_peer_natural": fastest["natural"]["peers"]["variant"],
        **ratios["fixed"],
        **{f"{key}_natural": value for key, value in ratios["natural"].items()},
        "ratio_vs_release_settings": ratios["sampled"]["ratio_vs_best_peer"],
        "ratio_vs_release_settings_min": ratios["sampled"]["ratio_min"],
        "ratio_vs_release_settings_max": ratios["sampled"]["ratio_max"],
        "memory_ratio_vs_release_settings": ratios["sampled"]["memory_ratio"],
    }


def _by_variant(
    modes: Mapping[str, Mapping[str, Sequence[Entry]]], side: str
) -> dict[str, dict[str, Entry]]:
    found: dict[str, dict[str, Entry]] = {}
    for mode, sides in modes.items():
        for entry in sides[side]:
            found.setdefault(entry["variant"], {})[mode] = entry
    return found


def pairs_table(result: Mapping[str, Any]) -> str:
    """For the terminal: each rule of stopping, the fastest variant first."""
    lines = []
    everyone = [*result["ours"]["variants"].values(), *result["peers"].values()]
    for mode, title in TITLES.items():
        lines.append(
            f"{title:<44}{'pairs/s':>9}{'min - max':>16}{'new tok/s':>11}{'per answer':>12}"
            f"{'memory GB':>11}"
        )
        entries = [modes[mode] for modes in everyone if mode in modes]
        lines += [_line(entry) for entry in sorted(entries, key=lambda entry: -entry[PAIRS])]
    lines += [
        _ratio(result, "", result["best_peer"]),
        _ratio(result, "_natural", f"{result['best_peer_natural']}, natural stops"),
        f"against the release's settings: {result['ratio_vs_release_settings']:.2f} times as fast "
        f"({result['ratio_vs_release_settings_min']:.2f} - "
        f"{result['ratio_vs_release_settings_max']:.2f} by round), "
        f"{result['memory_ratio_vs_release_settings']:.2f} times the memory",
    ]
    return "\n".join(lines)


def _line(entry: Entry) -> str:
    spread = f"{entry[f'{PAIRS}_min']:.3f} - {entry[f'{PAIRS}_max']:.3f}"
    memory = entry["peak_device_bytes"] or entry["peak_rss_bytes"]
    return (
        f"  {entry['variant']:<42}{entry[PAIRS]:>9.3f}"
        f"{spread if entry['stage'] == 'rounds' else 'tuning only':>16}"
        f"{entry['new_tokens_per_second']:>11.1f}{entry['new_tokens_per_answer']:>12.1f}"
        f"{memory / 1e9:>11.2f}"
    )


def _ratio(result: Mapping[str, Any], suffix: str, peer: str) -> str:
    low, high = result[f"ratio_min{suffix}"], result[f"ratio_max{suffix}"]
    return (
        f"against {peer}: {result[f'ratio_vs_best_peer{suffix}']:.2f} times as fast "
        f"({low:.2f} - {high:.2f} by round), {result[f'memory_ratio{suffix}']:.2f} times the memory"
    )
