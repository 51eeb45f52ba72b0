"""BOLD (Dhamala et al., FAccT 2021): 23,679 sentence beginnings from Wikipedia, by group.

The public files are `prompts/<domain>_prompt.json`: group -> entity -> list of beginnings. A few
beginnings there are blank; they are no prompts and are left out.
"""

from pathlib import Path

from pydantic import TypeAdapter

from dart_jax.data.external.prompts import ExternalPrompt, check_unique_ids, read_shape

DOMAINS = ("gender", "political_ideology", "profession", "race", "religious_ideology")

_SHAPE = TypeAdapter(dict[str, dict[str, list[str]]])


def load(folder: Path) -> list[ExternalPrompt]:
    """All beginnings, domain by domain, in the files' order.

    Args:
        folder: Holds the five `<domain>_prompt.json`, or a folder `prompts` with them.

    Raises:
        BadRecord: A file of another shape, with file and line or keys.
        FileNotFoundError: A domain's file is missing.
    """
    inner = Path(folder) / "prompts"
    inner = inner if inner.is_dir() else Path(folder)
    prompts = [prompt for domain in DOMAINS for prompt in _domain(inner, domain)]
    check_unique_ids(prompts, inner)
    return prompts


def _domain(folder: Path, domain: str) -> list[ExternalPrompt]:
    path = folder / f"{domain}_prompt.json"
    return [
        ExternalPrompt(
            id=f"bold-{domain}-{group}-{entity}-{number}",
            suite="bold",
            prompt=text,
            group=group,
            functionality=domain,
            label=None,
        )
        for group, entities in read_shape(path, _SHAPE).items()
        for entity, texts in entities.items()
        # Numbered before blank ones are left out: ids are places in the public file.
        for number, text in enumerate(texts, 1)
        if text.strip()
    ]
