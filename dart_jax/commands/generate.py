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

from dart_jax.command_line import call
from dart_jax.processes import keep_compiled
from dart_jax.settings import BadSetting, Count, Natural, NotNegative, PositiveShare, Seed


def generate(
    *,
    run: Path,
    models: str = "M0,M_DART",
    prompts: Path | None = None,
    out: Path | None = None,
    plain: bool = False,
    seed: Seed | None = None,
    temperature: NotNegative | None = None,
    top_p: PositiveShare | None = None,
    top_k: Natural | None = None,
    max_new_tokens: Count | None = None,
    slots: Count | None = None,
) -> None:
    """Ask a run's models, all in one pass of the decoder.

    Args:
        run: The run's folder, runs/<name>.
        models: Some of M0,M_int,M_DART.
        prompts: JSONL of prompts; without it, type them.
        out: JSONL for the answers to --prompts.
        plain: Ask typed lines without the instructions.
        seed: In place of the run's run.seed.
        temperature: In place of the run's decode.temperature.
        top_p: In place of the run's decode.top_p.
        top_k: In place of the run's decode.top_k.
        max_new_tokens: In place of the run's decode.max_new_tokens.
        slots: In place of the run's decode.slots.

    Raises:
        BadSetting: Only one of --prompts and --out is given.
    """
    if (prompts is None) != (out is None):
        raise BadSetting("--prompts and --out go together")
    # Imported here, so that --help does not wait for jax.
    from dart_jax.commands.answer_inputs import answer_inputs, claim
    from dart_jax.commands.chat import answer_file, load_models, read_run, talk
    from dart_jax.commands.prompt_file import read_prompts

    names = [name.strip() for name in models.split(",") if name.strip()]
    config = read_run(run, names)
    given = {
        "temperature": temperature,
        "top_p": top_p,
        "top_k": top_k,
        "max_new_tokens": max_new_tokens,
        "slots": slots,
    }
    changes = {key: value for key, value in given.items() if value is not None}
    settings = dataclasses.replace(config.decode, **changes)
    seed = config.run.seed if seed is None else seed
    lines = None if prompts is None else read_prompts(prompts)
    if lines is not None:
        claim(out, answer_inputs(run, names, config, lines, settings, seed))

    keep_compiled(run.resolve().parent)
    asked = load_models(run, names, config)
    if lines is not None:
        print(answer_file(asked, lines, out, settings, seed).report())
        return
    for shown in talk(asked, _typed(), settings, seed, plain):
        print(f"{shown}\n", flush=True)


def main(arguments: Sequence[str]) -> int:
    """Parse, load and answer; returns the exit status."""
    call("python -m dart_jax generate", generate, arguments)
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
