"""Keep what `bench train` and `bench generate` measured, and print the tables for the README.

    .venv/bin/python -m tests.record_bench training train.json --command "bench train ..."
    .venv/bin/python -m tests.record_bench decoding generate.json --command "bench generate ..."

replaces these tables in configs/results/bench.json, with the command, the commit and the machine,
and prints them as dart_jax/bench/README.md has them. `--beside NAME` adds to their names, so that
another machine's stand beside them. tests/test_documents.py then names each cell there that says
otherwise.
"""

import argparse
import json
from pathlib import Path

from dart_jax.records import write_text
from tests.record_run import RESULTS, head

BENCH = "bench.json"
MODES = {"fixed": "pairs/s, fixed number", "natural": "pairs/s, natural stops"}

Cells = dict[str, dict[str, str]]
"""Cells by title of the row and of the column."""


def training_tables(result: dict) -> dict[str, Cells]:
    """Every variant, the fastest first; and the ratio of each packing to the best peer."""
    entries = {**result["ours"]["variants"], **result["peers"]}
    variants = {}
    for name, entry in sorted(entries.items(), key=lambda item: -item[1]["examples_per_second"]):
        variants[name] = {
            "examples/s": f"{entry['examples_per_second']:.2f}",
            "min - max": spread(entry, "examples_per_second"),
            "memory, GB": f"{entry['peak_rss_bytes'] / 1e9:.2f}",
        }
    ratios = {packing: ratio_cells(found) for packing, found in result["by_packing"].items()}
    return {"training": variants, "training_ratios": ratios}


def decoding_tables(result: dict) -> dict[str, Cells]:
    """Every variant under each rule of stopping; and the ratios to the best peers."""
    entries = {**result["ours"]["variants"], **result["peers"]}
    shown = {name: modes for name, modes in entries.items() if MODES.keys() & modes.keys()}

    def slowness(name: str) -> list[float]:
        return [-shown[name].get(mode, {}).get("pairs_per_second", 0.0) for mode in MODES]

    variants: Cells = {}
    for name in sorted(shown, key=slowness):
        variants[name] = {}
        for mode, title in MODES.items():
            if entry := shown[name].get(mode):
                rate = f"{entry['pairs_per_second']:.2f}"
                variants[name][title] = f"{rate} ({spread(entry, 'pairs_per_second')})"
    ratios: Cells = {}
    for title, suffix in (("fixed number", ""), ("natural stops", "_natural")):
        if f"ratio_vs_best_peer{suffix}" in result:
            ratios[title] = ratio_cells(result, suffix)
    return {"decoding": variants, "decoding_ratios": ratios}


def spread(entry: dict, rate: str) -> str:
    """The slowest and the fastest round, where there was more than a short one."""
    if entry["stage"] != "rounds":
        return "one tuning round"
    return _between(entry[f"{rate}_min"], entry[f"{rate}_max"])


def _between(low: float, high: float) -> str:
    return "one round" if low == high else f"{low:.2f} - {high:.2f}"


def ratio_cells(result: dict, suffix: str = "") -> dict[str, str]:
    """Speed and memory against the best peer."""
    low, high = result[f"ratio_min{suffix}"], result[f"ratio_max{suffix}"]
    return {
        "times as fast": f"{result[f'ratio_vs_best_peer{suffix}']:.2f}",
        "by round": _between(low, high),
        "times the memory": f"{result[f'memory_ratio{suffix}']:.2f}",
    }


def markdown(name: str, rows: Cells) -> str:
    """A table with the mark by which test_documents finds it."""
    columns = list(dict.fromkeys(column for cells in rows.values() for column in cells))
    lines = [f"<!-- results: {BENCH}#{name} -->", ""]
    lines += [f"| | {' | '.join(columns)} |", f"|---{'|---' * len(columns)}|"]
    for row, cells in rows.items():
        lines.append(f"| {row} | {' | '.join(cells.get(column, '') for column in columns)} |")
    return "\n".join(lines) + "\n"


TABLES = {"training": training_tables, "decoding": decoding_tables}


def record(
    section: str, result: dict, command: str, commit: str, beside: str | None = None
) -> dict[str, Cells]:
    """Replace the tables of a section in configs/results/bench.json; returns them."""
    path, end = RESULTS / BENCH, f"_{beside}" if beside else ""
    document = json.loads(path.read_text("utf-8"))
    tables = {f"{name}{end}": cells for name, cells in TABLES[section](result).items()}
    how = {"command": command, "commit": commit, "failed": result["failed"]}
    how |= {key: result[key] for key in ("machine", "versions")}
    document |= tables
    document.setdefault("runs", {})[f"{section}{end}"] = how
    write_text(path, json.dumps(document, indent=1, ensure_ascii=False) + "\n")
    return tables


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("section", choices=TABLES)
    parser.add_argument("result", type=Path, help="what --out wrote")
    parser.add_argument("--command", required=True, help="the command that wrote it")
    parser.add_argument("--commit", help="the commit that was measured (default: this tree's)")
    parser.add_argument("--beside", help="another machine's tables, such as avx2")
    given = parser.parse_args()
    measured = json.loads(given.result.read_text("utf-8"))
    for name, rows in record(
        given.section, measured, given.command, given.commit or head(), given.beside
    ).items():
        print(markdown(name, rows))
