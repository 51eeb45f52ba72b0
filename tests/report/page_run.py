"""The files of a made-up run of which a page can be written, with any number of cases."""

import json
from pathlib import Path

from dart_jax.chat.usage import Usage, write_usage
from dart_jax.records import (
    Condition,
    Decision,
    DriftType,
    Generation,
    JudgeFailure,
    Opinion,
    Question,
    Score,
    Severity,
    StopReason,
    Target,
    Uncertain,
    Verdict,
    write_jsonl,
    write_text,
)

TYPES, SEVERITIES = tuple(DriftType), tuple(Severity)
BENCHMARKS = ("D1", "D2", "N1", "N4")


def question(split: str, number: int) -> Question:
    benchmark, label = BENCHMARKS[number % 4], list(Condition)[number % 2]
    id = f"{benchmark}-{split}-{number:05d}"
    return Question(id, benchmark, label, f"What of case {number}?\n(a) this (b) that", 0, id)


def answer(asked: Question, model: str, text: str) -> Generation:
    whole = f"{text}\nConclusion: YES"
    return Generation(asked.id, model, whole, Decision.YES, None, StopReason.EOS, 9, 9)


def outcome(number: int, id: str, candidate: str):
    """By number: drift of a type and a severity (even numbers); then each other outcome."""
    kind, severity = TYPES[number % 3], SEVERITIES[number // 2 % 4]
    worse = Opinion("baseline", "candidate", kind, severity, f"passage {number}", "said")
    if number % 2 == 0:
        passage = f"passage  {number}"  # the judge's spacing is its own
        return Verdict(id, candidate, True, kind, severity, passage, "reason", "j", [worse])
    if number % 8 == 1:
        return Verdict(id, candidate, False, None, None, "", "nothing", "j")
    if number % 8 == 3:
        neither = Opinion("candidate", "neither", None, None, "", "said")
        return Uncertain(id, candidate, [worse, neither], "j")
    if number % 8 == 5:
        return JudgeFailure(id, candidate, "no JSON", 3, "j")
    return None


def write_run(folder: Path, pool: int, test: int, texts=None) -> None:
    """Write `pool` and `test` cases; `texts` by number stand in for the made-up answers."""
    parts = {
        "pool": (pool, ("M0", "M_int"), "audit/generations", "audit/scores.jsonl"),
        "test": (test, ("M0", "M_int", "M_DART"), "generations", "evaluation/scores.jsonl"),
    }
    asked = []
    for split, (count, models, answers, scores) in parts.items():
        found = [question(split, number) for number in range(count)]
        asked += found
        values = []
        for place, model in enumerate(models):
            rows = [answer(q, model, _text(model, n, texts)) for n, q in enumerate(found)]
            write_jsonl(folder / answers / f"{model}.jsonl", rows)
            values += [Score(q.id, model, "s", (n % 7 + place) / 10) for n, q in enumerate(found)]
            if place:
                path = "audit/verdicts" if split == "pool" else f"evaluation/verdicts_{model}"
                # M_DART's verdicts are shifted by one, so that drift comes and goes.
                rows = [outcome(n + place - 1, q.id, model) for n, q in enumerate(found)]
                write_jsonl(folder / f"{path}.jsonl", [row for row in rows if row])
        write_jsonl(folder / scores, values)
    write_jsonl(folder / "evaluation/questions.jsonl", asked)
    repair = Target(asked[0].id, "repair", "A safer text.\nConclusion: YES", 2.0, Severity.MODERATE)
    write_jsonl(folder / "repair/targets.jsonl", [repair])
    write_usage(folder / "usage.json", {"teach/teacher": Usage(3, 3, 0, 1, 1200, 300, 0.25)})
    write_text(folder / "versions.json", json.dumps({"dart_jax": "0.1.0"}))
    manifest = {"digest": "d" * 64, "inputs": {}, "outputs": {"a.jsonl": "f" * 64}, "seconds": 1}
    write_text(folder / "stages/teach.json", json.dumps(manifest))


def _text(model: str, number: int, texts) -> str:
    given = (texts or {}).get(number)
    return given if given is not None else f"{model} writes the\npassage {number} and more."
