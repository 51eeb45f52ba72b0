"""Hold a report as data: what every format shows is said once.

    Document
      Section              a title and its blocks; a section inside a section is a subsection
        Note               a paragraph, of plain text, code, strong words and links
        Bullets            notes as a list
        Table              typed columns; a cell is a value, never a formatted text
        Figure             a picture and the words that say what it shows
        Fold               blocks behind a title, closed at first
        Verbatim           what a person or a model wrote, shown as it is

Nothing here formats or escapes: `report.cells` says how a value is written, and each renderer
makes sure that no character of a text acts in its format.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

Kind = Literal[
    "text",
    "count",
    "rate",
    "rates",
    "interval",
    "measure",
    "pairs",
    "number",
    "mass",
    "p",
    "seconds",
    "dollars",
]


@dataclass(frozen=True)
class Code:
    """Words in a fixed-width font: a path, a command, a setting."""

    text: str


@dataclass(frozen=True)
class Strong:
    """Words that must not be overlooked."""

    text: str


@dataclass(frozen=True)
class Link:
    """Words that lead to a web address."""

    text: str
    address: str


Inline = str | Code | Strong | Link


@dataclass(frozen=True)
class Note:
    """A paragraph. `style` is `notice` where a reader who skips it would be misled."""

    pieces: tuple[Inline, ...]
    style: Literal["lead", "note", "notice"] = "note"


def no_room_note(count: int) -> Note:
    """Say how many prompts could not be answered."""
    return note(
        f"{count} of the prompts left no room for an answer in the model's context: they are in "
        "none of these figures.",
        style="notice",
    )


def note(*pieces: Inline, style: Literal["lead", "note", "notice"] = "note") -> Note:
    """Make a note of its pieces, in order."""
    return Note(pieces, style)


@dataclass(frozen=True)
class Bullets:
    """A list of notes."""

    items: tuple[Note, ...]


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        key: Of its cells in the rows, and its name in CSV.
        title: What people read.
        kind: How its values are written:

            text      str
            count     int                                   1,280
            rate      float in [0, 1], read in per cent     68.8
            rates     two of them                           72.6 / 65.0
            interval  Estimate of a rate, in per cent       68.8 [61.0, 75.2]
            measure   Estimate in its own unit              0.720 [0.650, 0.790]
            pairs     Estimate of a number (pairs, tokens)  12.4 [9.1, 16.0]
            number    float                                 0.031
            mass      float, as short as it is              7.5
            p         p-value                               < 0.001
            seconds   float                                 12.5
            dollars   float                                 0.0412

            None is "not defined" and shown as n/a; a row without the key has an empty cell.
    """

    key: str
    title: str
    kind: Kind = "text"


def with_values(columns: Sequence[Column], rows: Sequence[Mapping[str, Any]]) -> tuple[Column, ...]:
    """Leave out the columns of which no row has a cell."""
    keys = set().union(*rows)
    return tuple(column for column in columns if column.key in keys)


@dataclass(frozen=True)
class Browse:
    """A cell whose value leads, on the page, to the drift browser with these filters set."""

    value: Any
    filters: Mapping[str, str]


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        name: Of its CSV and LaTeX file, without suffix; unique in a document.
        caption: One sentence without its full stop; protocol and split are in it.
        rows: Values by column key.
        tags: Columns that are the same in all rows, for CSV: run, protocol and split.
    """

    name: str
    caption: str
    columns: tuple[Column, ...]
    rows: Sequence[Mapping[str, Any]]
    tags: Mapping[str, str] = field(default_factory=dict)

    @property
    def text_columns(self) -> int:
        """How many columns of text come first; they are aligned to the left."""
        kinds = [column.kind == "text" for column in self.columns]
        return kinds.index(False) if False in kinds else len(kinds)


@dataclass(frozen=True)
class Figure:
    """A picture.

    Attributes:
        name: Of its file, without suffix; unique in a document.
        caption: What it shows, in a sentence without its full stop.
        picture: A matplotlib figure, see `report.figures`.
    """

    name: str
    caption: str
    picture: Any


@dataclass(frozen=True)
class Verbatim:
    """A text that is shown as it is, under a title."""

    title: str
    text: str


@dataclass(frozen=True)
class Listing:
    """Source code that a reader may copy; ours, never a model's."""

    code: str
    language: str = "python"


@dataclass(frozen=True)
class Fold:
    """Blocks that are closed at first, where a format can close them."""

    title: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True)
class Section:
    """A title and what stands under it.

    Attributes:
        anchor: Its address in the page, such as `drift`; '' for a subsection.
    """

    title: str
    blocks: tuple[Block, ...]
    anchor: str = ""


Block = Note | Bullets | Table | Figure | Fold | Verbatim | Listing | Section


@dataclass(frozen=True)
class Document:
    """A whole report."""

    title: str
    sections: tuple[Section, ...]

    def __post_init__(self) -> None:
        # Each is written to a file of its name: the second would overwrite the first.
        for kind in (Table, Figure):
            names = [block.name for block in walk(self.sections) if isinstance(block, kind)]
            repeated = {name for name in names if names.count(name) > 1}
            if repeated:
                raise ValueError(f"two of the report's blocks are named {', '.join(repeated)}")


def walk(blocks: Sequence[Block]) -> Iterator[Block]:
    """Every block in reading order, those inside sections and folds included."""
    for block in blocks:
        yield block
        if isinstance(block, Section | Fold):
            yield from walk(block.blocks)


def tables_of(blocks: Sequence[Block]) -> list[Table]:
    """Every table in reading order."""
    return [block for block in walk(blocks) if isinstance(block, Table)]


def tagged(blocks: Sequence[Any], tags: Mapping[str, str]) -> tuple[Any, ...]:
    """The same blocks, with these tags on every table inside them."""
    found = []
    for block in blocks:
        if isinstance(block, Table):
            block = replace(block, tags=tags)
        elif isinstance(block, Section | Fold):
            block = replace(block, blocks=tagged(block.blocks, tags))
        found.append(block)
    return tuple(found)
