"""A run that the stages really made can be exported, and its base is recognised."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dart_jax.config import parse
from dart_jax.export import export
from dart_jax.model.load import open_checkpoint
from dart_jax.model.lora import merge_lora
from dart_jax.model.merged import checkpoint_digest
from dart_jax.model.peft_file import load_peft, load_peft_config
from dart_jax.model.weights import load_params
from dart_jax.run_dir import RunDir
from dart_jax.stages.context import Run


@pytest.mark.parametrize("adapter", ["M_int", "M_DART"])
def test_both_formats(adapter, finished, tiny_model, tmp_path):
    for form in ("peft", "merged"):
        export(finished, adapter, form, tmp_path / form)
    config, source = open_checkpoint(tiny_model)
    lora = load_peft_config(tmp_path / "peft")
    trained = load_peft(tmp_path / "peft", config, lora)
    exact = merge_lora(load_params(config, source, jnp.float32), trained, lora.scale)
    merged = load_params(config, open_checkpoint(tmp_path / "merged")[1], jnp.float32)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), merged, exact)
    assert "## Drift" in (tmp_path / "merged/README.md").read_text()


def test_the_stages_name_the_base_as_the_export_does(settings, tiny_model, tmp_path):
    config, _, _ = parse(settings(tmp_path))
    assert Run(config, RunDir(config.run)).model_input() == checkpoint_digest(tiny_model)
