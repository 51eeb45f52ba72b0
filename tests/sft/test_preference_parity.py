"""Steps on pairs against torch: `peft` adapters, the papers' formulas, and TRL's own losses."""

import copy
import math
from dataclasses import replace
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file

from dart_jax.model.load import open_checkpoint
from dart_jax.model.peft_file import TENSOR_FILE, save_peft
from dart_jax.model.weights import load_params
from dart_jax.sft.batch import with_origins
from dart_jax.sft.config import LossConfig, SftConfig
from dart_jax.sft.examples import pair_up
from dart_jax.sft.packing import make_plan
from dart_jax.sft.step import gradients
from dart_jax.sft.token_losses import token_loss
from tests.tiny_model import character_tokenizer, hf_twin

torch = pytest.importorskip("torch")
peft = pytest.importorskip("peft")

BETA = 0.3
DPO = LossConfig(preference="dpo", preference_beta=BETA)
ORPO = LossConfig(preference="orpo", preference_beta=BETA)


@pytest.fixture(scope="module")
def base(config, tmp_path_factory):
    """(torch model, our parameters) of the same weights."""
    twin, folder = hf_twin(config), tmp_path_factory.mktemp("base")
    twin.save_pretrained(folder)
    return twin, load_params(*open_checkpoint(folder), np.float32)


@pytest.fixture(scope="module")
def reference(lora_params):
    """M_int, from which the trained adapter has moved a little."""
    return jax.tree.map(lambda x: 0.9 * x + 0.01, lora_params)


@pytest.fixture(scope="module")
def folders(lora_params, reference, lora, tmp_path_factory):
    """The trained and the starting adapter in peft's form."""
    root = tmp_path_factory.mktemp("adapters")
    save_peft(root / "trained", lora_params, lora, "tiny")
    save_peft(root / "starting", reference, lora, "tiny")
    return root / "trained", root / "starting"


@pytest.fixture(scope="module")
def make_pairs(make_examples, config):
    """A function: three pairs of these weights, two replayed targets, a repair by itself."""

    def make(weights, replayed=True):
        rng = np.random.default_rng(3)
        made = make_examples(6)
        repairs = [
            replace(e, source="repair", weight=w) for e, w in zip(made, weights, strict=False)
        ]
        drifted = []
        for example in repairs:
            own = rng.integers(1, config.vocab_size, rng.integers(1, 9)).tolist()
            tokens = (*example.tokens[: example.prompt_length], *own)
            drifted.append(replace(example, tokens=tokens, source="drifted"))
        others = [replace(made[3], weight=2.0), made[4], replace(made[5], source="repair")]
        return pair_up([*repairs, *(others if replayed else []), *drifted])

    return make


@pytest.fixture(scope="module")
def ours(base, lora_params, reference, lora, make_spec, tmp_path_factory):
    """A function: {tensor: gradient}, loss and its parts of these examples as one step."""
    compiled = jax.jit(gradients, static_argnames=("spec", "layout"))

    def run(examples, config, normalization="weighted_token_mean", start=reference, **sft):
        units = sum(example.source != "drifted" for example in examples)
        sft = SftConfig(**{"batch_size": units, "packing": "none", "row_length": 128, **sft})
        step = make_plan(examples, sft, epochs=1, seed=0)[0]
        spec = make_spec(normalization)._replace(token_loss=token_loss(config))
        batch = jax.tree.map(jnp.asarray, with_origins(step, examples))
        given = start if spec.needs_reference else None
        grads, loss, _, parts = compiled(
            lora_params, base[1], batch, spec=spec, layout=step.layout, key=None, reference=given
        )
        folder = tmp_path_factory.mktemp("gradients")
        save_peft(folder, grads, lora, "gradients")
        return load_file(folder / TENSOR_FILE), float(loss), parts

    return run


def log_probabilities(model, example):
    """log p of each completion token; one row at a time, without padding or mask."""
    tokens = torch.tensor([example.tokens])
    log_p = model(tokens).logits[0, :-1].log_softmax(-1)
    return log_p.gather(-1, tokens[0, 1:, None])[example.prompt_length - 1 :, 0]


def theirs(twin, folders, examples, config, normalization="weighted_token_mean"):
    """The same by torch's autograd, from the formulas of both papers."""
    trained = peft.PeftModel.from_pretrained(copy.deepcopy(twin), folders[0], is_trainable=True)
    starting = peft.PeftModel.from_pretrained(copy.deepcopy(twin), folders[1])
    total, mass, count = 0.0, 0.0, 0
    for example in examples:
        if example.source == "drifted":
            continue
        own = log_probabilities(trained, example)
        loss = -own.mean()
        if example.pair:
            [rival] = [e for e in examples if e.pair == example.pair and e is not example]
            other = log_probabilities(trained, rival)
            if config.preference == "dpo":
                with torch.no_grad():
                    before = log_probabilities(starting, example).sum()
                    before -= log_probabilities(starting, rival).sum()
                margin = BETA * (own.sum() - other.sum() - before)
                loss = -torch.nn.functional.logsigmoid(margin)
            else:
                odds = [x.mean() - torch.log1p(-x.mean().exp()) for x in (own, other)]
                loss = loss - BETA * torch.nn.functional.logsigmoid(odds[0] - odds[1])
        total, mass, count = total + example.weight * loss, mass + example.weight, count + 1
    loss = total / (mass if normalization == "weighted_token_mean" else count)
    loss.backward()
    return gradients_of(trained), loss.item()


