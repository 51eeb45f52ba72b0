"""`python -m dart_jax audit` measures how often the audit itself is wrong."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from dart_jax.command_line import call_one
from dart_jax.config import SETTINGS
from dart_jax.data.config import PartShare
from dart_jax.settings import BadSetting, Count

if TYPE_CHECKING:
    from dart_jax.stages.context import Run


@contextmanager
def opened(
    path: Path,
    stage: str = "audit",
    settings: Mapping[str, str] | None = None,
    uses_devices: bool = True,
    begin: Callable[[], None] | None = None,
) -> Iterator[Run]:
    """Open a run whose `stage` is done, and keep its lock while the command works.

    Args:
        settings: By name, as text; they replace the run's own settings.
        uses_devices: Whether the command loads a model.
        begin: Called first, once all processes have joined: it may begin the run.

    Raises:
        FileNotFoundError: There is no run at `path`.
        RunBusy: Another process is working on the run.
        WrongDevices: An accelerator was asked for, and there is none.
        StaleStage: The stage is not done, or its inputs have changed since.
    """
    # Imported here, so that --help does not wait for jax.
    from dart_jax import processes
    from dart_jax.backend import tell_hardware
    from dart_jax.compiled import keep_compiled
    from dart_jax.config import read_config
    from dart_jax.pipeline.finished import check_stage, run_folder
    from dart_jax.pipeline.layout import settle
    from dart_jax.processes import on_all, on_primary
    from dart_jax.stages.context import Run

    processes.start()
    if begin is not None:
        with processes.only_primary_prints():
            begin()
    folder = on_all(lambda: run_folder(path))
    with ExitStack() as held, processes.only_primary_prints():
        on_primary(lambda: held.enter_context(folder.lock()))
        config = on_all(lambda: read_config(folder / "config.yaml"))
        # By the run's own settings: the stage did not run on those of the command.
        on_primary(lambda: check_stage(folder, stage, config))
        keep_compiled(folder.path.parent)
        if settings:
            config = on_all(lambda: read_config(folder / "config.yaml", settings))
        if uses_devices:
            config = settle(config, on_all(tell_hardware), trains=False)
        yield on_all(lambda: Run(config, folder))


def _calibrate(*, run: Path, questions: Count | None = None, seeds: Count = 2) -> None:
    """Compare M0 with itself under other seeds, which gives the screen's noise floor.

    Args:
        run: The run's folder, runs/<name>.
        questions: Use at most so many questions of the drift pool; without it, all of them.
        seeds: How many seeds to decode besides the run's own.
    """
    from dart_jax.commands.calibrate import calibrate
    from dart_jax.report.audit_error import noise_tables
    from dart_jax.report.planting import with_planting
    from dart_jax.report.to_text import to_text
    from dart_jax.teach.planted import read_planting

    with opened(run) as opened_run:
        found = calibrate(opened_run, questions, seeds)
        print(f"\nM0 against M0: {found.questions} questions, seeds {found.seeds}\n")
        print(to_text(with_planting(noise_tables(found), read_planting(opened_run.folder.path))))


def _export(*, run: Path, out: Path, sample: Count = 200) -> None:
    """Write a blinded sample of the audited pairs for people to judge.

    Args:
        run: The run's folder, runs/<name>.
        out: Folder for the files.
        sample: How many items to sample in all.
    """
    from dart_jax.commands.annotations import export_annotations

    with opened(run, uses_devices=False) as opened_run:
        count, paths = export_annotations(opened_run, out, sample)
        print(f"{count} items: {', '.join(map(str, paths))}; README.txt says how to fill them in")


def _import(files: tuple[Path, ...], *, run: Path, half_width: PartShare = 0.1) -> None:
    """Compare people's answers with the audit's verdicts.

    Args:
        files: JSONL or CSV files of answers; the export's README.txt lists the columns.
        run: The run's folder, runs/<name>.
        half_width: Say how many more answers bring the intervals down to this, either way.
    """
    from dart_jax.commands.annotations import import_annotations
    from dart_jax.report.audit_error import people_table, sample_note
    from dart_jax.report.planting import with_planting
    from dart_jax.report.to_text import to_text
    from dart_jax.teach.planted import read_planting

    with opened(run, uses_devices=False) as opened_run:
        agreement = import_annotations(opened_run, files, half_width)
        table = people_table(agreement, judged=opened_run.config.audit.mode != "screen_only")
        blocks = [table, sample_note(agreement)]
        blocks = with_planting(blocks, read_planting(opened_run.folder.path))
        print(f"\n{to_text(blocks)}")


def _refusals(
    settings: Mapping[str, str],
    *,
    labelled: tuple[Path, ...],
    out: Path | None = None,
    run: Path | None = None,
) -> None:
    """Compare the rules for refusals, and a run's judge, with people's labels.

    --judge.field value holds for this command instead of the run's own.

    Args:
        labelled: CSV files with completion, final_label and, if known, prompt.
        out: Write the measurement of the rules there as JSON.
        run: A run's folder, whose judge grades the same completions.
    """
    from dart_jax.commands.refusals import measure_refusals
    from dart_jax.evaluate.config import EvaluateConfig
    from dart_jax.evaluate.refusal_agreement import RefusalAgreement, rules_agreement
    from dart_jax.records import write_text
    from dart_jax.report.refusals import agreement_table, confusion_table
    from dart_jax.report.to_text import to_text

    for name in settings:
        if run is None or name.split(".")[0] != "judge":
            raise BadSetting(f"--{name}: only settings of the judge go here, and with --run")

    config = EvaluateConfig()
    measured = measure_refusals(labelled, config)
    by_rules = rules_agreement(measured, config)
    agreement = RefusalAgreement(config.confidence, by_rules)
    if run is not None:
        from dart_jax.commands.refusal_judge import measure_judge

        with opened(run, "repair", settings) as opened_run:
            agreement = measure_judge(opened_run, labelled, by_rules, config)

    tables = [confusion_table(file) for file in measured.files]
    print(f"\n{to_text([*tables, agreement_table(agreement)])}")
    if out is not None:
        write_text(out, json.dumps(asdict(measured), indent=1, allow_nan=False) + "\n")


PROG = "python -m dart_jax audit"
COMMANDS = {
    "calibrate": _calibrate,
    "export-annotations": _export,
    "import-annotations": _import,
    "refusals": _refusals,
}


def main(arguments: Sequence[str]) -> int:
    """Run one command of `audit`; returns the exit status."""
    call_one(PROG, COMMANDS, arguments, SETTINGS)
    return 0
