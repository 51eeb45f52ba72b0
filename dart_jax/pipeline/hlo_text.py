"""The text of a compiled program, as computations of instructions."""

from __future__ import annotations

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
        operands: Names of instructions of the same computation; of a parameter, its number.
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
    for kind, dimensions in _ARRAY.findall(text):
        size = 1
        for dimension in filter(None, dimensions.split(",")):
            size *= int(dimension.lstrip("<="))
        stated = _BITS.match(kind)
        width = _BITS_OF[kind] if kind in _BITS_OF else int(stated[1]) if stated else 0
        bits += size * width
    return -(-bits // 8)


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
        elif line.startswith("}"):
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
    operands = (inside,) if opcode == "parameter" else tuple(re.findall(r"%([\w.\-]+)", inside))
    return Instruction(line[2], kind, opcode, operands, attributes, line[1] is not None)


def _closing(text: str) -> int:
    """Return the index behind the parenthesis that closes the one which the text begins with."""
    depth = 0
    for index, character in enumerate(text):
        depth += (character == "(") - (character == ")")
        if depth == 0:
            return index + 1
    raise ValueError(f"the compiled program's text has an unclosed parenthesis: {text[:80]}")
