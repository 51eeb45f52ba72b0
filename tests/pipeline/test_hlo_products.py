"""The products of a compiled program are counted, and a step's set against those it needs."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import pytest

from dart_jax.config import read_config
from dart_jax.model.config import MeshConfig
from dart_jax.model.sharding import make_mesh
from dart_jax.pipeline.hlo_products import count_products, recompute_factor
from dart_jax.pipeline.lowered_step import lower_step
from tests.tiny_model import CONFIG

# Wide enough that weights take nearly all products, not the adapter and attention.
WIDE = replace(CONFIG, num_layers=4, embed_dim=128, head_dim=32, ffn_dim=384, vocab_size=512)
PROGRAM = """HloModule jit_f

%inner (p.0: bf16[8,512,64], p.1: bf16[8,512,16]) -> f32[64,16] {
  %p.0 = bf16[8,512,64]{2,1,0} parameter(0)
  %p.1 = bf16[8,512,16]{2,1,0} parameter(1)
  ROOT %product = LINE
}

%body (p.2: (s32[], bf16[8,512,64])) -> (s32[], bf16[8,512,64]) {
  %p.2 = (s32[], bf16[8,512,64]{2,1,0}) parameter(0)
  %x = bf16[8,512,64]{2,1,0} get-tuple-element(%p.2), index=1
  %w = bf16[8,512,16]{2,1,0} constant({...})
  %fused = f32[64,16]{1,0} fusion(%x, %w), kind=kOutput, calls=%inner
  ROOT %next = (s32[], bf16[8,512,64]{2,1,0}) tuple(%p.2, %x)
}

%condition (p.3: (s32[])) -> pred[] {
  %p.3 = (s32[]) parameter(0)
  ROOT %go = pred[] constant(true)
}

