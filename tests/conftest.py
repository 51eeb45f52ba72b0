"""What every test runs under; set before jax is imported, and inherited by subprocesses.

Eight simulated CPU devices, so that sharding is real; no download.
"""

import os

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = " ".join(
    [os.environ.get("XLA_FLAGS", ""), "--xla_force_host_platform_device_count=8"]
)
os.environ["HF_HUB_OFFLINE"] = "1"
