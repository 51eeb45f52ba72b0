"""The training step: loss of a micro-batch, sums over micro-batches, one division, one update."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh
from jaxtyping import Array, PyTree

from dart_jax.model.architecture import LlamaConfig
from dart_jax.model.config import LoraConfig
from dart_jax.model.kernel_attention import choose_attention, training_attention
from dart_jax.model.llama import forward, head_kernel, param_axes
from dart_jax.model.lora import LoraParams, lora_axes
from dart_jax.model.packed_attention import Layout
from dart_jax.model.sharding import (
    compiler_options,
    platform_of,
    replicated,
    sharding_of,
    tree_shardings,
)
from dart_jax.sft.batch import AnyBatch
from dart_jax.sft.config import LossConfig, SftConfig
from dart_jax.sft.loss import (
    SegmentSums,
    cross_entropy_sum,
    gather_supervised,
    normalised_weights,
    segment_sums,
)
from dart_jax.sft.losses import TokenLoss, Tokens, token_loss
from dart_jax.sft.token_terms import token_terms


class TrainState(NamedTuple):
    """What a step changes. `step` counts finished optimizer steps."""

    step: Array
    lora_params: LoraParams
    opt_state: PyTree


class Metrics(NamedTuple):
    """What one step reports; float32, replicated.

    Attributes:
        loss: Loss sum divided by its normaliser.
        grad_norm: Global norm of the adapter gradients before clipping.
        update_norm: Global norm of the change of the adapters.
        tokens: Tokens that are not padding; a row's shared prefix counts once.
        examples: `SegmentSums` of [A, B, S] arrays.
        parts: What each part of a `TokenLoss` adds to `loss`; empty for the plain one.
    """

    loss: Array
    grad_norm: Array
    update_norm: Array
    tokens: Array
    examples: SegmentSums
    parts: dict[str, Array] | None = None


class StepSpec(NamedTuple):
    """The static half of a step.

    Attributes:
        loss_chunk: In supervised positions of all rows.
        activations, mesh: See `llama.forward`.
        attention: `sft.attention`.
        token_loss: None for the plain weighted cross-entropy.
    """

    config: LlamaConfig
    lora: LoraConfig
    normaliser: str
    loss_chunk: int
    remat: str
    activations: str | None = None
    mesh: Mesh | None = None
    attention: str = "auto"
    token_loss: TokenLoss | None = None

    @property
    def needs_reference(self) -> bool:
        """Whether the step is given the starting adapter."""
        return self.token_loss is not None and self.token_loss.needs_reference


def step_spec(
    config: LlamaConfig,
    lora: LoraConfig,
    sft: SftConfig,
    mesh: Mesh,
    loss: LossConfig | None = None,
) -> StepSpec:
    """Pick what the step needs out of the sections; `loss` replaces `sft.loss`."""
    return StepSpec(
        config,
        lora,
        sft.normaliser,
        loss_chunk=sft.loss_chunk * batch_ways(mesh),
        remat=sft.remat,
        # No CPU adds in bfloat16: XLA converts there and back around every operation.
        activations="float32" if platform_of(mesh) == "cpu" else None,
        mesh=mesh,
        attention=sft.attention,
        token_loss=token_loss(loss or sft.loss),
    )


def loss(
    lora_params: LoraParams,
    base_params: PyTree,
    batch: AnyBatch,
    spec: StepSpec,
    layout: Layout,
    dropout_key: Array | None = None,
    reference: LoraParams | None = None,
) -> tuple[Array, tuple[Array, SegmentSums, dict[str, Array]]]:
    """Weighted loss sum of one micro-batch [B, T]; differentiate in argument 0 only.

    Args:
        batch: With origins where there is a `spec.token_loss`.
        dropout_key: None for evaluation.
        reference: The starting adapter, where `spec.needs_reference`; it has no dropout.

    Returns:
        The sum, and with it its normaliser, what each example contributed, and the sum's parts.
    """
    dtype = base_params["embed"].dtype
    attention = training_attention(
        choose_attention(spec.attention, platform_of(spec.mesh), dtype),
        batch.positions,
        batch.segment_ids,
        layout,
        spec.mesh,
    )
    run = partial(
        forward,
        tokens=batch.tokens,
        positions=batch.positions,
        attention=attention,
        lora_scale=spec.lora.scale,
        dropout_rate=spec.lora.dropout,
        remat=spec.remat,
        activations=spec.activations,
        mesh=spec.mesh,
    )
    hidden, _ = run(spec.config, base_params, lora_params, dropout_key=dropout_key)
    weights, normaliser = normalised_weights(batch, spec.normaliser, layout.segments)
    picked = partial(gather_supervised, batch.loss_weights, layout.supervised)
    hidden, targets, weights, plain, segment_ids = picked(
        hidden, batch.targets, weights, batch.loss_weights, batch.segment_ids
    )
    chunk = -(-spec.loss_chunk // hidden.shape[0])
    head = head_kernel(base_params)
    if spec.token_loss is None:
        total, each = cross_entropy_sum(hidden, head, targets, weights, chunk, spec.mesh)
        parts = {}
    else:
        if spec.needs_reference:
            (reference,) = picked(run(spec.config, base_params, reference)[0])
        terms = token_terms(hidden, reference, head, targets, chunk, spec.mesh)
        origins = [_of_tokens(x, segment_ids) for x in (batch.sources, batch.severities)]
        losses = spec.token_loss(Tokens(*terms, plain, *origins, segment_ids))
        parts = {
            name: jnp.sum(jnp.where(plain > 0, weights * values, 0.0))
            for name, values in losses.items()
        }
        total, each = sum(parts.values()), terms.cross_entropy
    carries = (plain > 0).astype(jnp.float32)
    sums = (segment_sums(segment_ids, x, layout.segments) for x in (carries * each, plain, carries))
    return total, (normaliser, SegmentSums(*sums), parts)


def _of_tokens(of_segments: Array, segment_ids: Array) -> Array:
    """Each token's value out of those of the segments [B, S]; [B, M]."""
    return jnp.take_along_axis(of_segments, jnp.maximum(segment_ids - 1, 0), axis=1)


