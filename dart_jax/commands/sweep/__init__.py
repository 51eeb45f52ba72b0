"""Variants and seeds of a run, side by side."""
