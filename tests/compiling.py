"""What XLA is told in the tests, where compiling takes most of the time.

Level 0 halves it; the older emitters of fusions, which jax 0.12 no longer has, halve it again
(measured on the training step and the decoder of a two-layer model: 20 to 10 s of CPU time).
"""

from importlib.metadata import version

QUICKLY = "--xla_backend_optimization_level=0"
if version("jaxlib").startswith("0.10."):  # XLA ends the process at a flag that it does not know
    QUICKLY += " --xla_cpu_use_fusion_emitters=false"


def quickly_on(devices: int) -> str:
    """XLA_FLAGS of a process with so many simulated devices."""
    return f"--xla_force_host_platform_device_count={devices} {QUICKLY}"
