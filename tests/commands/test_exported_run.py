"""A run that the stages really made can be exported, and its base is recognised."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import yaml

from dart_jax.commands.export import export
from dart_jax.model.load import open_checkpoint
from dart_jax.model.lora import merge_lora
from dart_jax.model.peft_file import load_peft, load_peft_config
from dart_jax.model.weights import BadCheckpoint, load_params


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


def test_another_base_of_the_same_shape_is_refused(copied, retrained, tmp_path):
    """As a second start would notice, but for the run's config.yaml, which was edited."""
    path = copied / "config.yaml"
    config = yaml.safe_load(path.read_text("utf-8"))
    config["model"]["path"] = str(retrained)
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    for form in ("peft", "merged"):
        with pytest.raises(BadCheckpoint, match=r"is not, or no longer, .* \(other weights\)"):
            export(copied, "M_DART", form, tmp_path / form)
        assert not (tmp_path / form).exists()
