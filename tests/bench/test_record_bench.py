"""Tables of a benchmark agree with the file that its figures are kept in."""

import json
import shutil

import pytest

from tests import record_bench, test_documents
from tests.record_bench import BENCH, markdown, record
from tests.record_run import RESULTS

RATIOS = {"ratio_vs_best_peer": 2.004, "ratio_min": 1.9, "ratio_max": 2.1, "memory_ratio": 0.4}
HOW = {"machine": {"cores": 2}, "versions": {"jax": "1"}, "failed": {}}


def entry(rate, name, stage="rounds"):
    return {name: rate, f"{name}_min": rate - 0.1, f"{name}_max": rate + 0.1, "stage": stage} | {
        "peak_rss_bytes": 3e9
    }


def training(rate, stage="rounds"):
    return entry(rate, "examples_per_second", stage)


def decoding(rate, stage="rounds"):
    return entry(rate, "pairs_per_second", stage)


TRAINING = {
    "ours": {"variants": {"ours-a": training(2.0), "ours-b": training(1.0)}},
    "peers": {"hf-a": training(1.5, "tuning")},
    "by_packing": {"segments": RATIOS},
}
ONCE = {"pairs_per_second_min": 1.5, "pairs_per_second_max": 1.5}
DECODING = {
    "ours": {
        "variants": {
            "ours-a": {"fixed": decoding(2.0), "natural": decoding(1.0)},
            "ours-b": {"fixed": decoding(1.5) | ONCE},
        }
    },
    "peers": {
        "hf-a": {"natural": decoding(3.0, "tuning")},
        "release": {"sampled": decoding(9.0)},
    },
    **{f"{key}_natural": value for key, value in RATIOS.items()},
}


@pytest.mark.parametrize(
    ("section", "result", "line"),
    [
        ("training", TRAINING, "| hf-a | 1.50 | one tuning round | 3.00 |"),
        ("training", TRAINING, "| segments | 2.00 | 1.90 - 2.10 | 0.40 |"),
        ("decoding", DECODING, "| hf-a |  | 3.00 (one tuning round) |"),
        ("decoding", DECODING, "| ours-b | 1.50 (one round) |  |"),
        ("decoding", DECODING, "| natural stops | 2.00 | 1.90 - 2.10 | 0.40 |"),
    ],
)
def test_tables_agree_with_what_is_kept(section, result, line, tmp_path, monkeypatch):
    shutil.copy(RESULTS / BENCH, tmp_path)
    for module in (record_bench, test_documents):
        monkeypatch.setattr(module, "RESULTS", tmp_path)
    tables = record(section, result | HOW, "bench it", "abc")
    text = "\n".join(markdown(name, rows) for name, rows in tables.items())
    assert line in text.splitlines() and "release" not in text
    assert test_documents.wrong_cells(text) == []
    assert len(test_documents.wrong_cells(text.replace("2.00", "2.01"))) >= 1

    document = json.loads((tmp_path / BENCH).read_text("utf-8"))
    assert document["runs"][section]["command"] == "bench it"
    assert document["quantised_base"], "what other commands measured stays"