def gradients_of(model):
    return {
        name.replace(".default", ""): weight.grad.numpy()
        for name, weight in model.named_parameters()
        if weight.grad is not None
    }


def assert_equal(found, expected, rel=1e-4):
    assert found[1] == pytest.approx(expected[1], rel=1e-5)
    assert set(found[0]) == set(expected[0])
    for name, grad in expected[0].items():
        error = np.linalg.norm(found[0][name] - grad) / np.linalg.norm(grad)
        assert error < rel, f"{name}: relative error {error}"


@pytest.mark.parametrize(
    ("preference", "normalization", "layout"),
    [
        (DPO, "weighted_token_mean", {}),
        (DPO, "weighted_token_mean", {"packing": "shared_prefix", "micro_batch_size": 2}),
        (ORPO, "example_mean", {"packing": "segments", "micro_batch_size": 3}),
    ],
    ids=["dpo", "dpo packed in micro-batches", "orpo packed in micro-batches"],
)
def test_a_step_is_the_papers_formula_of_separate_texts(
    preference, normalization, layout, ours, base, folders, make_pairs
):
    examples = make_pairs((1.0, 3.0, 2.0))
    found = ours(examples, preference, normalization, **layout)
    assert_equal(found, theirs(base[0], folders, examples, preference, normalization))
    assert set(found[2]) == {"cross_entropy", preference.preference}
    assert float(sum(found[2].values())) == pytest.approx(found[1], rel=1e-5)


def test_weight_k_is_k_copies(ours, make_pairs):
    weighted = [replace(e, pair=0) for e in make_pairs((1.0, 3.0, 2.0))]
    copies = [replace(e, weight=1.0) for e in weighted for _ in range(int(e.weight))]
    assert_equal(ours(pair_up(weighted), DPO), ours(pair_up(copies), DPO)[:2])


def test_at_the_start_every_pair_costs_log_two(ours, make_pairs, lora_params):
    examples = make_pairs((1.0, 3.0, 2.0))
    grads, _, parts = ours(examples, DPO, start=lora_params)
    share = 6 / sum(e.weight for e in examples if e.source != "drifted")
    assert float(parts["dpo"]) == pytest.approx(share * math.log(2), rel=1e-5)
    assert any(np.abs(grad).max() > 0 for grad in grads.values())


@pytest.fixture
def trl_inputs(make_pairs):
    """(Our examples, all of weight 1 and in pairs; TRL's rows of them)."""
    examples = make_pairs((1.0, 1.0, 1.0), replayed=False)
    rows = []
    for chosen, rejected in zip(examples[:3], examples[3:], strict=True):
        prompt = chosen.prompt_length
        rows.append(
            {
                "prompt_ids": list(chosen.tokens[:prompt]),
                "chosen_ids": list(chosen.tokens[prompt:]),
                "rejected_ids": list(rejected.tokens[prompt:]),
            }
        )
    return examples, rows


@pytest.mark.slow
def test_dpo_is_trls(ours, base, folders, trl_inputs, tmp_path):
    """Of a trainer that continues an adapter, whose copy is its reference, as M_int is here."""
    trl = pytest.importorskip("trl")
    import safetensors.torch
    from datasets import Dataset

    examples, rows = trl_inputs
    model = peft.PeftModel.from_pretrained(copy.deepcopy(base[0]), folders[1], is_trainable=True)
    args = trl.DPOConfig(
        str(tmp_path),
        beta=BETA,
        use_cpu=True,
        bf16=False,
        report_to="none",
        gradient_checkpointing=False,
        disable_dropout=True,
    )
    text = Dataset.from_list([{"prompt": "p", "chosen": "c", "rejected": "r"}])
    trainer = trl.DPOTrainer(
        model, args=args, train_dataset=text, processing_class=character_tokenizer()
    )
    # The reference is taken by now; the trained adapter moves on.
    trained = safetensors.torch.load_file(folders[0] / TENSOR_FILE)
    peft.set_peft_model_state_dict(model, trained, "default")
    loss = trainer.compute_loss(model, trainer.data_collator(rows))
    loss.backward()
    assert_equal(ours(examples, DPO), (gradients_of(model), loss.item()))


@pytest.mark.slow
def test_the_odds_ratio_is_trls(ours, base, folders, trl_inputs):
    orpo = pytest.importorskip("trl.experimental.orpo")
    examples, _ = trl_inputs
    model = peft.PeftModel.from_pretrained(copy.deepcopy(base[0]), folders[0])
    with torch.no_grad():
        means = torch.stack([log_probabilities(model, example).mean() for example in examples])
    settings = SimpleNamespace(beta=BETA, accelerator=SimpleNamespace(device="cpu"))
    losses, *_ = orpo.ORPOTrainer.odds_ratio_loss(settings, means[:3], means[3:])
    parts = ours(examples, ORPO)[2]
    assert float(parts["orpo"]) == pytest.approx(-losses.mean().item(), rel=1e-5)
    assert float(parts["cross_entropy"]) == pytest.approx(-means[:3].mean().item(), rel=1e-5)
