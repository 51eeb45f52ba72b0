"""Adapters to and from the `peft` library."""

import dataclasses
import json

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from dart_jax.model.config import LORA_TARGETS, LoraConfig
from dart_jax.model.load import open_checkpoint
from dart_jax.model.peft_file import (
    CONFIG_FILE,
    TENSOR_FILE,
    check_trained,
    load_peft,
    load_peft_config,
    save_peft,
)
from dart_jax.model.weights import BadCheckpoint, load_params

Q0 = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"


@pytest.fixture
def saved(tmp_path, lora, lora_params):
    folder = tmp_path / "adapter"
    save_peft(folder, lora_params, lora, "tiny")
    return folder


@pytest.fixture
def twins(config, hf_model, tmp_path):
    """The same base model in torch and here."""
    twin = hf_model(config)
    twin.save_pretrained(tmp_path / "base")
    found, source = open_checkpoint(tmp_path / "base")
    return twin, load_params(found, source, np.float32)


def test_round_trip(saved, config, lora, lora_params):
    assert load_peft_config(saved) == lora
    found = load_peft(saved, config, lora)
    assert list(found) == list(lora_params)
    jax.tree.map(np.testing.assert_array_equal, found, lora_params)
    assert sorted(file.name for file in saved.iterdir()) == [CONFIG_FILE, TENSOR_FILE]


def test_orientation(saved, config, lora_params):
    stored = load_file(saved / TENSOR_FILE)
    assert len(stored) == 2 * len(LORA_TARGETS) * config.num_layers
    np.testing.assert_array_equal(stored[Q0], lora_params["q"]["A"][0].T)
    b = stored["base_model.model.model.layers.2.mlp.down_proj.lora_B.weight"]
    np.testing.assert_array_equal(b, lora_params["down"]["B"][2].T)


def test_saving_again_replaces(saved, config, lora, lora_params):
    only_v = dataclasses.replace(lora, targets=("v",))
    save_peft(saved, {"v": lora_params["v"]}, only_v, "tiny")
    assert list(load_peft(saved, config, only_v)) == ["v"]


def test_ours_in_peft(saved, config, lora, lora_params, twins, tokens, logits, hf_logits):
    peft = pytest.importorskip("peft")
    twin, base = twins
    before = hf_logits(twin, tokens)
    adapted = hf_logits(peft.PeftModel.from_pretrained(twin, saved).eval(), tokens)
    assert np.abs(adapted - before).max() > 0.1
    ours = logits(config, base, tokens, lora_params, lora.scale)
    np.testing.assert_allclose(ours, adapted, atol=1e-4)


@pytest.mark.parametrize("targets", [("q", "v"), ("down", "o", "gate", "k")])
def test_peft_in_ours(targets, config, twins, tokens, logits, hf_logits, tmp_path):
    peft = pytest.importorskip("peft")
    torch = pytest.importorskip("torch")
    twin, base = twins
    modules = [f"{t}_proj" for t in targets]
    settings = peft.LoraConfig(r=3, lora_alpha=7, target_modules=modules, task_type="CAUSAL_LM")
    adapted = peft.get_peft_model(twin, settings).eval()
    with torch.no_grad():
        for name, weight in adapted.named_parameters():
            if "lora_B" in name:
                weight.normal_(std=0.2)
    adapted.save_pretrained(tmp_path / "theirs")
    lora = load_peft_config(tmp_path / "theirs")
    assert (lora.rank, lora.alpha, set(lora.targets)) == (3, 7.0, set(targets))
    found = load_peft(tmp_path / "theirs", config, lora)
    expected = hf_logits(adapted, tokens)
    np.testing.assert_allclose(logits(config, base, tokens, found, lora.scale), expected, atol=1e-4)


def test_trained_by_peft(config, twins, tokens, logits, hf_logits, tmp_path):
    """Two real steps of torch's AdamW: the adapter loads here, and nowhere else."""
    peft = pytest.importorskip("peft")
    torch = pytest.importorskip("torch")
    twin, base = twins
    before = hf_logits(twin, tokens)
    settings = peft.LoraConfig(
        r=2, lora_alpha=6, lora_dropout=0.1, target_modules=["v_proj", "up_proj"]
    )
    adapted = peft.get_peft_model(twin, settings).train()
    optimizer = torch.optim.AdamW([w for w in adapted.parameters() if w.requires_grad], lr=0.1)
    ids = torch.from_numpy(np.array(tokens, np.int64))
    for _ in range(2):
        optimizer.zero_grad()
        adapted(ids, labels=ids).loss.backward()
        optimizer.step()
    adapted.save_pretrained(tmp_path / "trained")
    lora = load_peft_config(tmp_path / "trained")
    assert lora == LoraConfig(rank=2, alpha=6.0, dropout=0.1, targets=("v", "up"))
    found = load_peft(tmp_path / "trained", config, lora)
    check_trained(found, tmp_path)
    expected = hf_logits(adapted.eval(), tokens)
    assert np.abs(expected - before).max() > 0.1
    np.testing.assert_allclose(logits(config, base, tokens, found, lora.scale), expected, atol=1e-4)
    for other in ({"rank": 4}, {"alpha": 2.0}, {"targets": ("v", "gate")}):
        with pytest.raises(BadCheckpoint, match=f"{next(iter(other))} is .*, expected"):
            load_peft(tmp_path / "trained", config, dataclasses.replace(lora, **other))


