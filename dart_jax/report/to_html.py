"""Render a report's sections as HTML, for the page that `report.page` writes."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlencode

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from dart_jax.report.cells import shown
from dart_jax.report.document import Browse, Figure, Section, Table
from dart_jax.report.figures import to_svg
from dart_jax.report.visible import visible

FILES = Path(__file__).parent / "page_files"


def to_html(sections: Sequence[Section]) -> Markup:
    """Render sections as HTML. Every text is escaped; figures are SVG images in data addresses.

    An image cannot run a script, whatever its SVG holds, and needs no network.
    """
    template = environment().get_template("document.html.j2")
    return Markup(template.render(sections=sections, cells=_cells, picture=_picture))


def environment() -> Environment:
    """Load the page's templates: everything is escaped, an unknown name is an error."""
    return Environment(
        loader=FileSystemLoader(FILES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        # Names and settings may hold characters that hide or reorder, as a generation may.
        # Not `isinstance`: a `Markup` is a str of our own making, and is left as it is.
        finalize=lambda value: visible(value) if type(value) is str else value,
    )


def _cells(table: Table) -> list[list[tuple[str, str]]]:
    """Give each cell as people read it, with the address that it leads to, or ''."""
    rows = []
    for row in table.rows:
        cells = []
        for column in table.columns:
            value = row.get(column.key)
            link = _address(value) if isinstance(value, Browse) and value.value else ""
            cells.append((shown(column, row), link))
        rows.append(cells)
    return rows


def _address(cell: Browse) -> str:
    return f"#browse?{urlencode(cell.filters)}"


def _picture(figure: Figure) -> str:
    encoded = base64.b64encode(to_svg(figure.picture)).decode("ascii")
    return f"data:image/svg+xml;base64,{encoded}"
