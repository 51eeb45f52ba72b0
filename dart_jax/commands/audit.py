"""`python -m dart_jax audit` measures how often the audit itself is wrong.

calibrate            decodes M0 again under other seeds and counts the pairs that noise alone flags
export-annotations   writes a blinded sample of the audited pairs for people to judge
import-annotations   compares the people's answers with the audit's verdicts
refusals             compares the rules for refusals with labelled completions; needs no run
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from dart_jax.command_line import CommandParser, value_of
from dart_jax.settings import Count

if TYPE_CHECKING:
    from dart_jax.stages.context import Run


@contextmanager
def opened(path: Path, stage: str = "audit", settings: Sequence[str] = ()) -> Iterator[Run]:
    """Open a run whose `stage` is done, and keep its lock while the command works.

    Args:
        settings: `--section.field value` arguments that replace the run's own settings.

    Raises:
        FileNotFoundError: There is no run at `path`.
        RunBusy: Another process is working on the run.
        StaleStage: The stage is not done, or its inputs have changed since.
    """
    # Imported here, so that --help does not wait for jax.
    from dart_jax import processes
    from dart_jax.pipeline.finished import check_stage, read_config, run_folder
    from dart_jax.processes import on_all, on_primary
    from dart_jax.stages.context import Run

    processes.start()
    folder = on_all(lambda: run_folder(path))
    with ExitStack() as held, processes.only_primary_prints():
        on_primary(lambda: held.enter_context(folder.lock()))
        config = on_all(lambda: read_config(folder / "config.yaml"))
        on_primary(lambda: check_stage(folder, stage, config))
        processes.keep_compiled(folder.path.parent)
        if settings:
            config = on_all(lambda: read_config(folder / "config.yaml", settings))
        yield on_all(lambda: Run(config, folder))


def _calibrate(args: argparse.Namespace) -> None:
    from dart_jax.commands.calibrate import calibrate
    from dart_jax.report.audit_error import noise_tables
    from dart_jax.report.planting import with_planting
    from dart_jax.report.to_text import to_text
    from dart_jax.teach.planted import read_planting

    with opened(args.run) as run:
        found = calibrate(run, args.questions, args.seeds)
        print(f"\nM0 against M0: {found.questions} questions, seeds {found.seeds}\n")
        print(to_text(with_planting(noise_tables(found), read_planting(run.folder.path))))


def _export(args: argparse.Namespace) -> None:
    from dart_jax.commands.annotations import export_annotations

    with opened(args.run) as run:
        count, paths = export_annotations(run, args.out, args.sample)
        print(f"{count} items: {', '.join(map(str, paths))}")


def _import(args: argparse.Namespace) -> None:
    from dart_jax.commands.annotations import import_annotations
    from dart_jax.report.audit_error import people_table
    from dart_jax.report.planting import with_planting
    from dart_jax.report.to_text import to_text
    from dart_jax.teach.planted import read_planting

    with opened(args.run) as run:
        agreement = import_annotations(run, args.files)
        blocks = with_planting([people_table(agreement)], read_planting(run.folder.path))
        print(f"\n{to_text(blocks)}")


def _refusals(args: argparse.Namespace) -> None:
    from dart_jax.commands.refusals import measure_refusals
    from dart_jax.records import write_text
    from dart_jax.report.refusals import confusion_table, error_table
    from dart_jax.report.to_text import to_text

    measured = measure_refusals(args.labelled)
    tables = [confusion_table(file) for file in measured.files]
    print(f"\n{to_text([*tables, error_table(measured)])}")
    if args.out:
        write_text(args.out, json.dumps(asdict(measured), indent=1, allow_nan=False) + "\n")


def make_parser() -> CommandParser:
    """The command line of `python -m dart_jax audit`."""
    parser = CommandParser(
        prog="python -m dart_jax audit",
        description="Measures how often the audit is wrong: by noise, and as people judge it.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    calibrate = _add(
        commands,
        "calibrate",
        _calibrate,
        "Compare M0 with itself under other seeds, which gives the screen's noise floor.",
    )
    calibrate.add_argument(
        "--questions",
        type=value_of(Count),
        metavar="N",
        help="Use at most N questions of the drift pool (default: all).",
    )
    calibrate.add_argument(
        "--seeds",
        type=value_of(Count),
        default=2,
        metavar="K",
        help="How many seeds to decode besides the run's own (default %(default)d).",
    )
    export = _add(
        commands,
        "export-annotations",
        _export,
        "Write a blinded sample of the audited pairs for people to judge.",
    )
    export.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="Folder for the files."
    )
    export.add_argument(
        "--sample",
        type=value_of(Count),
        default=200,
        metavar="N",
        help="How many items to sample in all (default %(default)d).",
    )
    imported = _add(
        commands,
        "import-annotations",
        _import,
        "Compare people's answers with the audit's verdicts.",
    )
    imported.add_argument(
        "files",
        nargs="+",
        type=Path,
        metavar="FILE",
        help="JSONL or CSV files of answers; dart_jax/audit/annotations.py lists the columns.",
    )
    refusals = _add(
        commands,
        "refusals",
        _refusals,
        "Compare the rules for refusals with people's labels.",
        of_run=False,
    )
    refusals.add_argument(
        "--labelled",
        nargs="+",
        type=Path,
        required=True,
        metavar="FILE",
        help="CSV files with completion, final_label and, if known, prompt.",
    )
    refusals.add_argument(
        "--out", type=Path, metavar="FILE", help="Write the measurement there as JSON."
    )
    return parser


def _add(commands, name: str, run, summary: str, of_run: bool = True) -> CommandParser:
    command = commands.add_parser(name, help=summary, description=summary)
    if of_run:
        command.add_argument(
            "--run", type=Path, required=True, help="The run's folder, runs/<name>."
        )
    command.set_defaults(command=run)
    return command


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command of `audit`; returns the exit status."""
    args = make_parser().parse_args(arguments)
    args.command(args)
    return 0
