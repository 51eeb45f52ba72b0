"""Peak resident memory of a process."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[2]
CHILD = """
from dart_jax.bench.memory import peak_rss_bytes
before = peak_rss_bytes()
block = b"x" * 200_000_000
during = peak_rss_bytes()
del block
print(before, during, peak_rss_bytes())
"""


def test_a_peak_is_of_one_process_and_stays():
    """The counter of getrusage would begin with what the parent holds at the fork."""
    parents = np.ones(2**25)  # 268 MB, touched
    done = subprocess.run(
        [sys.executable, "-c", CHILD],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        check=True,
    )
    before, during, after = map(int, done.stdout.split())
    assert before < parents.nbytes / 2
    assert 190_000_000 < during - before < 210_000_000
    assert after > 0.99 * during
