"""Bytes, copies, exchanges and calls are counted in a compiled program's text."""

import jax
import jax.numpy as jnp
import pytest

from dart_jax.pipeline.hlo_text import read_program, type_bytes
from dart_jax.pipeline.hlo_traffic import count_traffic

# 2 MiB weights of which one layer of two is used a time: joined to a new matrix, and multiplied.
TEXT = """HloModule jit_f, is_scheduled=true

%joined (p.0: bf16[2,512,1024], p.1: bf16[512,16]) -> bf16[512,1040] {
  %p.0 = bf16[2,512,1024]{2,1,0} parameter(0)
  %slice.1 = bf16[1,512,1024]{2,1,0} slice(%p.0), slice={[1:2], [0:512], [0:1024]}
  %bitcast.1 = bf16[512,1024]{1,0} bitcast(%slice.1)
  %p.1 = bf16[512,16]{1,0} parameter(1)
  ROOT %joined.1 = bf16[512,1040]{1,0} concatenate(%bitcast.1, %p.1), dimensions={1}
}

%written (p.2: f32[8,4,4], p.3: f32[1,4,4], p.4: s32[]) -> f32[8,4,4] {
  %p.2 = f32[8,4,4]{2,1,0} parameter(0)
  %p.3 = f32[1,4,4]{2,1,0} parameter(1)
  %doubled = f32[1,4,4]{2,1,0} add(%p.3, %p.3)
  %p.4 = s32[] parameter(2)
  %zero = s32[] constant(0)
  ROOT %update = f32[8,4,4]{2,1,0} dynamic-update-slice(%p.2, %doubled, %p.4, %zero, %zero)
}

%body (carried: (s32[], bf16[2,512,1024], bf16[512,16], f32[8,4,4])) -> (s32[], f32[8,4,4]) {
  %carried = (s32[], bf16[2,512,1024]{2,1,0}, /*index=2*/bf16[512,16]{1,0}) parameter(0)
  %i = s32[] get-tuple-element(%carried), index=0
  %w = bf16[2,512,1024]{2,1,0} get-tuple-element(%carried), index=1
  %a = bf16[512,16]{1,0} get-tuple-element(%carried), index=2
  %x = f32[8,4,4]{2,1,0:T(8,128)} get-tuple-element(%carried), index=3
  %wa = bf16[512,1040]{1,0} fusion(%w, %a), kind=kLoop, calls=%joined
  %call = f32[1,4,4]{2,1,0} custom-call(%wa), custom_call_target="__cublas$gemm"
  %gathered = (f32[1,4,4]{2,1,0}, f32[2,4,4]{2,1,0}) all-gather-start(%call), dimensions={0}
  %ready = f32[2,4,4]{2,1,0} all-gather-done(%gathered)
  %y = f32[8,4,4]{2,1,0} fusion(%x, %call, %i), kind=kLoop, calls=%written
  ROOT %next = (s32[], f32[8,4,4]{2,1,0}) tuple(%i, %y)
}

%condition (carried.1: (s32[])) -> pred[] {
  %carried.1 = (s32[]) parameter(0)
  ROOT %go = pred[] constant(true)
}

ENTRY %main (w.1: bf16[2,512,1024]) -> f32[8,4,4] {
  %w.1 = bf16[2,512,1024]{2,1,0} parameter(0)
  %start = (s32[], bf16[2,512,1024]{2,1,0}) tuple(%w.1)
  %loop = (s32[], f32[8,4,4]{2,1,0}) while(%start), condition=%condition, body=%body, TRIPS
  ROOT %result = f32[8,4,4]{2,1,0} get-tuple-element(%loop), index=1
}
""".replace("TRIPS", 'backend_config={"known_trip_count":{"n":"8"}}')


def test_one_iteration_of_a_loop_is_counted():
    loop, outside = count_traffic(TEXT)
    weights, side, joined, small = 2 * 512 * 1024, 2 * 512 * 16, 2 * 512 * 1040, 4 * 16
    # Of the two layers one is read, and of the eight places one is written.
    assert loop.copied_bytes == weights + side + joined
    assert loop.bytes == loop.copied_bytes + (joined + small) + (2 * small + 4)
    assert (loop.where, loop.iterations, loop.kernels) == ("loop body", 8, 3)
    assert loop.copies == {"bf16[512,1040]": 1}
    assert (loop.collectives, loop.collective_bytes) == ({"all-gather": 1}, 2 * small)
    assert loop.custom_calls == {"__cublas$gemm": 1}
    assert (outside.kernels, outside.bytes) == (0, 0)
    assert str(loop).startswith("loop body (8 iterations): 3 kernels move 0.003 GB; 0.002 GB of it")


def test_of_a_conditional_the_branch_counts_that_moves_most():
    text = TEXT.replace(
        "while(%start), condition=%condition, body=%body",
        "conditional(%w.1, %start, %start), branch_computations={%condition, %body}",
    )
    (outside,) = count_traffic(text)
    assert outside.bytes == count_traffic(TEXT)[0].bytes


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("bf16[32,4096]{1,0:T(8,128)(2,1)}", 2 * 32 * 4096),
        ("(f32[2,3]{1,0}, pred[], /*index=2*/s32[5])", 24 + 1 + 20),
        ("s4[3]", 2),
        ("f8e4m3fn[<=7]", 7),
        ("token[]", 0),
    ],
)
def test_bytes_of_a_type(text, size):
    assert type_bytes(text) == size


def test_a_text_without_an_entry_is_refused():
    with pytest.raises(ValueError, match="ENTRY"):
        read_program("HloModule empty")


def test_a_compiled_loop_is_read():
    """A program of this machine: a matrix times a vector, 7 times."""
    step = jax.jit(lambda w, x: jax.lax.fori_loop(0, 7, lambda _, x: jnp.tanh(w @ x), x))
    compiled = step.lower(jnp.ones((256, 256)), jnp.ones((256,))).compile()
    loop, *_ = count_traffic(compiled.as_text())
    assert loop.iterations == 7
    least = 4 * (256 * 256 + 2 * 256)
    assert least <= loop.bytes < 1.1 * least