def gradients(
    lora_params: LoraParams,
    base_params: PyTree,
    batches: AnyBatch,
    spec: StepSpec,
    layout: Layout,
    key: Array | None,
    reference: LoraParams | None = None,
) -> tuple[LoraParams, Array, SegmentSums, dict[str, Array]]:
    """Adapter gradients, loss, sums of examples and parts of the loss of [A, B, T] micro-batches.

    As if they were one batch.
    """
    value_and_grad = jax.value_and_grad(loss, has_aux=True)

    def add(sums: PyTree, scanned: tuple[AnyBatch, Array]) -> tuple[PyTree, tuple]:
        batch, index = scanned
        micro_key = None if key is None else jax.random.fold_in(key, index)
        (loss_sum, (normaliser, examples, parts)), grads = value_and_grad(
            lora_params, base_params, batch, spec, layout, micro_key, reference
        )
        return jax.tree.map(jnp.add, sums, (grads, loss_sum, normaliser)), (examples, parts)

    zeros = (jax.tree.map(jnp.zeros_like, lora_params), jnp.zeros(()), jnp.zeros(()))
    indices = jnp.arange(batches.tokens.shape[0])
    sums, (examples, parts) = jax.lax.scan(add, zeros, (batches, indices))
    grads, loss_sum, normaliser = sums
    # Of a step whose every weight is 0, which training refuses: 0, not 0/0.
    divisor = jnp.where(normaliser > 0, normaliser, 1.0)
    parts = {name: part.sum() / divisor for name, part in parts.items()}
    return jax.tree.map(lambda grad: grad / divisor, grads), loss_sum / divisor, examples, parts


def train_step(
    state: TrainState,
    base_params: PyTree,
    batches: AnyBatch,
    key: Array,
    reference: LoraParams | None = None,
    *,
    spec: StepSpec,
    optimizer: optax.GradientTransformation,
    layout: Layout,
) -> tuple[TrainState, Metrics]:
    """One optimizer step; the dropout noise depends on (key, step, micro-batch, layer) only."""
    step_key = jax.random.fold_in(key, state.step)
    use_key = step_key if spec.lora.dropout > 0 else None
    grads, mean, examples, parts = gradients(
        state.lora_params, base_params, batches, spec, layout, use_key, reference
    )
    updates, opt_state = optimizer.update(grads, state.opt_state, state.lora_params)
    lora_params = optax.apply_updates(state.lora_params, updates)
    metrics = Metrics(
        loss=mean,
        grad_norm=optax.tree.norm(grads),
        update_norm=optax.tree.norm(updates),
        tokens=(batches.segment_ids != 0).sum().astype(jnp.float32),
        examples=examples,
        parts=parts,
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
    """[A, B, T] and [A, B, S] arrays are split over B."""
    return sharding_of(mesh, (None, "batch", None), shape)


def batch_ways(mesh: Mesh) -> int:
    """Over how many devices the rows of a batch are split."""
    return mesh.shape["data"] * mesh.shape["fsdp"]


def place_batch(batch: AnyBatch, mesh: Mesh) -> AnyBatch:
    """Host arrays, the same in every process, as global arrays over the mesh."""

    def place(array: np.ndarray) -> Array:
        sharding = batch_sharding(mesh, array.shape)
        return jax.make_array_from_callback(array.shape, sharding, array.__getitem__)

    return jax.tree.map(place, batch)


def compile_step(
    spec: StepSpec, optimizer: optax.GradientTransformation, mesh: Mesh, state: PyTree
) -> Callable[..., tuple[TrainState, Metrics]]:
    """`train_step` under jit: explicit shardings in and out, state donated.

    Returns:
        A function (state, base_params, batches, key, *, layout, reference=None), compiled once
        per shape; `reference` is the starting adapter where `spec.needs_reference`.
    """

    jitted: dict[tuple, Callable[..., Any]] = {}

    def step(
        state: TrainState,
        base_params: PyTree,
        batches: AnyBatch,
        key: Array,
        *,
        layout: Layout,
        reference: LoraParams | None = None,
    ) -> tuple[TrainState, Metrics]:
        kind = (batches.tokens.shape, layout)
        if kind not in jitted:
            jitted[kind] = jit_step(spec, optimizer, mesh, state, base_params, *kind)
        return jitted[kind](state, base_params, batches, key, reference)

    return step


def jit_step(
    spec: StepSpec,
    optimizer: optax.GradientTransformation,
    mesh: Mesh,
    state: PyTree,
    base_params: PyTree,
    shape: tuple[int, ...],
    layout: Layout,
) -> Any:
    """The jitted step for batches [A, B, T] = `shape`; what is lowered ahead of time, too.

    It takes (state, base_params, batches, key, reference).

    Args:
        state, base_params: Arrays, or their `jax.ShapeDtypeStruct`.
    """
    states = state_shardings(state, mesh)
    base = tree_shardings(mesh, param_axes(spec.config), base_params)
    rows, whole = batch_sharding(mesh, shape), replicated(mesh)
    reference = states.lora_params if spec.needs_reference else None
    return jax.jit(
        partial(train_step, spec=spec, optimizer=optimizer, layout=layout),
        in_shardings=(states, base, rows, whole, reference),
        out_shardings=(states, whole),
        donate_argnums=0,
        compiler_options=compiler_options(mesh),
    )
