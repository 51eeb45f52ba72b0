"""The commands of `python -m dart_jax evaluate` that ask a finished run further prompts.

open-ended   the 280 open-ended queries, graded by the judge
external     HateCheck, BOLD, HolisticBias or RealToxicityPrompts, audited in pairs against M0
"""

from __future__ import annotations

import argparse
from pathlib import Path

from dart_jax.command_line import CommandParser, value_of
from dart_jax.commands.audit import opened
from dart_jax.data.external.prompts import SUITES
from dart_jax.settings import Count

_FREE = ("judge", "audit", "decode", "evaluate")


def _open_ended(args: argparse.Namespace) -> None:
    from dart_jax.commands.open_ended import evaluate_open_ended
    from dart_jax.report.external import open_ended_section
    from dart_jax.report.planting import with_planting
    from dart_jax.report.to_text import to_text
    from dart_jax.teach.planted import read_planting

    with opened(args.run, "repair", args.settings) as run:
        summary = evaluate_open_ended(run, args.models, args.most)
        blocks = open_ended_section(summary).blocks
        print(f"\n{to_text(with_planting(blocks, read_planting(run.folder.path)))}")


def _external(args: argparse.Namespace) -> None:
    from dart_jax.commands.external import evaluate_external
    from dart_jax.report.external import suite_section
    from dart_jax.report.planting import with_planting
    from dart_jax.report.to_text import to_text
    from dart_jax.teach.planted import read_planting

    with opened(args.run, "repair", args.settings) as run:
        summary = evaluate_external(run, args.suite, args.dir, args.models, args.most)
        blocks = suite_section(summary).blocks
        print(f"\n{to_text(with_planting(blocks, read_planting(run.folder.path)))}")


def add_commands(commands) -> None:
    """Add both to the subparsers of `python -m dart_jax evaluate`."""
    queries = _add(
        commands, "open-ended", _open_ended, "The 280 open-ended queries, graded by the judge."
    )
    queries.add_argument(
        "--queries",
        type=value_of(Count),
        dest="most",
        metavar="N",
        help="Most queries, spread over domains (default: all).",
    )
    external = _add(commands, "external", _external, "A public suite, audited in pairs against M0.")
    external.add_argument("--suite", required=True, choices=SUITES)
    external.add_argument(
        "--dir", type=Path, required=True, help="Folder of the suite's public files."
    )
    external.add_argument(
        "--prompts",
        type=value_of(Count),
        dest="most",
        metavar="N",
        help="Most prompts, spread over functionalities (default: all).",
    )


def _add(commands, name: str, run, summary: str) -> CommandParser:
    command = commands.add_parser(
        name,
        help=summary,
        description=summary,
        epilog=f"--section.field value of {', '.join(_FREE)} holds for this command instead of "
        "the run's own.",
    )
    command.add_argument("--run", type=Path, required=True, help="The run's folder, runs/<name>.")
    command.add_argument(
        "--models",
        type=_candidates,
        default=("M_DART",),
        metavar="A,B",
        help="Models beside M0 (default M_DART).",
    )
    command.set_defaults(command=run, free=tuple(f"--{section}." for section in _FREE))
    return command


def _candidates(text: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(","))
    if len(set(names)) < len(names) or "M0" in names or "" in names:
        raise argparse.ArgumentTypeError(f"{text!r}: name models beside M0, each once")
    return names
