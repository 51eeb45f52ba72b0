"""Write the report as one page for a browser, `report/index.html`, which needs no network.

What models wrote is hostile input. It reaches the page as JSON in a block that is not a script,
with every character that could end the block escaped, and the page's own script puts it into the
document as text only. The Content-Security-Policy allows that one script and one stylesheet, by
their hashes, pictures that stand in the page itself, and nothing else; it also makes the browser
refuse any string as markup.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from markupsafe import Markup

from dart_jax.records import write_text
from dart_jax.report.browser_data import browser_data
from dart_jax.report.document import Document
from dart_jax.report.to_html import FILES, environment, to_html

SCRIPTS = ("dom.js", "store.js", "filters.js", "list.js", "case.js", "annotate.js", "main.js")
"""The scripts share one scope and are read in this order."""


def write_page(path: Path, document: Document, run_path: Path, config: Mapping[str, Any]) -> None:
    """Write a run's report with the browser for its drift cases, and the view to annotate them.

    Args:
        config: The resolved configuration, nested by section.
    """
    script = "\n".join((FILES / name).read_text(encoding="utf-8") for name in SCRIPTS)
    script = f'"use strict";\n{script}'
    style = (FILES / "page.css").read_text(encoding="utf-8")
    policy = {
        "default-src": "'none'",
        "img-src": "data:",
        "script-src": _hashed(script),
        "style-src": _hashed(style),
        "base-uri": "'none'",
        "form-action": "'none'",
        "require-trusted-types-for": "'script'",
        "trusted-types": "'none'",
    }

    data = browser_data(run_path, config)
    template = environment().get_template("index.html.j2")
    page = template.render(
        security="; ".join(f"{key} {value}" for key, value in policy.items()),
        style=Markup(style),
        script=Markup(script),
        data=script_json(data),
        kept=data is not None,
        title=document.title,
        name=config["run"]["name"],
        contents=[section for section in document.sections if section.anchor],
        report=to_html(document.sections),
    )
    write_text(path, page)


def script_json(value: Any) -> Markup:
    """Write JSON for a `<script type="application/json">`, in ASCII: nothing can end the block.

    Example:
        `["</script>"]` becomes `["\\u003c/script\\u003e"]`.
    """
    # `NaN` is no JSON: with one in it the browser could not read the block at all.
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return Markup(text.translate({ord(char): f"\\u{ord(char):04x}" for char in "<>&"}))


def _hashed(source: str) -> str:
    digest = base64.b64encode(hashlib.sha256(source.encode("utf-8")).digest())
    return f"'sha256-{digest.decode('ascii')}'"
