"""Weigh drift cases: by their severity, or by a function of the user's own.

repair.severity_weights   four numbers, from minor to extreme
repair.weight_fn          my_pkg.weight: a function of the case, `weight(case: DriftCase)`
"""

import math
import numbers
from collections.abc import Callable, Sequence
from typing import Any

from dart_jax.own_code import code_file, code_hash, import_function, place
from dart_jax.records import DriftCase, Severity
from dart_jax.settings import LossWeight, allows, described
from dart_jax.teach.config import RepairConfig

WeightOf = Callable[[DriftCase], float]

KEY = "repair.weight_fn"


def case_weight(config: RepairConfig) -> WeightOf:
    """Find the function that weighs a drift case.

    Raises:
        ValueError: `repair.weight_fn` cannot be imported. So does the returned function, for a case
            on which the user's own fails, or returns what is no weight.
    """
    if config.weight_fn is None:
        weights = config.weights
        return lambda case: severity_weight(case.severity, weights)

    name = config.weight_fn
    function = import_function(name, KEY)
    return lambda case: _own_weight(function, name, case)


def weight_fn_inputs(config: RepairConfig) -> dict[str, Any]:
    """Identify a custom weight by the text of its file; nothing where severities weigh."""
    if config.weight_fn is None:
        return {}
    return {"weight_fn code": code_hash(import_function(config.weight_fn, KEY))}


def severity_weight(severity: Severity, weights: Sequence[float]) -> float:
    """Look up the loss weight of a severity.

    Args:
        weights: Weights from minor to extreme (paper: 1, 2, 3, 4).

    Raises:
        ValueError: The weights are not four positive finite numbers.
    """
    if len(weights) != len(Severity) or not all(math.isfinite(w) and w > 0 for w in weights):
        raise ValueError(
            f"repair.severity_weights {tuple(weights)}: give four positive numbers, for minor,"
            " moderate, severe and extreme"
        )
    # Severities count from 1.
    return float(weights[severity - 1])


def _own_weight(function: Callable[[DriftCase], Any], name: str, case: DriftCase) -> float:
    """Call the user's function, twice: the guard on weights computes them anew from the cases."""
    of_case = f"the {case.severity.name.lower()} drift case of question {case.question_id}"
    try:
        weight, again = function(case), function(case)
    except Exception as error:  # a function of the user's own may raise anything
        where = place(error, code_file(function))
        what = f"{type(error).__name__}: {error}"
        raise ValueError(f"{KEY}: {name} fails on {of_case}{where}: {what}") from error

    # numpy's numbers are Real, too; a bool is, and says nothing about how much.
    is_number = isinstance(weight, numbers.Real) and not isinstance(weight, bool)
    if not is_number or not allows(LossWeight, float(weight)):
        raise ValueError(
            f"{KEY}: {name} ({code_file(function)}) returned {weight!r} for {of_case}; "
            f"it must return {described(LossWeight)}"
        )
    if weight != again:
        raise ValueError(
            f"{KEY}: {name} ({code_file(function)}) returned {weight!r} and then {again!r} for "
            f"{of_case}; a weight must depend on the case alone"
        )
    return float(weight)