ENTRY %main (x.1: bf16[8,512,64]) -> (s32[], bf16[8,512,64]) {
  %x.1 = bf16[8,512,64]{2,1,0} parameter(0)
  %start = (s32[], bf16[8,512,64]{2,1,0}) tuple(%x.1, %x.1)
  ROOT %loop = (s32[], bf16[8,512,64]{2,1,0}) while(%start), condition=%condition, body=%body, TRIPS
}
"""
CONDITION = """  %i = s32[] get-tuple-element(%p.3), index=0
  %most = s32[] constant(7)
  ROOT %go = pred[] compare(%i, %most), direction=LT"""
BODY = """  %kernel = f32[8]{0} custom-call(%x), custom_call_target="tpu", frontend_attributes={
kernel_metadata={"block_q": 512}
}}, metadata={op_name="kernel"}
  %i.1 = s32[] get-tuple-element(%p.2), index=0
  %two = s32[] constant(2)
  %i.2 = s32[] add(%i.1, %two)
  ROOT %next = (s32[], bf16[8,512,64]{2,1,0}) tuple(%i.2, %x)"""
TRIPS = 'backend_config={"known_trip_count":{"n":"3"}}'


@pytest.mark.parametrize(
    ("line", "operations"),
    [
        # Summed over two axes, of which one is a window.
        (
            "f32[1,64,16]{2,1,0} convolution(%p.0, %p.1), window={size=8}, dim_labels=0fb_0io->0bf",
            2 * 64 * 16 * 8 * 512,
        ),
        # Eight products side by side: an axis of rows or heads.
        (
            "f32[8,512,512]{2,1,0} convolution(%p.0, %p.0), window={size=8 stride=7 lhs_dilate=8}, "
            "dim_labels=0bf_0oi->0bf",
            8 * 2 * 512 * 512 * 64,
        ),
        (
            "f32[8,64,16]{2,1,0} dot(%p.0, %p.1), lhs_batch_dims={0}, lhs_contracting_dims={1}, "
            "rhs_batch_dims={0}, rhs_contracting_dims={1}",
            8 * 2 * 64 * 16 * 512,
        ),
        (
            '(f32[64,16]{1,0}, s8[64]{0}) custom-call(%p.0, %p.1), custom_call_target="__cublas'
            '$gemm", backend_config={"gemm_backend_config":{"dot_dimension_numbers":'
            '{"lhs_contracting_dimensions":["0","1"],"rhs_contracting_dimensions":["0","1"]}}}',
            2 * 64 * 16 * 8 * 512,
        ),
        ("f32[8,512,64]{2,1,0} multiply(%p.0, %p.0)", 0),
    ],
)
def test_a_product_counts_as_often_as_its_loop_runs(line, operations):
    text = PROGRAM.replace("LINE", line)
    assert count_products(text.replace("TRIPS", TRIPS)) == 3 * operations
    # How often a loop without products runs does not matter.
    unknown = count_products(text.replace("TRIPS", "metadata={}"))
    assert unknown == (None if operations else 0)


def test_a_loop_runs_as_its_counter_is_compared():
    """A TPU's compiler writes it so, with a kernel's description of several lines."""
    text = PROGRAM.replace("LINE", "f32[8,64,16]{2,1,0} dot(%p.0, %p.1), lhs_contracting_dims={1}")
    for before, after in (
        ("  ROOT %go = pred[] constant(true)", CONDITION),
        ("  ROOT %next = (s32[], bf16[8,512,64]{2,1,0}) tuple(%p.2, %x)", BODY),
        ("tuple(%x.1, %x.1)", "tuple(%first, %x.1)"),
        ("  %start =", "  %zero.1 = s32[] constant(0)\n  %first = s32[] copy(%zero.1)\n  %start ="),
        (", TRIPS", ""),
    ):
        assert before in text
        text = text.replace(before, after)
    # 0, 2, 4 and 6 are below 7.
    assert count_products(text) == 4 * 2 * 8 * 64 * 16 * 512
    assert count_products(text.replace("direction=LT", "direction=NE")) is None


def test_of_a_conditional_one_branch_counts():
    line = "f32[8,64,16]{2,1,0} dot(%p.0, %p.1), lhs_contracting_dims={1}, rhs_batch_dims={}"
    text = PROGRAM.replace("LINE", line).replace(
        "while(%start), condition=%condition, body=%body, TRIPS",
        "conditional(%x.1, %start, %start), branch_computations={%condition, %body}",
    )
    assert count_products(text) == 2 * 8 * 64 * 16 * 512


def test_the_products_of_a_program_of_this_machine():
    """A matrix times a matrix, seven times, and the same back."""

    def loss(w, x):
        return jnp.sum(jax.lax.fori_loop(0, 7, lambda _, x: jnp.tanh(x @ w), x))

    w, x = jnp.ones((64, 64)), jnp.ones((32, 64))
    product = 2 * 32 * 64 * 64
    forward = jax.jit(loss).lower(w, x).compile().as_text()
    assert count_products(forward) == 7 * product
    back = jax.jit(jax.grad(loss, argnums=(0, 1))).lower(w, x).compile().as_text()
    assert count_products(back) == 3 * 7 * product


@pytest.mark.parametrize(("remat", "least", "most"), [("none", 1.0, 1.1), ("layer", 1.35, 1.5)])
def test_a_step_that_keeps_a_layers_input_only_computes_its_products_again(
    remat, least, most, tmp_path
):
    file = tmp_path / "small.yaml"
    file.write_text(
        "model: {dtype: float32}\nmesh: {data: 1}\nlora: {rank: 4}\n"
        f"sft: {{batch_size: 2, packing: none, max_length: 32, loss_chunk: 64, remat: {remat}}}\n",
        "utf-8",
    )
    config = read_config(file)
    mesh = make_mesh(MeshConfig(data=1), jax.devices()[:1])
    shape = (1, 2, 32)
    text = lower_step(config, WIDE, mesh, shape).compile().as_text()
    factor = recompute_factor(text, WIDE, config.lora, shape, devices=1, has_scores=True)
    assert least <= factor <= most