def test_every_part_must_have_been_trained(lora_params, tmp_path):
    check_trained(lora_params, tmp_path)
    up = {**lora_params["up"], "B": lora_params["up"]["B"].at[1].set(0)}
    with pytest.raises(BadCheckpoint, match=r"all zero: .*layers\.1\.mlp\.up_proj\.lora_B.*never"):
        check_trained({**lora_params, "up": up}, tmp_path)
    fresh = {target: {**w, "B": 0 * w["B"]} for target, w in lora_params.items()}
    with pytest.raises(BadCheckpoint, match="and 16 more"):
        check_trained(fresh, tmp_path)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_numbers_that_are_not_finite(bad, config, lora, lora_params, tmp_path):
    q = {**lora_params["q"], "A": lora_params["q"]["A"].at[2, 0, 0].set(bad)}
    save_peft(tmp_path, {**lora_params, "q": q}, lora, "base")
    with pytest.raises(BadCheckpoint, match=r"not finite: .*layers\.2\.self_attn\.q_proj\.lora_A"):
        load_peft(tmp_path, config, lora)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rank": 8}, "rank is 4, expected 8"),
        ({"alpha": 32.0}, "alpha is 12.0, expected 32.0"),
        ({"targets": ("q", "v")}, r"targets is \['down'.*expected \['q', 'v'\]"),
    ],
)
def test_other_settings(change, message, saved, config, lora):
    with pytest.raises(BadCheckpoint, match=message):
        load_peft(saved, config, dataclasses.replace(lora, **change))


def test_dropout_and_order_of_targets_may_differ(saved, config, lora, lora_params):
    other = dataclasses.replace(lora, dropout=0.5, targets=lora.targets[::-1])
    jax.tree.map(np.testing.assert_array_equal, load_peft(saved, config, other), lora_params)


def _rewrite(folder, change):
    tensors = load_file(folder / TENSOR_FILE)
    change(tensors)
    save_file(tensors, folder / TENSOR_FILE)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda tensors: tensors.pop(Q0), f"missing {Q0}"),
        (lambda tensors: tensors.update(extra=np.zeros(3)), "unknown extra"),
        (
            lambda tensors: tensors.update({Q0: tensors[Q0][:, 1:].copy()}),
            rf"misshaped {Q0} is \(4, 31\), expected \(4, 32\)",
        ),
        (
            lambda tensors: tensors.update({Q0: tensors[Q0].T.copy()}),
            rf"misshaped {Q0} is \(32, 4\)",
        ),
    ],
)
def test_bad_tensors(change, message, saved, config, lora):
    _rewrite(saved, change)
    with pytest.raises(BadCheckpoint, match=message):
        load_peft(saved, config, lora)


def test_adapter_of_another_model(saved, config, lora):
    deeper = dataclasses.replace(config, num_layers=4)
    with pytest.raises(BadCheckpoint, match=r"missing base_model.model.model.layers.3"):
        load_peft(saved, deeper, lora)


def test_truncated_and_absent(saved, config, lora):
    file = saved / TENSOR_FILE
    file.write_bytes(file.read_bytes()[:-10])
    with pytest.raises(BadCheckpoint, match="not a readable safetensors"):
        load_peft(saved, config, lora)
    file.unlink()
    with pytest.raises(FileNotFoundError, match=TENSOR_FILE):
        load_peft(saved, config, lora)
    (saved / CONFIG_FILE).unlink()
    with pytest.raises(FileNotFoundError, match=CONFIG_FILE):
        load_peft_config(saved)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"use_rslora": True}, "only plain LoRA .*use_rslora"),
        ({"use_dora": True}, "only plain LoRA .*use_dora"),
        ({"bias": "all"}, "only plain LoRA .*bias"),
        ({"modules_to_save": ["lm_head"]}, "only plain LoRA .*modules_to_save"),
        ({"rank_pattern": {"q_proj": 2}}, "only plain LoRA .*rank_pattern"),
        ({"peft_type": "IA3"}, "only plain LoRA .*IA3"),
        ({"init_lora_weights": "pissa"}, "only plain LoRA .*pissa"),
        ({"target_modules": ["q_proj", "lm_head"]}, r"target_modules \['lm_head'\]"),
        ({"target_modules": ".*q_proj"}, r"target_modules \.\*q_proj"),
    ],
)
def test_what_our_adapters_cannot_be(change, message, saved):
    path = saved / CONFIG_FILE
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(BadCheckpoint, match=message):
        load_peft_config(saved)


def test_bad_config_file(saved):
    path = saved / CONFIG_FILE
    raw = json.loads(path.read_text())
    del raw["r"]
    path.write_text(json.dumps(raw))
    with pytest.raises(BadCheckpoint, match="key 'r' is missing"):
        load_peft_config(saved)
    path.write_text("{")
    with pytest.raises(BadCheckpoint, match="not JSON"):
        load_peft_config(saved)
    path.write_text('{"r": 8, "lora_alpha": 16, "r": 16}')
    with pytest.raises(BadCheckpoint, match="the key 'r' is given twice"):
        load_peft_config(saved)


def test_alpha_that_is_no_integer(tmp_path, config, lora, lora_params):
    half = dataclasses.replace(lora, alpha=12.5)
    save_peft(tmp_path, lora_params, half, "tiny")
    assert load_peft_config(tmp_path) == LoraConfig(rank=4, alpha=12.5, dropout=0.0)
