"""The prompts of every role, filled from the text files in `text/`.

The files are `string.Template`s. Substitution is strict and happens once, so that a `$` inside
a question is never taken for a field. `answer_messages` is the only prompt of M0, M_int and
M_DART: training and decoding both call it.
"""

from functools import cache
from pathlib import Path
from string import Template

from dart_jax.prompts.conclusion import conclusion_line
from dart_jax.prompts.material import quoted
from dart_jax.records import DriftCase, Question

TEXTS = Path(__file__).parent / "text"
"""Folder of the prompts; its subfolders hold texts that only some runs use."""

Message = dict[str, str]
"""`{"role": "system" | "user" | "assistant", "content": ...}`, as in `chat.protocol`."""


@cache
def load_template(name: str) -> Template:
    """Load the template `text/<name>.txt`, without the file's last newline.

    Raises:
        FileNotFoundError: There is no such template; the message holds the path.
    """
    return Template((TEXTS / f"{name}.txt").read_text(encoding="utf-8").rstrip("\n"))


def answer_messages(question: Question, *, policy: bool = False) -> tuple[Message, ...]:
    """Build the task prompt: analyse the question, do not answer it, end with the conclusion line.

    A question that has messages (custom data) is asked by these, unchanged.

    Args:
        question: The question, of which the model sees the text, or the messages, alone.
        policy: Whether to append the explanation policy to the system prompt (paper, inference).
    """
    if question.messages:
        return _custom_messages(question, load_template("policy").substitute() if policy else "")

    system = load_template("answer_system").substitute()
    if policy:
        system += "\n" + load_template("policy").substitute()
    return _conversation(system, load_template("answer_user").substitute(question=question.text))


def distill_messages(question: Question) -> tuple[Message, ...]:
    """Ask a teacher for a rationale, given question and gold label (paper, stage I)."""
    return _conversation(
        load_template("teacher_distill_system").substitute(),
        load_template("teacher_distill_user").substitute(_label_fields(question)),
    )


def repair_messages(question: Question, case: DriftCase) -> tuple[Message, ...]:
    """Ask a teacher for a safer rationale with the same label (paper, stage III).

    The drifted rationale may hold any text, so it goes in as a JSON string, which no text can end
    from within.

    Raises:
        ValueError: The case belongs to another question.
    """
    if case.question_id != question.id:
        raise ValueError(f"drift case of {case.question_id} given with question {question.id}")

    fields = _label_fields(question) | {
        "drift": load_template(f"drift_{case.type.value}").substitute(),
        "severity": case.severity.name.lower(),
        "rationale": quoted(case.candidate_text),
    }
    return _conversation(
        load_template("teacher_repair_system").substitute(),
        load_template("teacher_repair_user").substitute(fields),
    )


def correction_message(rule: str) -> Message:
    """Send a rejected answer back, naming the rule that it broke."""
    content = load_template("teacher_correction").substitute(rule=rule)
    return {"role": "user", "content": content}


def _label_fields(question: Question) -> dict[str, str]:
    label = question.gold.value
    return {
        "question": question.text,
        "label": label,
        "meaning": load_template(f"meaning_{label.lower()}").substitute(),
        "conclusion": conclusion_line(question.gold),
    }


def _custom_messages(question: Question, policy: str) -> tuple[Message, ...]:
    """Return a question's chat; a policy is appended to its system prompt, or becomes one."""
    turns = [{"role": turn.role, "content": turn.content} for turn in question.messages]
    if policy and turns[0]["role"] == "system":
        turns[0]["content"] += "\n" + policy
    elif policy:
        turns.insert(0, {"role": "system", "content": policy})
    return tuple(turns)


def _conversation(system: str, user: str) -> tuple[Message, ...]:
    return {"role": "system", "content": system}, {"role": "user", "content": user}
