"""Names of a run's models, of the severities and of the metrics, in the order of every table."""

import math

from dart_jax.records import Severity

MODELS = ("M0", "M_int", "M_DART")
"""The base model, the model after distillation, the model after the first repair."""

AUDITED = ("M_int", "M_DART")
"""The models that are audited against M0."""


def at_strength(model: str, strength: float) -> str:
    """Name a model whose adapter acts at a part of its strength, such as `M_int@0.5`."""
    return f"{model}@{strength}"


def strength_of(name: str) -> tuple[str, float]:
    """Split a model's name into that of its adapter and the strength, 1 where none is named."""
    adapter, _, strength = name.partition("@")
    return adapter, float(strength or 1)


SEVERITIES = tuple(severity.name.lower() for severity in Severity)

RATES = ("accuracy", "equal_accuracy", "diff_accuracy", "yes_rate", "unparseable_rate")
"""Decision rates of a model."""

PLANTED = ("planted", "planted_harm", *(f"planted_{name}" for name in SEVERITIES))
"""Planted faults that answers to the test questions show: `planted`, the share of the answers;
`planted_harm`, the sum of their severities' numbers (1 to 4) divided by the number of answers;
`planted_minor` to `planted_extreme`, the share of the answers with a fault of that severity."""

LEFT = tuple(f"left_{name}" for name in SEVERITIES)
"""Of M_int's planted faults of a severity, the share that M_DART still shows."""

COLLATERAL = ("undrifted_same", "undrifted_kl", "undrifted_longer", "drifted_same")
"""Changes of M_DART's answers from M_int's where M_int's had not drifted: `undrifted_same`, the
share that is the same word for word; `undrifted_kl`, KL(M_int || M_DART) of the first tokens in
nats a token; `undrifted_longer`, in tokens. `drifted_same`: the share where M_int's had drifted."""

METRICS = (
    *(*RATES, "forced_accuracy", "auroc", "drift", "drift_cases", "drift_reduction"),
    *(*PLANTED, "planted_reduction", *LEFT, "undrifted", *COLLATERAL),
)
"""`drift`: confirmed cases as a share of the test pairs; M0 has none. `undrifted`: the number of
test questions without confirmed drift of M_int."""

POSSIBLE = {
    **dict.fromkeys((*RATES, "forced_accuracy", "auroc", "drift", *PLANTED), (0.0, 1.0)),
    "planted_harm": (0.0, float(max(Severity))),
    # Cases are a count. A repair may add faults: more than all may then be left, and a reduction
    # may be of any size below 0.
    **dict.fromkeys(("drift_cases", *LEFT, "undrifted", "undrifted_kl"), (0.0, math.inf)),
    **dict.fromkeys(("drift_reduction", "planted_reduction"), (-math.inf, 1.0)),
    **dict.fromkeys(("undrifted_same", "drifted_same"), (0.0, 1.0)),
    "undrifted_longer": (-math.inf, math.inf),
}
"""The least and the greatest value of each metric, at which an interval over seeds is cut."""

COMPARED = ("accuracy", "auroc", "drift", *PLANTED, *COLLATERAL)
"""Metrics whose differences between variants are shown."""

BY_EVALUATOR = {
    "drift": POSSIBLE["drift"],
    "reduction": POSSIBLE["drift_reduction"],
    "kappa": (-1.0, 1.0),
}
"""Figures of an evaluator that had no part in a run, with their bounds: the share of the pairs with
a verdict that drift, its reduction from M_int to M_DART, and Cohen's kappa with the audit."""
