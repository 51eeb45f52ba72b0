"""`python -m dart_jax fetch`: download what a run needs, for a machine without a network.

It takes the settings of the run, prints what is to come with its size, and downloads it: models by
their names on the hub, the scorers' classifiers by loading them as the run will, and the suite's
files by their addresses, each checked against its checksum.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

from dart_jax.command_line import call
from dart_jax.config import SETTINGS, DartConfig, read_config
from dart_jax.data.bucket import is_address
from dart_jax.settings import BadSetting

# Where the libraries keep what they download, as folders of `--to`.
_CACHES = {"HF_HUB_CACHE": "hub", "HF_DATASETS_CACHE": "datasets", "TORCH_HOME": "torch"}
_SUITE = "difference_awareness"


@dataclass(frozen=True, kw_only=True)
class Job:
    """Download the model, the scorers and the questions of a run, for a machine without a network.

    Any setting of python -m dart_jax.train may follow, such as --data.dir DIR.

    Attributes:
        config: YAML file, as `dart_jax train` takes it.
        to: Folder for everything, to be copied to the other machine; without it, models go to the
            caches of their libraries, and the suite to data.dir.
        dry_run: Print what would be downloaded, with its size, and end.
        settings: The texts of `--section.field value`, by name.
    """

    config: Path
    to: Path | None = None
    dry_run: bool = False
    settings: Mapping[str, str]


@dataclass(frozen=True)
class Item:
    """Something that the run needs from the network.

    Attributes:
        size: Bytes that are to come, 0 for what is here; None where nobody says.
        fetch: Downloads what is missing.
    """

    name: str
    size: int | None
    fetch: Callable[[], object]


def main(arguments: Sequence[str]) -> int:
    """List what is needed, download what is missing, say how to use it; returns the exit status."""
    job = call("python -m dart_jax fetch", Job, arguments, SETTINGS)
    config = read_config(job.config, job.settings)
    _check_settings(job, config)
    if job.to is not None:
        # Read by the libraries when they are imported, which happens below.
        for variable, folder in _CACHES.items():
            os.environ[variable] = str(job.to.resolve() / folder)

    items = list(_items(job, config))
    if not items:
        print("nothing to download: the run needs only what is installed or on this machine")
        return 0
    for item in items:
        print(f"{item.name}: {_size(item.size)}")
    known = sum(item.size or 0 for item in items)
    unknown = ", and what has no size here" if None in [item.size for item in items] else ""
    print(f"in all {known / 1e9:.2f} GB to download{unknown}", flush=True)
    if job.dry_run:
        print("dry run: nothing was downloaded")
        return 0

    for item in items:
        if item.size != 0:
            print(f"fetching {item.name}", flush=True)
        # What is here is asked for, too: a classifier's tokenizer may be missing beside it.
        item.fetch()
    print(*_how_to_use(job, config), sep="\n")
    return 0


def _check_settings(job: Job, config: DartConfig) -> None:
    if config.data.dir is not None and is_address(config.data.dir):
        raise BadSetting(
            f"data.dir: {config.data.dir}; fetch writes to a folder of this machine, from which "
            "`gcloud storage cp -r` takes it to a bucket"
        )
    if config.data.suite == _SUITE and config.data.dir is None and job.to is None:
        raise BadSetting("say where the suite's files are to go: --data.dir DIR, or --to DIR")


def _items(job: Job, config: DartConfig) -> Iterator[Item]:
    yield from _models(config)
    yield from _questions(job, config)
    yield from _scorers(config)


def _models(config: DartConfig) -> Iterator[Item]:
    """List the base model, and local teachers and judges, that are named as the hub names them."""
    from dart_jax.model.hub import bytes_to_download, hub_folder, is_hub_name

    names = [config.model.path]
    for service in (config.teacher, config.judge, config.evaluate.judge):
        if service.provider in ("local", "guard") and service.model is not None:
            names.append(service.model)
    for name in dict.fromkeys(names):
        if is_hub_name(name) and not Path(name).exists():
            yield Item(f"model {name}", bytes_to_download(name), partial(hub_folder, name))


def _questions(job: Job, config: DartConfig) -> Iterator[Item]:
    """List the suite's files, or the data set of the hub; other questions are on this machine."""
    from dart_jax.data.download import download
    from dart_jax.data.public_suite import files_to_fetch
    from dart_jax.data.suites import custom_items

    if config.data.suite == "hub" and not Path(config.data.hub or "").exists():
        yield Item(f"data set {config.data.hub}", None, partial(custom_items, config.data))
    if config.data.suite == _SUITE:
        folder = _suite_folder(job, config)
        missing = files_to_fetch(folder)
        if not missing:
            yield Item(f"suite in {folder}", 0, lambda: None)
        for path, file in missing.items():
            yield Item(f"suite {path}", file.size, partial(download, file, path))


def _scorers(config: DartConfig) -> Iterator[Item]:
    from dart_jax.audit.scorer_files import scorer_downloads
    from dart_jax.audit.scorers import make_scorers

    for settings in (config.audit, config.further_scorers):
        if settings is not None:
            # All of them, for whichever comes first.
            load = cache(partial(make_scorers, settings))
            for name, size in scorer_downloads(settings).items():
                yield Item(f"scorer {name}", size, load)


def _suite_folder(job: Job, config: DartConfig) -> Path:
    if config.data.dir is not None:
        return Path(config.data.dir)
    return job.to / _SUITE


def _size(size: int | None) -> str:
    if size is None:
        return "size unknown"
    return "here" if size == 0 else f"{size / 1e6:,.1f} MB"


def _how_to_use(job: Job, config: DartConfig) -> Iterator[str]:
    """Put into words what the machine without a network is to be told."""
    yield "all of it is here; on a machine without a network:"
    if job.to is not None:
        yield f"    DIR=...    # where the copy of {job.to} is there"
        for variable, folder in _CACHES.items():
            yield f"    export {variable}=$DIR/{folder}"
    yield "    export HF_HUB_OFFLINE=1"

    command = f"python -m dart_jax.train --config {job.config}"
    for name, value in job.settings.items():
        command += f" --{name} {value}"
    if config.data.suite == _SUITE and config.data.dir is None:
        command += f" --data.dir $DIR/{_SUITE}"
    yield f"    {command}"
