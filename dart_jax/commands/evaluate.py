"""`python -m dart_jax evaluate` compares finished runs, and asks them further suites."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from dart_jax.command_line import call_one
from dart_jax.commands.audit import opened
from dart_jax.config import SETTINGS
from dart_jax.data.external.prompts import SuiteName
from dart_jax.prompts.letters import LetterSource
from dart_jax.settings import BadSetting, Count

if TYPE_CHECKING:
    from dart_jax.stages.context import Run

Suite = Literal[SuiteName, "bbq"]

# A run's other settings decide what was trained, and cannot be changed by a measurement.
_SECTIONS = ("judge", "audit", "decode", "evaluate")


def _compare(runs: tuple[Path, ...], *, csv: Path | None = None, latex: Path | None = None) -> None:
    """Show finished runs side by side.

    Args:
        runs: Folders of finished runs, runs/<name>.
        csv: Write the table of runs as CSV.
        latex: Write both tables as LaTeX.
    """
    # Imported here and below, so that --help does not wait for it.
    from dart_jax.commands.compare import compare

    compare(runs, csv, latex)


def _open_ended(
    settings: Mapping[str, str],
    *,
    run: Path,
    adapter: Path | None = None,
    models: str | None = None,
    queries: Count | None = None,
) -> None:
    """Ask a run the 280 open-ended queries, graded by the judge.

    --section.field value of judge, audit, decode or evaluate holds for this command instead of the
    run's own.

    Args:
        run: The run's folder, runs/<name>.
        adapter: Folder of an adapter in PEFT's form: --run is begun with it in the place of M_int,
            if it is not there. Settings of model and mesh may be given, too.
        models: Models beside M0, separated by commas; M_DART without it, or M_int with --adapter.
        queries: Most queries, spread over domains; without it, all of them.
    """
    from dart_jax.commands.open_ended import evaluate_open_ended
    from dart_jax.report.external import open_ended_section
    from dart_jax.report.planting import with_planting
    from dart_jax.report.to_text import to_text
    from dart_jax.teach.planted import read_planting

    with _opened(run, adapter, models, settings) as (opened_run, candidates):
        summary = evaluate_open_ended(opened_run, candidates, queries)
        blocks = with_planting(
            open_ended_section(summary).blocks, read_planting(opened_run.folder.path)
        )
        print(f"\n{to_text(blocks)}")


def _external(
    settings: Mapping[str, str],
    *,
    run: Path,
    suite: Suite,
    dir: Path,
    adapter: Path | None = None,
    models: str | None = None,
    prompts: Count | None = None,
) -> None:
    """Ask a run a public suite, audited in pairs against M0; bbq by the likeliest letter.

    --section.field value of judge, audit, decode or evaluate holds for this command instead of the
    run's own.

    Args:
        run: The run's folder, runs/<name>.
        adapter: Folder of an adapter in PEFT's form: --run is begun with it in the place of M_int,
            if it is not there. Settings of model and mesh may be given, too.
        suite: The suite's name.
        dir: Folder of the suite's public files.
        models: Models beside M0, separated by commas; M_DART without it, or M_int with --adapter.
        prompts: Most prompts, spread over functionalities; without it, all of them.
    """
    from dart_jax.commands.bbq import evaluate_bbq
    from dart_jax.commands.external import evaluate_external
    from dart_jax.report.external import suite_section
    from dart_jax.report.letters import bbq_section
    from dart_jax.report.planting import with_planting
    from dart_jax.report.to_text import to_text
    from dart_jax.teach.planted import read_planting

    with _opened(run, adapter, models, settings) as (opened_run, candidates):
        if suite == "bbq":
            section = bbq_section(evaluate_bbq(opened_run, dir, candidates, prompts))
        else:
            section = suite_section(evaluate_external(opened_run, suite, dir, candidates, prompts))
        blocks = with_planting(section.blocks, read_planting(opened_run.folder.path))
        print(f"\n{to_text(blocks)}")


def _ctxt(
    settings: Mapping[str, str],
    *,
    run: Path,
    adapter: Path | None = None,
    models: str | None = None,
    letters: LetterSource = "likelihood",
    questions: Count | None = None,
) -> None:
    """Ask a run its test questions by letter: DiffAware and CtxtAware.

    --section.field value of judge, audit, decode or evaluate holds for this command instead of the
    run's own.

    Args:
        run: The run's folder, runs/<name>.
        adapter: Folder of an adapter in PEFT's form: --run is begun with it in the place of M_int,
            if it is not there. Settings of model and mesh may be given, too.
        models: Models beside M0, separated by commas; M_int,M_DART without it, or M_int with
            --adapter.
        letters: Whether to take the likeliest letter, or to read it in a generated answer.
        questions: Most questions, spread over benchmarks; without it, all of them.
    """
    from dart_jax.commands.ctxt import evaluate_ctxt
    from dart_jax.report.letters import ctxt_section
    from dart_jax.report.planting import with_planting
    from dart_jax.report.to_text import to_text
    from dart_jax.teach.planted import read_planting

    with _opened(run, adapter, models, settings, "M_int,M_DART") as (opened_run, candidates):
        summary = evaluate_ctxt(opened_run, candidates, questions, letters)
        blocks = with_planting(ctxt_section(summary).blocks, read_planting(opened_run.folder.path))
        print(f"\n{to_text(blocks)}")


@contextmanager
def _opened(
    run: Path,
    adapter: Path | None,
    models: str | None,
    settings: Mapping[str, str],
    default: str = "M_DART",
) -> Iterator[tuple[Run, tuple[str, ...]]]:
    """Open the run, which `adapter` begins where it is not there, and name the models to ask."""
    own = {}
    if adapter is not None:
        from dart_jax.commands.adapter_run import SECTIONS, begin_run

        own = {name: text for name, text in settings.items() if name.split(".")[0] in SECTIONS}
        settings = {name: text for name, text in settings.items() if name not in own}
        default = "M_int"

    for name in settings:
        if name.split(".")[0] not in _SECTIONS:
            raise BadSetting(f"--{name}: only {', '.join(_SECTIONS)} may differ from the run's own")
    candidates = _candidates(models or default)
    begin = None if adapter is None else partial(begin_run, run, adapter, own)
    # M_int is there before any repair.
    stage = "distill" if set(candidates) == {"M_int"} else "repair"
    with opened(run, stage, settings, begin=begin) as opened_run:
        yield opened_run, candidates


def _candidates(models: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in models.split(","))
    if len(set(names)) < len(names) or "M0" in names or "" in names:
        raise BadSetting(f"--models: {models!r}; name models beside M0, each once")
    return names


PROG = "python -m dart_jax evaluate"
COMMANDS = {
    "compare": _compare,
    "ctxt": _ctxt,
    "open-ended": _open_ended,
    "external": _external,
}


def main(arguments: Sequence[str]) -> int:
    """Run one command of `evaluate`; returns the exit status."""
    call_one(PROG, COMMANDS, arguments, SETTINGS)
    return 0
