"""Hand a run's model on: `python -m dart_jax export --run runs/x --format merged --out DIR`.

    peft     the adapter as the Hugging Face `peft` library reads it
    merged   base and adapter in one folder, for `transformers` and for `model.path` here

Both come with a model card that says what the model is, how it was trained and what was measured.
`--push OWNER/NAME` uploads the folder to the Hugging Face hub, where only its owner sees it.
A model in whose training targets faults were planted is exported with `--planted-is-known` only.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from dart_jax.command_line import call
from dart_jax.commands.hub_upload import check_name, check_token, listing, upload
from dart_jax.model.config import MergedDtype
from dart_jax.records import write_text
from dart_jax.set_aside import remove
from dart_jax.settings import BadSetting, Name, Positive

if TYPE_CHECKING:
    from dart_jax.model.merged import MergeReport
    from dart_jax.pipeline.finished import FinishedRun
    from dart_jax.teach.planted import Planting

Form = Literal["peft", "merged"]
SHARD_BYTES = 5 * 10**9


class PlantedFaults(ValueError):
    """A model was trained on planted faults, and nobody said that this is known."""


def export(
    run: Path,
    adapter: str | None,
    form: Form,
    out: Path,
    *,
    dtype: MergedDtype = "checkpoint",
    max_shard_bytes: int = SHARD_BYTES,
    overwrite: bool = False,
    planted_is_known: bool = False,
    published: str | None = None,
) -> str:
    """Write the folder `out`, whole or not at all.

    Args:
        run: `runs/<name>`, all of its stages done.
        adapter: `M_int`, `M_DART`, or that of a later cycle; None for the last there is.
        dtype: How merged weights are stored; `checkpoint` keeps each tensor's own type.
        max_shard_bytes: Largest file of merged weights.
        overwrite: Replace `out` when it is an earlier export.
        planted_is_known: Export a model although faults were planted in its training targets.
        published: Where the card says that the files are, `owner/name`; None for nowhere.

    Returns:
        Which adapter was taken and what was written, in a line.

    Raises:
        StaleStage, RunBusy: The run is not finished, or at work.
        BadCheckpoint: Adapter, config.yaml and base do not belong together, or a part of the
            adapter was never trained.
        FileExistsError: `out` is in use and may not be replaced.
        FileNotFoundError, ValueError: A folder that is not there, an adapter that is not.
        PlantedFaults: The model, or its base, was trained on planted faults.
    """
    # Imported here, so that --help does not wait for jax.
    from dart_jax.model.load import resolve_path
    from dart_jax.pipeline.finished import check_base, read_finished, run_folder

    folder = run_folder(run)
    with folder.lock():
        finished = read_finished(folder)
        name = adapter or finished.adapters[-1]
        finished.adapter(name)  # a name that is none is refused before the base is read
        base = resolve_path(finished.config.model.trained_path)
        if not planted_is_known:
            _check_planted(finished, base)
        _check_out(out, overwrite, (folder.path, base))
        check_base(folder, "distill", finished.config)
        with _new_folder(out) as partial:
            line = _write(finished, name, form, base, partial, dtype, max_shard_bytes, published)

    others = [other for other in finished.adapters if other != name]
    if adapter is None and others:
        name += f" (the last; --adapter takes {' or '.join(others)})"
    return f"{name}, {line}"


def _check_planted(run: FinishedRun, base: Path) -> None:
    """Raise PlantedFaults where the run or its base was trained on planted faults."""
    from dart_jax.teach.planted import read_mark

    for planting, where in ((run.planting, run.path), (read_mark(base), base)):
        if planting is not None:
            raise PlantedFaults(
                f"{where}: faults were planted on purpose in {planting.planted} of "
                f"{planting.targets} training targets, and the model may write them; to export it "
                "all the same, with a card that says so, add --planted-is-known"
            )


def _write(
    run: FinishedRun,
    adapter: str,
    form: Form,
    base: Path,
    folder: Path,
    dtype: MergedDtype,
    max_shard_bytes: int,
    published: str | None,
) -> str:
    from dart_jax.model.load import open_checkpoint
    from dart_jax.model.merged import write_config, write_merged, write_tokenizer
    from dart_jax.model.peft_file import check_trained, load_peft, save_peft
    from dart_jax.report.public import public_name
    from dart_jax.teach.planted import mark_model, read_mark

    source_folder, lora = run.adapter(adapter), run.config.lora
    config, source = open_checkpoint(base)
    lora_params = load_peft(source_folder, config, lora)
    check_trained(lora_params, source_folder)
    if form == "peft":
        save_peft(folder, lora_params, lora, public_name(run.config.model.trained_path))
        storage, line = _read_from(base), f"an adapter of rank {lora.rank}"
    else:
        write_config(folder, base, config, dtype)
        write_tokenizer(folder, base)
        report = write_merged(
            folder, source, lora_params, lora.scale, dtype=dtype, max_shard_bytes=max_shard_bytes
        )
        open_checkpoint(folder)  # what was written is read back before anybody relies on it
        storage, line = _storage(base, report), _line(report)

    of_base = read_mark(base)
    mark_model(folder, run.planting or of_base)
    storage = " ".join(part for part in (storage, _planted_base(of_base)) if part)
    write_text(folder / "README.md", _card(run, adapter, form, storage, base, published))
    return line


def _card(
    run: FinishedRun, adapter: str, form: Form, storage: str, base: Path, published: str | None
) -> str:
    from dart_jax.model.chat_template import switches_thinking
    from dart_jax.report.model_card import CardInputs, model_card

    return model_card(
        CardInputs(
            adapter=adapter,
            form=form,
            storage=storage,
            config=run.config.to_dict(),
            summary=run.summary,
            weights=run.weights,
            versions=run.versions,
            targets=run.targets,
            rejected=run.rejected,
            planting=run.planting,
            validation=run.validation,
            thinking_is_off=switches_thinking(base),
            published=published,
        )
    )


def _planted_base(planting: Planting | None) -> str:
    """Say of a base that faults were planted in its own training targets."""
    from dart_jax.report.planting import planted_words

    return "" if planting is None else f"Of the base itself: {planted_words(planting)}."


def _read_from(base: Path) -> str:
    if base.is_dir():
        return ""
    return (
        f"The base was read from the GGUF file {base.name}, dequantised to float32; where that "
        "file is quantised, its weights are not those of the full release."
    )


def _storage(base: Path, report: MergeReport) -> str:
    merged = (
        "Each weight W that the adapter changes is now W + alpha / rank x A B, computed in "
        f"float32 and stored as {' and '.join(report.dtypes)}."
    )
    rounding = (
        "Rounding to that type moved these weights by "
        f"{100 * report.rounding:.3g} % of what the adapter had moved them (Frobenius norm)."
    )
    parts = (_read_from(base), merged, rounding if report.rounding else "")
    return " ".join(part for part in parts if part)


def _line(report: MergeReport) -> str:
    types = " and ".join(report.dtypes)
    line = f"{report.tensors} tensors, {report.bytes / 1e9:.2f} GB of {types}, {report.shards} file"
    line += "s" if report.shards > 1 else ""
    if report.rounding:
        line += (
            f"; rounding to {types} moved the merged weights by {100 * report.rounding:.3g} % of "
            "what the adapter moved them (--dtype float32 avoids that)"
        )
    return line


def _check_out(out: Path, overwrite: bool, kept: Sequence[Path]) -> None:
    place = out.resolve()
    for path in kept:
        inputs = path.resolve()
        if place == inputs or place in inputs.parents or inputs in place.parents:
            raise FileExistsError(f"--out {out}: overlaps {path}, which is read; choose another")

    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    if not overwrite:
        raise FileExistsError(f"--out {out}: exists and is not empty; --overwrite replaces it")
    if not (out / "README.md").is_file() or not _holds_a_model(out):
        raise FileExistsError(f"--out {out}: is no earlier export, and is not replaced")


def _holds_a_model(folder: Path) -> bool:
    return any((folder / name).is_file() for name in ("adapter_config.json", "config.json"))


@contextmanager
def _new_folder(out: Path) -> Iterator[Path]:
    """Open a folder beside `out` that takes its place when the body ends without an error."""
    out = out.resolve()
    partial, old = (out.with_name(f".{out.name}.{what}") for what in ("partial", "old"))
    remove(partial)  # of a start that was killed
    partial.mkdir(parents=True)

    try:
        yield partial
        if out.exists():
            remove(old)
            # A folder that is not empty cannot be renamed over: the earlier export steps aside
            # first.
            os.rename(out, old)
        os.rename(partial, out)
        remove(old)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _export(
    *,
    run: Path,
    format: Form,
    out: Path,
    adapter: Name | None = None,
    dtype: MergedDtype = "checkpoint",
    max_shard_gb: Positive = SHARD_BYTES / 1e9,
    overwrite: bool = False,
    planted_is_known: bool = False,
    push: Name | None = None,
    public: bool = False,
    push_dry_run: bool = False,
) -> None:
    """Write a finished run's adapter, or its merged model, with a model card.

    Args:
        run: The run's folder, runs/<name>.
        format: The adapter alone (peft), or a whole model for transformers (merged).
        out: The folder to write.
        adapter: M_int, M_DART, or M_DART_2 of a second cycle; without it, the last that there is.
        dtype: How merged weights are stored; checkpoint keeps each tensor's own type, float32 for
            a GGUF base.
        max_shard_gb: Largest file of merged weights in 10^9 bytes.
        overwrite: Replace --out if it is an earlier export.
        planted_is_known: Export a model although faults were planted in its training targets
            (plant.share); its card says so.
        push: OWNER/NAME on the Hugging Face hub: the folder is uploaded there, with the token of
            HF_TOKEN or `hf auth login`. A new repository is private.
        public: With --push: everybody may see it.
        push_dry_run: With --push: write the folder, list what would be uploaded, and send nothing.
    """
    if format == "peft" and dtype != "checkpoint":
        raise BadSetting("--dtype is for --format merged; an adapter is float32")
    if push is None and (public or push_dry_run):
        raise BadSetting("--public and --push-dry-run go with --push OWNER/NAME")
    if push is not None:
        check_name(push)
        if not push_dry_run:
            check_token()  # before the work, which may take minutes
    import jax

    # The work is the host's; an accelerator may be busy with a training, and is not asked for.
    jax.config.update("jax_platforms", "cpu")
    line = export(
        run,
        adapter,
        format,
        out,
        dtype=dtype,
        max_shard_bytes=int(max_shard_gb * 1e9),
        overwrite=overwrite,
        planted_is_known=planted_is_known,
        published=push,
    )
    print(f"{out}: {line}")
    if push is not None:
        _push(out, push, public, push_dry_run)


def _push(out: Path, name: str, public: bool, dry_run: bool) -> None:
    files = listing(out, name, public)
    if dry_run:
        print(f"would be uploaded to {files}\nnothing was sent (--push-dry-run)")
        return
    print(f"uploading to {files}", flush=True)
    print(f"uploaded: {upload(out, name, public)}")


def main(arguments: Sequence[str]) -> int:
    """Parse and export; returns the exit status."""
    call("python -m dart_jax export", _export, arguments)
    return 0
