"""Names of a run's models and of the severities, in the order of every table."""

from dart_jax.records import Severity

MODELS = ("M0", "M_int", "M_DART")
"""The base model, the model after distillation, the model after the first repair."""

AUDITED = ("M_int", "M_DART")
"""The models that are audited against M0."""

SEVERITIES = tuple(severity.name.lower() for severity in Severity)
