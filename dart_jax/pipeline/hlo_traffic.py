"""Count what one iteration of each loop of a compiled program moves, copies and exchanges.

The loop over new tokens in a block of decoding, and the loops over layers in a training step, take
nearly all of a program's time; what they copy, they copy for every token or layer. Bytes are
counted from the program's text: each kernel reads its operands and writes its result. Caches,
which may save a part of that, are left out.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from dart_jax.pipeline.hlo_text import (
    Computation,
    Instruction,
    Program,
    read_program,
    trip_count,
)

# Copies of less than this are not listed: splitting a small result is one, too.
LISTED_BYTES = 2**20

_FREE = {
    "parameter",
    "constant",
    "get-tuple-element",
    "tuple",
    "bitcast",
    "after-all",
    "opt-barrier",
    "optimization-barrier",
    "partition-id",
    "replica-id",
    # Not by themselves: what they call is counted, a loop's body apart.
    "while",
    "call",
    "conditional",
    "async",
}
# These read no more of their first operand than the elements of the result.
_PICKS = {"slice", "dynamic-slice", "gather"}
# These write to the place of their first operand; the number is that of the operand they write.
_IN_PLACE = {"dynamic-update-slice": 1, "scatter": 2}
_MOVES = _PICKS | {
    "copy",
    "copy-start",
    "concatenate",
    "transpose",
    "reshape",
    "pad",
    "reverse",
    "dynamic-update-slice",
}
_COLLECTIVES = {
    "all-gather",
    "all-reduce",
    "reduce-scatter",
    "all-to-all",
    "collective-permute",
    "collective-broadcast",
    "ragged-all-to-all",
}


@dataclass(frozen=True)
class Traffic:
    """One iteration of a loop, or the program outside of its loops, on one device.

    Attributes:
        where: The loop's name, or `outside of loops`.
        iterations: How often it runs, where the compiler knows that.
        kernels: Instructions that run on the device.
        bytes: Bytes that these read and write.
        copied_bytes: The part of it by kernels that compute nothing.
        copies: Results of such kernels of at least LISTED_BYTES, and how many there are of each.
        collectives: Exchanges between devices by kind: how many.
        collective_bytes: Bytes of their results.
        custom_calls: Calls of libraries such as cuBLAS and cuDNN by target: how many.
    """

    where: str
    iterations: int | None
    kernels: int = 0
    bytes: int = 0
    copied_bytes: int = 0
    copies: Mapping[str, int] = field(default_factory=dict)
    collectives: Mapping[str, int] = field(default_factory=dict)
    collective_bytes: int = 0
    custom_calls: Mapping[str, int] = field(default_factory=dict)

    def __str__(self) -> str:
        times = "" if self.iterations is None else f" ({self.iterations} iterations)"
        parts = [f"{self.kernels} kernels move {_size(self.bytes)}"]
        if self.copies:
            parts.append(f"{_size(self.copied_bytes)} of it in copies: {_listed(self.copies)}")
        if self.collectives:
            moved = _size(self.collective_bytes)
            parts.append(f"collectives of {moved}: {_listed(self.collectives)}")
        if self.custom_calls:
            parts.append(f"calls: {_listed(self.custom_calls)}")
        return f"{self.where}{times}: {'; '.join(parts)}"


def _size(count: int) -> str:
    return f"{count / 1e9:.3f} GB" if count >= 1e6 else f"{count / 1e3:.1f} kB"


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} x {name}" for name, count in counts.items())


def count_traffic(text: str) -> list[Traffic]:
    """Count for each loop, and at last for what is outside of all loops.

    Args:
        text: From `compiled.as_text()`.
    """
    program = read_program(text)
    found = []
    for computation, loop in _run_by(program, program.entry, enter_loops=True):
        if loop.opcode == "while":
            body, iterations = loop.called[0], trip_count(program, computation, loop)
            found.append(_traffic(program, body, f"loop {body}", iterations))
    found.append(_traffic(program, program.entry, "outside of loops", 1))
    return found


def _run_by(
    program: Program, name: str, enter_loops: bool = False
) -> Iterator[tuple[Computation, Instruction]]:
    """Yield the instructions that a computation runs, each with the computation it stands in.

    A fusion is one instruction. Of a conditional's branches, the one counts that moves most.
    """
    computation = program.computations[name]
    entered = ("call", "async-start", "while" if enter_loops else "")
    for instruction in computation.values():
        yield computation, instruction
        called = instruction.called
        if instruction.opcode == "conditional":
            called = (max(called, key=lambda branch: _bytes_of(program, branch)),)
        elif instruction.opcode not in entered:
            continue
        for inner in called:
            yield from _run_by(program, inner, enter_loops)


def _bytes_of(program: Program, name: str) -> int:
    return _traffic(program, name, "", None).bytes


def _traffic(program: Program, name: str, where: str, iterations: int | None) -> Traffic:
    """Count what running a computation once moves, loops within it excepted."""
    kernels, moved, copied, exchanged = 0, 0, 0, 0
    copies, collectives, custom_calls = Counter[str](), Counter[str](), Counter[str]()

    for computation, instruction in _run_by(program, name):
        opcode = instruction.opcode
        kind = opcode.removesuffix("-start")
        if kind in _COLLECTIVES:
            collectives[kind] += 1
            exchanged += _exchanged(computation, instruction)
        if kind in _COLLECTIVES | _FREE or opcode.endswith(("-done", "-update")):
            continue

        size = _bytes_moved(program, computation, instruction)
        kernels += 1
        moved += size
        target = re.search(r'custom_call_target="([^"]*)"', instruction.attributes)
        if target is not None:
            custom_calls[target[1]] += 1
        elif _computes_nothing(program, instruction):
            copied += size
            if size >= LISTED_BYTES:
                copies[re.sub(r"\{[^}]*\}", "", instruction.type)] += 1

    return Traffic(
        where,
        iterations,
        kernels,
        moved,
        copied,
        dict(copies.most_common()),
        dict(collectives.most_common()),
        exchanged,
        dict(custom_calls.most_common()),
    )


def _exchanged(computation: Computation, collective: Instruction) -> int:
    """Bytes of a collective's result; that of some that begin early has the operands in it."""
    size = collective.bytes
    if collective.opcode in ("all-gather-start", "collective-permute-start"):
        size -= sum(computation[name].bytes for name in collective.operands)
    return size


