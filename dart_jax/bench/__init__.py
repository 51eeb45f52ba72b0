"""Measurements against peers: each command compares like with like in one run."""
