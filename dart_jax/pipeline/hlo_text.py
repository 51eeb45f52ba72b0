"""The text of a compiled program, as computations of instructions."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass

_HEADER = re.compile(r"(ENTRY )?%?([\w.\-]+) \(.*\{$")
_INSTRUCTION = re.compile(r"\s+(ROOT )?%?([\w.\-]+) = (.*)$")
_ARRAY = re.compile(r"\b([a-z]+\d*\w*)\[([\d,<=]*)\]")
_BITS = re.compile(r"[a-z]+(\d+)")
# Types whose name has no number of bits, or another one than an element takes.
_BITS_OF = {"pred": 8, "token": 0}
_CALLED = re.compile(
    r"\b(?:calls|body|to_apply|true_computation|false_computation)=%?([\w.\-]+)|"
    r"\b(?:branch_computations|called_computations)=\{([^}]*)\}"
)


@dataclass(frozen=True)
class Instruction:
    """One line of a computation.

    Attributes:
        type: Of its result, such as `bf16[32,4096]{1,0}`, or of several in parentheses.
        operands: Names of instructions of the same computation; of a parameter, its number, and of
            a constant, its value.
        attributes: The rest of the line.
    """

    name: str
    type: str
    opcode: str
    operands: tuple[str, ...]
    attributes: str
    is_root: bool

    @property
    def bytes(self) -> int:
        """Bytes of the result."""
        return type_bytes(self.type)

    @property
    def called(self) -> tuple[str, ...]:
        """Names of the computations that it runs, a loop's condition excepted."""
        names = []
        for one, several in _CALLED.findall(self.attributes):
            names += [one] if one else [name.strip(" %") for name in several.split(",")]
        return tuple(names)


# Instructions by name, in their order.
Computation = dict[str, Instruction]


@dataclass(frozen=True)
class Program:
    """Computations by name, and the name of the one that runs first."""

    computations: dict[str, Computation]
    entry: str


def type_bytes(text: str) -> int:
    """Add up the bytes of all arrays in a type.

    >>> type_bytes("(f32[2,3]{1,0}, pred[])")
    25
    """
    bits = 0
    for kind, sizes in _ARRAY.findall(text):
        elements = math.prod(_read_sizes(sizes))
        stated = _BITS.match(kind)
        width = _BITS_OF[kind] if kind in _BITS_OF else int(stated[1]) if stated else 0
        bits += elements * width
    return -(-bits // 8)


def dimensions(text: str) -> tuple[int, ...]:
    """Read the sizes of the axes of a type's first array.

    >>> dimensions("bf16[32,4096]{1,0:T(8,128)(2,1)}")
    (32, 4096)
    """
    found = _ARRAY.search(text)
    assert found is not None, text
    return _read_sizes(found[2])


def _read_sizes(text: str) -> tuple[int, ...]:
    return tuple(int(size.lstrip("<=")) for size in text.split(",") if size)


def read_program(text: str) -> Program:
    """Read what `compiled.as_text()` returns.

    Raises:
        ValueError: It has no entry computation.
    """
    computations: dict[str, Computation] = {}
    entry = None
    for is_entry, name, lines in _computations(text):
        instructions = map(_read_instruction, lines)
        computations[name] = {instruction.name: instruction for instruction in instructions}
        entry = name if is_entry else entry
    if entry is None:
        raise ValueError("the compiled program's text has no line that begins with ENTRY")
    return Program(computations, entry)


def _computations(text: str) -> Iterator[tuple[bool, str, list[re.Match[str]]]]:
    header, lines = None, []
    for line in text.splitlines():
        if header is None:
            header, lines = _HEADER.match(line), []
        # A kernel's description may take several lines, of which one begins with other braces.
        elif line == "}" or line.startswith("}, execution_thread="):
            yield header[1] is not None, header[2], lines
            header = None
        elif (match := _INSTRUCTION.match(line)) is not None:
            lines.append(match)


def _read_instruction(line: re.Match[str]) -> Instruction:
    rest = line[3]
    end = _closing(rest) if rest.startswith("(") else rest.index(" ")
    kind, rest = rest[:end], rest[end:].lstrip()
    opcode, _, rest = rest.partition("(")
    end = _closing("(" + rest) - 2
    inside, attributes = rest[:end], rest[end + 1 :]
    is_literal = opcode in ("parameter", "constant")
    operands = (inside,) if is_literal else tuple(re.findall(r"%([\w.\-]+)", inside))
    return Instruction(line[2], kind, opcode, operands, attributes, line[1] is not None)


def _closing(text: str) -> int:
    """Return the index behind the parenthesis that closes the one which the text begins with."""
    depth = 0
    for index, character in enumerate(text):
        depth += (character == "(") - (character == ")")
        if depth == 0:
            return index + 1
    raise ValueError(f"the compiled program's text has an unclosed parenthesis: {text[:80]}")


def trip_count(program: Program, computation: Computation, loop: Instruction) -> int | None:
    """Return how often a `while` runs: as the compiler says, or as its counter is compared.

    Args:
        computation: The one that the loop stands in.

    Returns:
        None if neither says it.
    """
    known = re.search(r'"known_trip_count":\{"n":"(\d+)"', loop.attributes)
    if known:
        return int(known[1])
    named = re.search(r"condition=%?([\w.\-]+)", loop.attributes)
    if named is None:
        return None

    condition, body = program.computations[named[1]], program.computations[loop.called[0]]
    compared, carried, start = _root(condition), _root(body), computation[loop.operands[0]]
    is_count = compared.opcode == "compare" and "direction=LT" in compared.attributes
    counter = condition[compared.operands[0]] if is_count else compared
    place = re.search(r"index=(\d+)", counter.attributes)
    if counter.opcode != "get-tuple-element" or place is None:
        return None
    if start.opcode != "tuple" or carried.opcode != "tuple":
        return None

    index = int(place[1])
    increased = body[carried.operands[index]]
    if increased.opcode != "add":
        return None
    first = _integer(computation, start.operands[index])
    limit = _integer(condition, compared.operands[1])
    step = _integer(body, increased.operands[1])
    if first is None or limit is None or not step:
        return None
    return max(0, -(-(limit - first) // step))


def _root(computation: Computation) -> Instruction:
    return next(one for one in computation.values() if one.is_root)


def _integer(computation: Computation, name: str) -> int | None:
    """Read a constant, or the copy of one."""
    while computation[name].opcode == "copy":
        name = computation[name].operands[0]
    found = computation[name]
    is_number = found.opcode == "constant" and re.fullmatch(r"-?\d+", found.operands[0])
    return int(found.operands[0]) if is_number else None
