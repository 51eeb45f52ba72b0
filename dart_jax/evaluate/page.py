"""The report as one page for a browser: `report/index.html`, self-contained and without network.

What models wrote is hostile input. It reaches the page as JSON in a block that is not a script,
with every character that could end the block escaped, and the page's own script puts it into the
document as text only. The Content-Security-Policy allows that one script and one stylesheet, by
their hashes, and nothing else; it also makes the browser refuse any string as markup.
"""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from dart_jax.chat.usage import USAGE, read_usage
from dart_jax.evaluate import audit_error, page_charts, page_tables
from dart_jax.evaluate.markdown import unescape, visible
from dart_jax.evaluate.page_data import browser_data
from dart_jax.evaluate.sections import no_room, percent
from dart_jax.evaluate.statistics_sections import FOLDED, Part, policy_parts, tested
from dart_jax.evaluate.tables import Table
from dart_jax.evaluate.wider_sections import wider_sections
from dart_jax.records import write_text

if TYPE_CHECKING:
    from dart_jax.evaluate.report import ReportData

FILES = Path(__file__).parent / "page_files"
SCRIPTS = ("dom.js", "store.js", "filters.js", "list.js", "case.js", "annotate.js", "main.js")
"""In one scope and in this order."""


def write_page(
    run_path: Path,
    summary: Mapping[str, Any],
    extras: ReportData,
    calibration: Mapping[str, Any] | None,
    annotations: Mapping[str, Any] | None,
) -> Path:
    """Write `report/index.html` of an evaluated run.

    Args:
        summary, extras: See `report.write_report`.
        calibration, annotations: What the audit knows of its own error, where it was measured.
    """
    script = "\n".join((FILES / name).read_text(encoding="utf-8") for name in SCRIPTS)
    script = f'"use strict";\n{script}'
    style = (FILES / "page.css").read_text(encoding="utf-8")
    policy = {
        "default-src": "'none'",
        "script-src": _hashed(script),
        "style-src": _hashed(style),
        "base-uri": "'none'",
        "form-action": "'none'",
        "require-trusted-types-for": "'script'",
        "trusted-types": "'none'",
    }
    data = browser_data(run_path, extras.config)
    page = (
        _environment()
        .get_template("index.html.j2")
        .render(
            security="; ".join(f"{key} {value}" for key, value in policy.items()),
            style=Markup(style),
            script=Markup(script),
            data=script_json(data),
            kept=data is not None,
            **_report(run_path, summary, extras, calibration, annotations),
        )
    )
    path = run_path / "report/index.html"
    write_text(path, page)
    return path


def script_json(value: Any) -> Markup:
    """JSON for a `<script type="application/json">`, in ASCII: nothing in it can end the block.

    Example:
        `["</script>"]` becomes `["\\u003c/script\\u003e"]`.
    """
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return Markup(text.translate({ord(char): f"\\u{ord(char):04x}" for char in "<>&"}))


def _environment() -> Environment:
    return Environment(
        loader=FileSystemLoader(FILES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        # Names and settings may hold characters that hide or reorder, as a generation may.
        finalize=lambda value: visible(value) if type(value) is str else value,
    )


def _hashed(source: str) -> str:
    digest = base64.b64encode(hashlib.sha256(source.encode("utf-8")).digest())
    return f"'sha256-{digest.decode('ascii')}'"


def _report(
    run_path: Path,
    summary: Mapping[str, Any],
    extras: ReportData,
    calibration: Mapping[str, Any] | None,
    annotations: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """Everything of the page but the browser: tables, charts and the facts in its sentences."""
    reduction = summary["drift"]["reduction"]
    several = extras.config["repair"]["cycles"] > 1
    return {
        "name": extras.config["run"]["name"],
        "config": extras.config,
        "summary": summary,
        "no_room": no_room(summary),
        "covered": f"{100 * extras.confidence:g}",
        "shortcut": percent(summary["shortcut_baseline"]["accuracy"]),
        "reduction": None if reduction is None else percent(reduction),
        "headline": page_tables.headline(summary, extras.confidence),
        "by_benchmark": page_tables.by_benchmark(summary),
        "accuracy": page_charts.accuracy(summary),
        "statistics": _parts(tested(summary)),
        "policy": _parts(policy_parts(summary)),
        "drift": page_tables.drift(summary),
        "drift_charts": page_charts.before_after(summary),
        "audit_counts": page_tables.audit_counts(summary),
        "delta_charts": page_charts.deltas(extras.deltas, extras.tau, calibration),
        "calibration": calibration,
        "noise": _noise(calibration),
        "annotations": annotations,
        "people": _people(annotations),
        "wider": _wider(run_path),
        "repair": page_tables.repair(summary),
        "rejects": page_tables.rejects(summary),
        "cycles": page_tables.cycles(summary) if several else None,
        "loss_charts": page_charts.losses(extras.losses),
        "costs": page_tables.time_and_cost(summary, read_usage(run_path / USAGE)),
        "settings": page_tables.settings(extras.config),
        "provenance": _provenance(run_path),
    }


def _parts(parts: Sequence[Part]) -> list[dict[str, Any]]:
    def folded(table: Table | None) -> page_tables.Table | None:
        return table and dataclasses.replace(page_tables.from_table(table), name=FOLDED)

    return [
        {
            "title": part.title,
            "shown": page_tables.from_table(part.shown),
            "folded": folded(part.folded),
            "words": part.words,
        }
        for part in parts
    ]


def _noise(calibration: Mapping[str, Any] | None) -> list[page_tables.Table]:
    if calibration is None:
        return []
    tables = {"rates": audit_error.rates_table, "grid": audit_error.grid_table}
    names = {"rates": "Noise floor", "grid": "False positives by tau"}
    return [
        page_tables.from_markdown(names[key], make(calibration)) for key, make in tables.items()
    ]


def _wider(run_path: Path) -> list[dict[str, Any]]:
    """Open-ended queries and external suites, as far as they were measured."""
    return [
        {
            "title": unescape(section.title),
            "lead": unescape(section.lead),
            "tables": [
                (page_tables.from_markdown(each.name, each.lines, each.words), unescape(each.note))
                for each in section.tables
            ],
            "note": section.note,
        }
        for section in wider_sections(run_path)
    ]


def _people(annotations: Mapping[str, Any] | None) -> page_tables.Table | None:
    if annotations is None:
        return None
    return page_tables.from_markdown("People", audit_error.people_table(annotations))


def _provenance(run_path: Path) -> list[page_tables.Table]:
    """Versions, and the hashes of what the stages before this one read and wrote."""
    versions, tables = run_path / "versions.json", []
    if versions.exists():
        rows = list(json.loads(versions.read_text(encoding="utf-8")).items())
        tables.append(page_tables.Table("Versions", ("package", "version"), rows, words=2))
    rows = []
    for path in sorted((run_path / "stages").glob("*.json")):
        if path.stem != "evaluate":  # its outputs are hashed when it ends: this page is one
            manifest = json.loads(path.read_text(encoding="utf-8"))
            rows.append((path.stem, "inputs", manifest["digest"]))
            rows += [(path.stem, name, hash) for name, hash in manifest["outputs"].items() if hash]
    if rows:
        tables.append(page_tables.Table("Hashes", ("stage", "file", "SHA-256"), rows, words=3))
    return tables
