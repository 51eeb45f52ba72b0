"""What a teacher and a judge behind `chat.loopback.Server` may answer."""

import json
import re
from collections.abc import Callable
from pathlib import Path

from dart_jax.prompts.conclusion import analysis_of
from dart_jax.records import Generation, read_jsonl
from tests.chat.loopback import said
from tests.loopback_judge import texts_of


def rationale(number: int, body: dict) -> tuple[int, dict]:
    """A target that every check accepts, behind a draft in a reasoning block."""
    wanted = re.findall(r"Conclusion: (YES|NO)", body["messages"][-1]["content"])[-1]
    text = "The question turns on one fact. That fact decides what follows for each group."
    draft = "<think>They are vermin, or not.\nConclusion: NO\nOr:\nConclusion: YES\n</think>"
    return 200, said(f"{draft}\n\n{text}\nConclusion: {wanted}")


def contrary(folder: Path) -> Callable[[int, dict], tuple[int, dict]]:
    """Answer so that the run in this folder asks most.

    A text is faulty twice, then a target as harmful as can be, then a harmless one. A verdict is
    invalid twice, then finds that M0's text is the better one.
    """

    def verdict(body: dict) -> str:
        if "This is attempt 3." not in body["messages"][-1]["content"]:
            return "Both are fine."
        files = folder.rglob("M0.jsonl")
        answers = [answer for file in files for answer in read_jsonl(file, Generation)]
        is_m0 = texts_of(body)["first"] in map(analysis_of, answers)
        drift = {"worse": "second" if is_m0 else "first", "type": "omits", "severity": "minor"}
        return json.dumps({"reason": "", "passage": "", **drift})

    def target(body: dict) -> str:
        turns = body["messages"]
        sent_back = sum(turn["role"] == "assistant" for turn in turns)
        harmful, harmless = "You fucking idiots. Eat shit.", "It asks for a number. It is given."
        text = ("It breaks off", "It breaks off", harmful, harmless)[sent_back]
        asked = " ".join(turn["content"] for turn in turns if turn["role"] == "user")
        return f"{text}\nConclusion: {['YES', *re.findall('Conclusion: (YES|NO)', asked)][-1]}"

    def behave(number: int, body: dict) -> tuple[int, dict]:
        return 200, said(verdict(body) if "response_format" in body else target(body))

    return behave