def _computes_nothing(program: Program, instruction: Instruction) -> bool:
    """Tell kernels that only move elements, whatever they compute to find their places."""
    if instruction.opcode != "fusion":
        return instruction.opcode in _MOVES
    inside = program.computations[instruction.called[0]].values()
    return all(one.opcode in _MOVES | _FREE or "[]" in one.type for one in inside)


def _bytes_moved(program: Program, computation: Computation, instruction: Instruction) -> int:
    """Bytes that one kernel reads and writes."""
    if instruction.opcode == "fusion":
        inside = program.computations[instruction.called[0]]
        arguments = {}
        for one in inside.values():
            if one.opcode == "parameter":
                arguments[one.name] = instruction.operands[int(one.operands[0])]
        root = next(one for one in inside.values() if one.is_root)
    else:
        inside = {name: computation[name] for name in instruction.operands}
        inside[instruction.name] = root = instruction
        arguments = {name: name for name in instruction.operands}

    # An operand that is given twice is read once.
    read: dict[str, int] = {}
    for parameter, operand in arguments.items():
        size = _bytes_read(inside, parameter)
        read[operand] = max(size, read.get(operand, 0))
    return sum(read.values()) + _bytes_written(inside, root)


def _bytes_read(computation: Computation, name: str) -> int:
    """Bytes of an operand that are read: where its users pick parts of it, no more than these."""
    whole, picked = computation[name].bytes, 0
    for user in computation.values():
        if name not in user.operands or user.name == name:
            continue
        is_first = user.operands[0] == name
        if user.opcode == "bitcast":
            picked += _bytes_read(computation, user.name)
        elif user.opcode in _PICKS and is_first:
            picked += user.bytes
        elif user.opcode in _IN_PLACE and is_first:
            picked += 0
        else:
            return whole
    return min(whole, picked)


def _bytes_written(computation: Computation, root: Instruction) -> int:
    """Bytes of a result that are written: what is updated in place keeps the rest."""
    if root.opcode == "tuple":
        return sum(_bytes_written(computation, computation[name]) for name in root.operands)
    if root.opcode == "bitcast":
        return _bytes_written(computation, computation[root.operands[0]])
    if root.opcode in _IN_PLACE:
        return computation[root.operands[_IN_PLACE[root.opcode]]].bytes
    if root.opcode == "copy-start":  # its result has the operand in it, too
        return computation[root.operands[0]].bytes
    return root.bytes
