"""The made-up run of the tests of its numbers."""

from tests.evaluate.conftest import agreement, calibration, summary

__all__ = ["agreement", "calibration", "summary"]
