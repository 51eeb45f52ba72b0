"""Ask a run's models: `python -m dart_jax generate --run runs/x --models M0,M_DART [--prompts F]`.

With --prompts, a JSONL file of prompts (`commands.prompt_file` has its forms), the answers go to
--out, a line as each ends; started again, the command goes on with what is missing, and refuses a
file whose answers were made from other prompts, models or settings. Without, each line that is
typed is put to all the models, whose answers are shown side by side.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from dart_jax.command_line import CommandParser, value_of
from dart_jax.generate.config import DecodeConfig
from dart_jax.processes import keep_compiled
from dart_jax.settings import Seed, field_types


def _parser() -> CommandParser:
    parser = CommandParser(
        prog="python -m dart_jax generate",
        description="Ask a run's models, all in one pass of the decoder.",
    )
    parser.add_argument("--run", type=Path, required=True, help="The run's folder, runs/<name>.")
    parser.add_argument(
        "--models", default="M0,M_DART", help="Some of M0,M_int,M_DART (default %(default)s)."
    )
    parser.add_argument(
        "--prompts", type=Path, metavar="F", help="JSONL of prompts; without it, type them."
    )
    parser.add_argument("--out", type=Path, metavar="G", help="JSONL for the answers to --prompts.")
    parser.add_argument(
        "--plain", action="store_true", help="Ask typed lines without the instructions."
    )
    settings = parser.add_argument_group("decoding", "as in the run, unless given")
    settings.add_argument("--seed", type=value_of(Seed))
    for name, hint in field_types(DecodeConfig).items():
        settings.add_argument(f"--{name.replace('_', '-')}", type=value_of(hint))
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse, load and answer; returns the exit status."""
    parser = _parser()
    args = parser.parse_args(arguments)
    if (args.prompts is None) != (args.out is None):
        parser.error("--prompts and --out go together")
    # Imported here, so that --help does not wait for jax.
    from dart_jax.commands.answer_inputs import answer_inputs, claim
    from dart_jax.commands.chat import answer_file, load_models, read_run, talk
    from dart_jax.commands.prompt_file import read_prompts

    names = [name.strip() for name in args.models.split(",") if name.strip()]
    config = read_run(args.run, names)
    given = ("temperature", "top_p", "top_k", "max_new_tokens", "slots")
    changes = {key: getattr(args, key) for key in given if getattr(args, key) is not None}
    settings = dataclasses.replace(config.decode, **changes)
    seed = config.run.seed if args.seed is None else args.seed
    prompts = None if args.prompts is None else read_prompts(args.prompts)
    if prompts is not None:
        claim(args.out, answer_inputs(args.run, names, config, prompts, settings, seed))
    keep_compiled(args.run.resolve().parent)
    asked = load_models(args.run, names, config)
    if prompts is not None:
        stats = answer_file(asked, prompts, args.out, settings, seed)
        print(stats.report())
        return 0
    for shown in talk(asked, _typed(), settings, seed, args.plain):
        print(f"{shown}\n", flush=True)
    return 0


def _typed() -> Iterator[str]:
    """Yield lines from the terminal until it ends."""
    if sys.stdin.isatty():
        print("A question, then Enter; Ctrl-D ends.", flush=True)
    while True:
        try:
            yield input("> " if sys.stdin.isatty() else "")
        except EOFError:
            return
