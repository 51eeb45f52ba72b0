"""Count the matrix products of a compiled program, and so what a training step does twice.

A step multiplies each token by each weight on the way forward, and its gradient by the same weight
on the way back. What the memory has no room for is computed again on the way back (`sft.remat`).
How much that is stands in the compiled program only: XLA drops what nobody uses.
"""

from __future__ import annotations

import math
import re

from dart_jax.model.architecture import LlamaConfig
from dart_jax.model.config import LoraConfig
from dart_jax.pipeline.hlo_text import (
    Computation,
    Instruction,
    Program,
    dimensions,
    read_program,
    trip_count,
)
from dart_jax.sft.flops import Counts, train_flops


def recompute_factor(
    text: str,
    config: LlamaConfig,
    lora: LoraConfig,
    shape: tuple[int, int, int],
    devices: int,
    has_scores: bool,
) -> float | None:
    """Divide a step's products by those it needs: forward, back to activations, adapters' own.

    1 means that nothing is computed twice, and 1.5 that all of the forward pass is: the frozen
    weights have no gradients, so that the way back is as long as the way forward.

    Args:
        text: From `compiled.as_text()`.
        shape: Micro-batches, rows over all devices, and tokens of a row, each of them supervised.
        devices: Number of devices that the program is split over.
        has_scores: Whether attention is among the products. A kernel (splash, cuDNN) is not, and
            then attention is left out of what is needed, too.

    Returns:
        None where `count_products` has none.
    """
    done = count_products(text)
    tokens = math.prod(shape)
    # The products of scores that the mask hides are computed with the others.
    pairs = tokens * shape[2] if has_scores else 0
    needed = train_flops(config, lora, Counts(tokens, tokens, tokens, pairs))
    return None if done is None else done * devices / needed


def count_products(text: str) -> int | None:
    """Count the floating-point operations of one device's matrix products, whatever runs them.

    A product of [m, k] and [k, n] counts 2 m k n. Those in kernels that XLA did not write, such as
    attention's, are not seen.

    Args:
        text: From `compiled.as_text()`.

    Returns:
        None if the text does not say how often a loop with products runs.
    """
    program = read_program(text)
    return _run(program, program.entry)


def _run(program: Program, name: str) -> int | None:
    """Count what running a computation once takes, with all that it calls."""
    computation = program.computations[name]
    total = 0
    for instruction in computation.values():
        inside = 0
        # The start of something asynchronous names it; its end may name it again.
        is_end = instruction.opcode.endswith(("-done", "-update"))
        for name in () if is_end else instruction.called:
            operations = _run(program, name)
            if operations is None:
                return None
            # Of a conditional's branches one runs.
            is_branch = instruction.opcode == "conditional"
            inside = max(inside, operations) if is_branch else inside + operations

        if instruction.opcode == "while" and inside:
            times = trip_count(program, computation, instruction)
            if times is None:
                return None
            inside *= times
        total += inside + _product(computation, instruction)
    return total


def _product(computation: Computation, instruction: Instruction) -> int:
    """Count the operations of one instruction by itself."""
    if instruction.opcode == "convolution":
        return _convolution(computation, instruction)
    # XLA's own name for it, or a call of cuBLAS, which has the same in JSON.
    axes = re.search(r"lhs_contracting_dim\w+\"?[=:][{\[]([^}\]]*)", instruction.attributes)
    if axes is None:
        return 0
    sizes = dimensions(computation[instruction.operands[0]].type)
    summed = math.prod(sizes[int(axis)] for axis in re.findall(r"\d+", axes[1]))
    return 2 * math.prod(dimensions(instruction.type)) * summed


def _convolution(computation: Computation, instruction: Instruction) -> int:
    """Count a convolution, which is how a TPU's compiler writes a product.

    In `dim_labels=0bf_0io->0bf` the digits are windows. One that is as large as the input sums over
    it; a batch axis is a window that meets one element of its spread input at a time.
    """
    labels = re.search(r"dim_labels=(\w+)_(\w+)->(\w+)", instruction.attributes)
    assert labels is not None, instruction
    inputs, weights = (dimensions(computation[name].type) for name in instruction.operands[:2])
    result = dimensions(instruction.type)

    operations = 2 * weights[labels[2].index("i")]
    for label, size in zip(labels[3], result, strict=True):
        if label.isdigit():
            before = inputs[labels[1].index(label)]
            window = weights[labels[2].index(label)]
            size = _meetings(before, window, size, instruction.attributes, int(label))
        operations *= size
    return operations


def _meetings(before: int, window: int, after: int, attributes: str, axis: int) -> int:
    """Count along one axis the pairs of a place of the window and an element of the input."""
    stated = re.search(r"window=\{([^}]*)\}", attributes)
    fields = dict(re.findall(r"(\w+)=(\S+)", stated[1] if stated else ""))

    def field(name: str, default: str = "1") -> str:
        return fields[name].split("x")[axis] if name in fields else default

    stride, spread, step = int(field("stride")), int(field("lhs_dilate")), int(field("rhs_dilate"))
    low = int(field("pad", "0_0").partition("_")[0])
    met = 0
    for start in range(-low, after * stride - low, stride):
        for place in range(start, start + window * step, step):
            met += place >= 0 and place % spread == 0 and place // spread < before
    return met
