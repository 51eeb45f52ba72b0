"""The training step: loss of a micro-batch, sums over micro-batches, one division, one update."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh
from jaxtyping import Array, PyTree

from dart_jax.model.architecture import LlamaConfig
from dart_jax.model.attention import segment_mask
from dart_jax.model.config import LoraConfig
from dart_jax.model.llama import forward, head_kernel, param_axes, param_shapes
from dart_jax.model.lora import LoraParams, lora_axes
from dart_jax.model.sharding import replicated, sharding_of, tree_shardings
from dart_jax.sft.batch import Batch
from dart_jax.sft.config import SftConfig
from dart_jax.sft.loss import cross_entropy_sum, gather_supervised, normalised_weights


class TrainState(NamedTuple):
    """What a step changes. `step` counts finished optimizer steps."""

    step: Array
    lora_params: LoraParams
    opt_state: PyTree


class Metrics(NamedTuple):
    """Scalars of one step, float32.

    Attributes:
        loss: Loss sum divided by its normaliser.
        grad_norm: Global norm of the adapter gradients before clipping.
        weight_mass: Sum of the loss weights over supervised tokens.
        tokens: Tokens that are not padding.
    """

    loss: Array
    grad_norm: Array
    weight_mass: Array
    tokens: Array


class StepSpec(NamedTuple):
    """The static half of a step."""

    config: LlamaConfig
    lora: LoraConfig
    normaliser: str
    loss_chunk: int
    remat: str


def step_spec(config: LlamaConfig, lora: LoraConfig, sft: SftConfig) -> StepSpec:
    """Pick what the step needs out of the sections."""
    return StepSpec(config, lora, sft.normaliser, sft.loss_chunk, sft.remat)


def loss(
    lora_params: LoraParams,
    base_params: PyTree,
    batch: Batch,
    spec: StepSpec,
    supervised: int,
    dropout_key: Array | None = None,
) -> tuple[Array, Array]:
    """Weighted loss sum of one micro-batch [B, T], and its normaliser; differentiate in 0 only.

    Args:
        supervised: Static bound on the supervised positions of a row.
        dropout_key: None for evaluation.
    """
    hidden, _ = forward(
        spec.config,
        base_params,
        lora_params,
        batch.tokens,
        batch.positions,
        segment_mask(batch.positions, batch.segment_ids),
        lora_scale=spec.lora.scale,
        dropout_rate=spec.lora.dropout,
        dropout_key=dropout_key,
        remat=spec.remat,
    )
    weights, normaliser = normalised_weights(batch, spec.normaliser)
    picked = gather_supervised(hidden, batch.targets, weights, supervised)
    kernel = head_kernel(base_params)
    return cross_entropy_sum(picked[0], kernel, *picked[1:], spec.loss_chunk), normaliser


def gradients(
    lora_params: LoraParams,
    base_params: PyTree,
    batches: Batch,
    spec: StepSpec,
    supervised: int,
    key: Array | None,
) -> tuple[LoraParams, Array]:
    """Adapter gradients and loss of [A, B, T] micro-batches, as if they were one batch."""
    value_and_grad = jax.value_and_grad(loss, has_aux=True)

    def add(sums: PyTree, scanned: tuple[Batch, Array]) -> tuple[PyTree, None]:
        batch, index = scanned
        micro_key = None if key is None else jax.random.fold_in(key, index)
        (loss_sum, normaliser), grads = value_and_grad(
            lora_params, base_params, batch, spec, supervised, micro_key
        )
        return jax.tree.map(jnp.add, sums, (grads, loss_sum, normaliser)), None

    zeros = (jax.tree.map(jnp.zeros_like, lora_params), jnp.zeros(()), jnp.zeros(()))
    indices = jnp.arange(batches.tokens.shape[0])
    (grads, loss_sum, normaliser), _ = jax.lax.scan(add, zeros, (batches, indices))
    # A step whose every weight is 0 has no loss: 0, not 0/0.
    divisor = jnp.where(normaliser > 0, normaliser, 1.0)
    return jax.tree.map(lambda grad: grad / divisor, grads), loss_sum / divisor


def train_step(
    state: TrainState,
    base_params: PyTree,
    batches: Batch,
    key: Array,
    *,
    spec: StepSpec,
    optimizer: optax.GradientTransformation,
    supervised: int,
) -> tuple[TrainState, Metrics]:
    """One optimizer step; the dropout noise depends on (key, step, micro-batch, layer) only."""
    step_key = jax.random.fold_in(key, state.step)
    use_key = step_key if spec.lora.dropout > 0 else None
    grads, mean = gradients(state.lora_params, base_params, batches, spec, supervised, use_key)
    updates, opt_state = optimizer.update(grads, state.opt_state, state.lora_params)
    lora_params = optax.apply_updates(state.lora_params, updates)
    metrics = Metrics(
        loss=mean,
        grad_norm=optax.tree.norm(grads),
        weight_mass=batches.loss_weights.sum(),
        tokens=(batches.segment_ids > 0).sum().astype(jnp.float32),
    )
    return TrainState(state.step + 1, lora_params, opt_state), metrics


def state_shardings(state: PyTree, mesh: Mesh) -> TrainState:
    """Shardings of a train state: adapters by the table, Adam's moments like their adapters."""
    axes = lora_axes(state.lora_params)
    lora = tree_shardings(mesh, axes, state.lora_params)
    whole = replicated(mesh)
    opt_state = _moment_shardings(state.opt_state, lora, whole)
    return TrainState(whole, lora, opt_state)


def _moment_shardings(opt_state: PyTree, lora: PyTree, whole: PyTree) -> PyTree:
    structure = jax.tree.structure(lora)

    def is_moment(node: PyTree) -> bool:
        return jax.tree.structure(node) == structure

    return jax.tree.map(
        lambda node: lora if is_moment(node) else whole, opt_state, is_leaf=is_moment
    )


def batch_sharding(mesh: Mesh, shape: tuple[int, ...]) -> jax.sharding.NamedSharding:
    """[A, B, T] arrays are split over B."""
    return sharding_of(mesh, (None, "batch", None), shape)


def compile_step(
    spec: StepSpec, optimizer: optax.GradientTransformation, mesh: Mesh, state: PyTree
) -> Callable[..., tuple[TrainState, Metrics]]:
    """`train_step` under jit: explicit shardings in and out, state donated.

    Returns:
        A function (state, base_params, batches, key, *, supervised), compiled once per shape.
    """
    states = state_shardings(state, mesh)
    base = tree_shardings(mesh, param_axes(spec.config), param_shapes(spec.config))
    whole = replicated(mesh)
    compiled = {}

    def step(
        state: TrainState, base_params: PyTree, batches: Batch, key: Array, *, supervised: int
    ) -> tuple[TrainState, Metrics]:
        shape = batches.tokens.shape
        if (shape, supervised) not in compiled:
            rows = Batch(*(batch_sharding(mesh, shape) for _ in batches))
            compiled[shape, supervised] = jax.jit(
                partial(train_step, spec=spec, optimizer=optimizer, supervised=supervised),
                in_shardings=(states, base, rows, whole),
                out_shardings=(states, whole),
                donate_argnums=0,
            )
        return compiled[shape, supervised](state, base_params, batches, key)

    return step
