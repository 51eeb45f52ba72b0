"""Ask models: `python -m dart_jax generate --run runs/x --models M0,M_DART [--prompts F]`.

At a terminal it is a conversation of several turns with all models at once, whose answers appear
side by side while they are written. With --prompts, a JSONL file of prompts (`commands.prompt_file`
has its forms), the answers go to --out, a line as each ends; started again, the command goes on
with what is missing, and refuses a file whose answers were made from other prompts, models or
settings. Each line of a pipe is a question of its own.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from dart_jax.command_line import call
from dart_jax.compiled import keep_compiled
from dart_jax.config import SETTINGS
from dart_jax.settings import BadSetting, Count, Natural, NotNegative, PositiveShare, Seed

# A run has its own; adapters without one need to be told.
_SECTIONS = ("model", "mesh")


def generate(
    settings: Mapping[str, str],
    *,
    run: Path | None = None,
    adapter: tuple[Path, ...] | None = None,
    models: str | None = None,
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
    """Ask a run's models, or adapters and their base model, all in one pass of the decoder.

    Without --prompts, type: the conversation goes on until /reset, Ctrl-C ends the answers being
    written, /help lists the rest. With --adapter, --model.path names the base model if it is not
    the one in adapter_config.json; other settings of model and mesh may be given, too.

    Args:
        run: The run's folder, runs/<name>.
        adapter: Folders of PEFT adapters, each a model named after its folder, in place of --run.
        models: Some of M0,M_int,M_DART; without it M0,M_DART, or with --adapter all.
        prompts: JSONL of prompts; without it, type them.
        out: JSONL for the answers to --prompts.
        plain: Ask what is typed without the instructions of training.
        seed: In place of the run's run.seed.
        temperature: In place of the run's decode.temperature.
        top_p: In place of the run's decode.top_p.
        top_k: In place of the run's decode.top_k.
        max_new_tokens: In place of the run's decode.max_new_tokens.
        slots: In place of the run's decode.slots.

    Raises:
        BadSetting: Only one of --prompts and --out is given, or not one of --run and --adapter, or
            settings that do not belong here.
    """
    if (prompts is None) != (out is None):
        raise BadSetting("--prompts and --out go together")
    if (run is None) == (not adapter):
        raise BadSetting("give one of --run, a run's folder, and --adapter, folders of adapters")
    _check_settings(settings, run)
    # Imported here, so that --help does not wait for jax.
    from dart_jax.backend import tell_hardware
    from dart_jax.commands.answer_file import answer_each, answer_file
    from dart_jax.commands.answer_inputs import answer_inputs, claim
    from dart_jax.commands.chat import Manner, ask
    from dart_jax.commands.models_to_ask import load_models, models_of_adapters, models_of_run
    from dart_jax.commands.prompt_file import read_prompts
    from dart_jax.commands.terminal import talk, typed_lines
    from dart_jax.pipeline.layout import settle

    if run is None:
        choice = models_of_adapters(adapter, _names(models or ""), settings)
    else:
        choice = models_of_run(run, _names(models or "M0,M_DART"))

    given = {
        "temperature": temperature,
        "top_p": top_p,
        "top_k": top_k,
        "max_new_tokens": max_new_tokens,
        "slots": slots,
    }
    changes = {key: value for key, value in given.items() if value is not None}
    decode = dataclasses.replace(choice.config.decode, **changes)
    seed = choice.config.run.seed if seed is None else seed

    lines = None if prompts is None else read_prompts(prompts)
    if lines is not None:
        # Before the model is loaded: a file of other answers is refused at once.
        claim(out, answer_inputs(choice, lines, decode, seed))

    keep_compiled(Path(choice.config.run.root) if run is None else run.resolve().parent)
    config = settle(choice.config, tell_hardware(), trains=False)
    asked = load_models(dataclasses.replace(choice, config=config))
    if lines is not None:
        print(answer_file(asked, lines, out, decode, seed).report())
    elif sys.stdin.isatty():
        print("A question, then Enter; /help says what else. First answers wait for compilation.")
        talk(typed_lines(), partial(ask, asked, Manner(decode, seed, plain)), {})
    else:
        piped = (line.removesuffix("\n") for line in sys.stdin)
        for shown in answer_each(asked, piped, decode, seed, plain):
            print(f"{shown}\n", flush=True)


def main(arguments: Sequence[str]) -> int:
    """Parse, load and answer; returns the exit status."""
    call("python -m dart_jax generate", generate, arguments, SETTINGS)
    return 0


def _names(models: str) -> list[str]:
    return [name.strip() for name in models.split(",") if name.strip()]


def _check_settings(settings: Mapping[str, str], run: Path | None) -> None:
    for name in settings:
        if name.split(".")[0] not in _SECTIONS:
            raise BadSetting(f"--{name}: only settings of {' and '.join(_SECTIONS)} go here")
        if run is not None:
            raise BadSetting(f"--{name}: the run has its own; it goes with --adapter")
