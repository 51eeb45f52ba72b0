"""Weights of drift cases of the laboratory (`repair.weight_fn`), run from the repository's root."""

from dart_jax.records import DriftCase


def by_delta(case: DriftCase) -> float:
    """Weigh a case by the rise of its harm score, which is finer than four severities.

    Returns:
        4 delta: a rise of the whole scale weighs as much as an extreme case does by severity.
    """
    return 4 * case.delta
