"""The training step: loss of a micro-batch, sums over micro-batches, one division, one update.

`train_step` is the whole of it, and calls `gradients`, which calls `loss_sum`. It is a pure
function; `sft.loop` puts it under `jax.jit` with the shardings that stand at the end of this file.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding
from jaxtyping import Array, PyTree

from dart_jax.model.architecture import LlamaConfig
from dart_jax.model.config import LoraConfig
from dart_jax.model.kernel_attention import choose_attention, training_attention
from dart_jax.model.llama import forward, head_kernel, param_axes
from dart_jax.model.lora import LoraParams, lora_axes
from dart_jax.model.packed_attention import Layout
from dart_jax.model.sharding import (
    data_parallel,
    platform_of,
    replicated,
    sharding_of,
    tree_shardings,
)
from dart_jax.sft.batch import AnyBatch
from dart_jax.sft.config import LossConfig, SftConfig
from dart_jax.sft.cross_entropy import (
    SegmentSums,
    cross_entropy_sum,
    gather_supervised,
    normalised_weights,
    of_tokens,
    segment_sums,
    token_terms,
)
from dart_jax.sft.preference import pair_weights, with_pairs
from dart_jax.sft.token_losses import TokenLoss, Tokens, token_loss


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


class TrainSpec(NamedTuple):
    """Everything that is fixed while a model is trained; hashable, and static under `jax.jit`.

    Attributes:
        loss_normalization: `sft.loss_normalization`.
        loss_chunk: Supervised positions that meet the vocabulary at once, of all rows together.
        activations, mesh: See `llama.forward`.
        attention: `sft.attention`.
        token_loss: None for the plain weighted cross-entropy.
    """

    config: LlamaConfig
    lora: LoraConfig
    loss_normalization: str
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

    @property
    def has_pairs(self) -> bool:
        """Tell whether repairs are compared with what they replace."""
        return self.token_loss is not None and self.token_loss.config.compares


def train_spec(
    config: LlamaConfig,
    lora: LoraConfig,
    sft: SftConfig,
    mesh: Mesh,
    loss: LossConfig | None = None,
) -> TrainSpec:
    """Pick what the step needs out of the sections; `loss` replaces `sft.loss`."""
    return TrainSpec(
        config,
        lora,
        sft.loss_normalization,
        loss_chunk=sft.loss_chunk * data_parallel(mesh),
        remat=sft.remat,
        # No CPU adds in bfloat16: XLA converts there and back around every operation.
        activations="float32" if platform_of(mesh) == "cpu" else None,
        mesh=mesh,
        attention=sft.attention,
        token_loss=token_loss(loss or sft.loss),
    )


def train_step(
    state: TrainState,
    base_params: PyTree,
    batches: AnyBatch,
    key: Array,
    reference: LoraParams | None,
    layout: Layout,
    *,
    spec: TrainSpec,
    optimizer: optax.GradientTransformation,
) -> tuple[TrainState, Metrics]:
    """One optimizer step; the dropout noise depends on (key, step, micro-batch, layer) only.

    Args:
        batches: [A, B, T] arrays: A micro-batches, whose gradients are summed.
        reference: The starting adapter, where `spec.needs_reference`; else None.
        layout: How the rows are packed; static, as `spec` and `optimizer` are.
    """
    # From the number of the step: a training that goes on from a checkpoint draws the same noise.
    step_key = jax.random.fold_in(key, state.step)
    dropout_key = step_key if spec.lora.dropout > 0 else None
    grads, loss, examples, parts = gradients(
        state.lora_params, base_params, batches, spec, layout, dropout_key, reference
    )

    updates, opt_state = optimizer.update(grads, state.opt_state, state.lora_params)
    lora_params = optax.apply_updates(state.lora_params, updates)

    metrics = Metrics(
        loss=loss,
        grad_norm=optax.tree.norm(grads),
        update_norm=optax.tree.norm(updates),
        tokens=(batches.segment_ids != 0).sum().astype(jnp.float32),
        examples=examples,
        parts=parts,
    )
    return TrainState(state.step + 1, lora_params, opt_state), metrics


def gradients(
    lora_params: LoraParams,
    base_params: PyTree,
    batches: AnyBatch,
    spec: TrainSpec,
    layout: Layout,
    key: Array | None,
    reference: LoraParams | None = None,
) -> tuple[LoraParams, Array, SegmentSums, dict[str, Array]]:
    """Gradients of [A, B, T] micro-batches, as if they were one batch.

    Returns:
        Adapter gradients, loss, what each example contributed, and the parts of the loss.
    """
    value_and_grad = jax.value_and_grad(loss_sum, has_aux=True)

    def add_micro_batch(sums: PyTree, scanned: tuple[AnyBatch, Array]) -> tuple[PyTree, tuple]:
        batch, index = scanned
        # Without the index, all micro-batches would drop the same features.
        micro_key = None if key is None else jax.random.fold_in(key, index)
        (loss, (normaliser, examples, parts)), grads = value_and_grad(
            lora_params, base_params, batch, spec, layout, micro_key, reference
        )
        return jax.tree.map(jnp.add, sums, (grads, loss, normaliser)), (examples, parts)

    zeros = (jax.tree.map(jnp.zeros_like, lora_params), jnp.zeros(()), jnp.zeros(()))
    indices = jnp.arange(batches.tokens.shape[0])
    sums, (examples, parts) = jax.lax.scan(add_micro_batch, zeros, (batches, indices))
    grads, loss, normaliser = sums

    # Of a step whose every weight is 0, which training refuses: 0, not 0/0.
    divisor = jnp.where(normaliser > 0, normaliser, 1.0)
    parts = {name: part.sum() / divisor for name, part in parts.items()}
    return jax.tree.map(lambda grad: grad / divisor, grads), loss / divisor, examples, parts


def loss_sum(
    lora_params: LoraParams,
    base_params: PyTree,
    batch: AnyBatch,
    spec: TrainSpec,
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
        dtype,
    )

    decoder = partial(
        forward,
        spec.config,
        base_params,
        tokens=batch.tokens,
        positions=batch.positions,
        attention=attention,
        lora_scale=spec.lora.scale,
        dropout_rate=spec.lora.dropout,
        remat=spec.remat,
        activations=spec.activations,
        mesh=spec.mesh,
    )

    hidden, _ = decoder(lora_params, dropout_key=dropout_key)
    weigh = pair_weights if spec.has_pairs else normalised_weights
    weights, normaliser = weigh(batch, spec.loss_normalization, layout.segments)

    # From here on M positions a row: only those with a weight meet the vocabulary.
    supervised = partial(gather_supervised, batch.loss_weights, layout.supervised)
    hidden, targets, weights, loss_weights, segment_ids = supervised(
        hidden, batch.targets, weights, batch.loss_weights, batch.segment_ids
    )
    head = head_kernel(base_params)
    # The setting is of all rows together, and a chunk is cut from every row.
    chunk = -(-spec.loss_chunk // hidden.shape[0])

    if spec.token_loss is None:
        total, cross_entropy = cross_entropy_sum(hidden, head, targets, weights, chunk, spec.mesh)
        parts = {}
    else:
        if spec.needs_reference:
            (reference,) = supervised(decoder(reference)[0])
        terms = token_terms(hidden, reference, head, targets, chunk, spec.mesh)
        sources = of_tokens(batch.sources, segment_ids)
        severities = of_tokens(batch.severities, segment_ids)
        tokens = Tokens(*terms, loss_weights, sources, severities, segment_ids)
        values = spec.token_loss(tokens)
        if spec.has_pairs:
            pairs = of_tokens(batch.pairs, segment_ids)
            values = with_pairs(values, tokens, pairs, spec.token_loss.config, layout.segments)
        parts = {
            # Selected, not only weighted by 0: a custom loss may be nan on padding.
            name: jnp.sum(jnp.where(loss_weights > 0, weights * each, 0.0))
            for name, each in values.items()
        }
        total, cross_entropy = sum(parts.values()), terms.cross_entropy

    counted = (loss_weights > 0).astype(jnp.float32)
    per_example = partial(segment_sums, segment_ids, segments=layout.segments)
    examples = SegmentSums(
        loss=per_example(counted * cross_entropy),
        weight=per_example(loss_weights),
        tokens=per_example(counted),
    )
    return total, (normaliser, examples, parts)


def make_schedule(learning_rate: float, config: SftConfig, total_steps: int) -> optax.Schedule:
    """Learning rate by step: from 0 up to the peak over the warm-up share, then down to 0."""
    warmup = max(1, round(config.warmup_share * total_steps))
    return optax.warmup_cosine_decay_schedule(
        # A warm-up of a single step at rate 0 would waste that step.
        init_value=0.0 if warmup > 1 else learning_rate,
        peak_value=learning_rate,
        warmup_steps=warmup,
        # optax refuses a schedule without any fall, which a run of one step does not reach.
        decay_steps=max(total_steps, warmup + 1),
    )


def make_optimizer(schedule: optax.Schedule, config: SftConfig) -> optax.GradientTransformation:
    """Clip unless `clip_norm` is null, then AdamW (Loshchilov and Hutter 2019)."""
    clip = optax.identity()
    if config.clip_norm is not None:
        clip = optax.clip_by_global_norm(config.clip_norm)
    return optax.chain(clip, optax.adamw(schedule, weight_decay=config.weight_decay))


class StepShardings(NamedTuple):
    """Where the arrays of `train_step` lie on the mesh, for `jax.jit`.

    Attributes:
        arguments: Of state, base_params, batches, key and reference.
        results: Of the new state and the metrics.
    """

    arguments: tuple[TrainState, PyTree, NamedSharding, NamedSharding, PyTree | None]
    results: tuple[TrainState, NamedSharding]

    @property
    def state(self) -> TrainState:
        """Of the train state, which goes in and comes out alike."""
        return self.results[0]


def step_shardings(spec: TrainSpec, state: TrainState, base_params: PyTree) -> StepShardings:
    """The table of `model.sharding`, applied to the step's arguments and results.

    Args:
        state, base_params: Arrays, or their `jax.ShapeDtypeStruct`.
    """
    mesh = spec.mesh
    states = state_shardings(state, mesh)
    base = tree_shardings(mesh, param_axes(spec.config), base_params)
    reference = states.lora_params if spec.needs_reference else None
    whole = replicated(mesh)
    return StepShardings(
        arguments=(states, base, batch_sharding(mesh), whole, reference),
        results=(states, whole),
    )


def state_shardings(state: PyTree, mesh: Mesh) -> TrainState:
    """Shardings of a train state: adapters by the table, Adam's moments like their adapters."""
    lora = tree_shardings(mesh, lora_axes(state.lora_params), state.lora_params)
    whole = replicated(mesh)
    adapter_structure = jax.tree.structure(lora)

    # Moments are found by their structure: where they stand in its state is optax's own affair.
    def is_moment(node: PyTree) -> bool:
        return jax.tree.structure(node) == adapter_structure

    opt_state = jax.tree.map(
        lambda node: lora if is_moment(node) else whole, state.opt_state, is_leaf=is_moment
    )
    return TrainState(whole, lora, opt_state)


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """[A, B, T] and [A, B, S] arrays are split over B, a multiple of `data_parallel(mesh)`."""
    return sharding_of(mesh, (None, "batch", None), (1, data_parallel(mesh), 1))


def place_batch(batch: AnyBatch, mesh: Mesh) -> AnyBatch:
    """Host arrays, the same in every process, as global arrays over the mesh."""
    sharding = batch_sharding(mesh)

    def place(array: np.ndarray) -> Array:
        return jax.make_array_from_callback(array.shape, sharding, array.__getitem__)

    return jax.tree.map(place, batch)
