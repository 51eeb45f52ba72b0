"""Run the commands of the documents as a new user would: a fresh clone, an empty environment.

    python -m tests.run_documents                       # README.md, one command after the other
    python -m tests.run_documents --list configs/README.md
    python -m tests.run_documents --only finetune --suite PATH/TO/difference_awareness

The clone is of the last commit. Of this shell's variables it gets PATH, behind its own `.venv/bin`,
and pip's settings; it has a home of its own. Files that a document shows and its commands name
(`my_pkg.py`, `my.jsonl`) are written from the document. What cannot be run here is said with its
reason; any other command that fails makes this one fail.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
FIRST_WORDS = re.compile(r"(?:[A-Z_]+=\S+ )*(?:bash|python|\.venv/bin/\w+|dart-jax) \S")
CODE_SPAN = re.compile(r"`((?:[A-Z_]+=\S+ )+bash [^`]+)`")

# A part of a command -> why it is not run.
EXCEPTIONS = {
    "meta-llama/": "a gated model of the hub, which has to be downloaded",
    "ACCELERATOR=cuda": "there is no GPU",
    "ACCELERATOR=tpu": "there is no TPU",
    "--topology": "needs the compiler of a TPU or GPU",
}
# What a document leaves to its reader -> what is put there.
READERS_CHOICE = {
    "PATH/TO/difference_awareness": "{suite}",
    ".../difference_awareness": "{suite}",
    "/data/difference_awareness": "{suite}",
    "--out DIR": "--out {home}/exported",
    "--run runs/llama3_8b": "--run runs/quickstart --planted-is-known",
}
# Commands that README.md describes in words or settings.
DESCRIBED = (
    "bash launch/local.sh --run.name own_loss --repair.loss.fn my_pkg.careful "
    "--repair.loss.reference true",
    # Neither the model nor the classifiers can be downloaded everywhere; nothing is sent.
    "OPENAI_API_KEY=none bash launch/local.sh --config configs/paper.yaml --dry-run "
    "--model.path smollm2-135m-instruct --audit.scorers '[profanity]' --audit.screen_by any "
    "--data.dir PATH/TO/difference_awareness",
)


@dataclass(frozen=True)
class Finished:
    """A command, its exit status and seconds of wall clock, or why it was not run."""

    command: str
    status: int | None
    seconds: float
    reason: str = ""


def commands(document: str) -> list[str]:
    """Shell commands that a document shows in blocks or, with a variable set, in its text."""
    shown = []
    for line in document.replace("\\\n", " ").splitlines():
        text = re.sub(r"\s+", " ", line).strip()
        in_block = line.startswith("    ") or FIRST_WORDS.match(line)
        if in_block and FIRST_WORDS.match(text):
            shown.append(text.split(" # ")[0])
        shown += CODE_SPAN.findall(text)
    return shown


def named_files(document: str) -> dict[str, str]:
    """Content of the files that a document shows and its commands name."""
    files = {}
    for code in re.findall(r"```python\n(.*?)```", document, re.DOTALL):
        if name := re.match(r"# (\w+\.py)\b", code):
            files[name[1]] = code
    if row := re.search(r'^ {4}(\{"id".*\})$', document, re.MULTILINE):
        files["my.jsonl"] = "".join(_rows_like(row[1]))
    return files


def _rows_like(row: str) -> Iterator[str]:
    """Ten rows, since one leaves none to hold out; in other words, or they were one scenario."""
    for number in range(10):
        content = json.loads(row)
        content["id"] += str(number)
        content["messages"][0]["content"] += f" It is number {number}."
        yield json.dumps(content) + "\n"


def reason_against(command: str, suite: str | None) -> str:
    """Say why a command is not run; empty if it is."""
    for part, reason in EXCEPTIONS.items():
        if part in command:
            return reason
    if suite is None and "difference_awareness" in command:
        return "no --suite was given"
    return ""


def filled_in(command: str, suite: str | None, home: Path) -> str:
    """The command with what its reader chooses."""
    for part, choice in READERS_CHOICE.items():
        command = command.replace(part, choice.format(suite=suite, home=home))
    return command


def environment(clone: Path, home: Path) -> dict[str, str]:
    """Variables of a new user: nothing of this shell but PATH and where pip finds packages."""
    kept = {name: value for name, value in os.environ.items() if name.startswith("PIP_")}
    path = f"{clone / '.venv/bin'}:{os.environ['PATH']}"
    return {"PATH": path, "HOME": str(home), "LANG": "C.UTF-8", **kept}


def run(command: str, suite: str | None, clone: Path, home: Path) -> Finished:
    """Run one command in the clone; its output goes to this terminal."""
    if reason := reason_against(command, suite):
        return Finished(command, None, 0.0, reason)
    print(f"\n$ {command}", flush=True)
    began = time.monotonic()
    done = subprocess.run(
        ["bash", "-c", filled_in(command, suite, home)],
        cwd=clone,
        env=environment(clone, home),
        stdin=subprocess.DEVNULL,
    )
    return Finished(command, done.returncode, time.monotonic() - began)


def result(finished: Finished) -> str:
    """One line about a command."""
    if finished.status is None:
        return f"not run  {finished.command}\n         ({finished.reason})"
    state = "passed" if finished.status == 0 else f"ended with {finished.status}"
    return f"{state}, {finished.seconds:.0f} s  {finished.command}"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("documents", nargs="*", default=["README.md"])
    parser.add_argument("--suite", type=Path, help="folder of the difference_awareness suite")
    parser.add_argument("--only", default="", help="run commands that contain this text")
    parser.add_argument("--skip", default="\n", help="run no commands that contain this text")
    parser.add_argument("--into", type=Path, help="new folder for the clone, which stays")
    parser.add_argument("--list", action="store_true", help="print the commands; run none")
    options = parser.parse_args(arguments)

    files: dict[str, str] = {}
    chosen: list[str] = []
    for name in options.documents:
        text = (ROOT / name).read_text("utf-8")
        files |= named_files(text)
        chosen += commands(text)
    if "README.md" in options.documents:
        chosen += DESCRIBED
    chosen = [
        command
        for command in dict.fromkeys(chosen)
        if options.only in command and options.skip not in command
    ]
    suite = None if options.suite is None else str(options.suite.resolve())
    if options.list:
        for command in chosen:
            print(f"{command}\n    {reason_against(command, suite) or 'would be run'}")
        return 0

    folder = options.into or Path(tempfile.mkdtemp(prefix="dart_jax_documents_"))
    clone, home = folder / "dart_jax", folder / "home"
    home.mkdir(parents=True)
    subprocess.run(["git", "clone", "--quiet", ROOT, clone], check=True)
    for name, content in files.items():
        (clone / name).write_text(content, "utf-8")
    results = [run(command, suite, clone, home) for command in chosen]
    if options.into is None:
        shutil.rmtree(folder)

    print("\n" + "\n".join(map(result, results)))
    return int(any(finished.status for finished in results))


if __name__ == "__main__":
    sys.exit(main())
