"""Have a run's models choose option letters; kept in `<place>/letters/<model>.jsonl`, resumed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dart_jax.chat.protocol import Message
from dart_jax.commands.external_prompts import answers_of, step
from dart_jax.generate.letters import likeliest_letters
from dart_jax.generate.plan import Request
from dart_jax.processes import on_primary
from dart_jax.prompts.letters import NO_ROOM, NOT_READ, LetterAnswer, read_letter
from dart_jax.records import digest, read_jsonl
from dart_jax.run_dir import hash_path
from dart_jax.stages.context import Run

Prompts = Mapping[str, tuple[Message, ...]]


def likely_letters(run: Run, name: str, place: str, prompts: Prompts) -> list[LetterAnswer]:
    """Choose the letter that a model finds likeliest after each prompt, in their order.

    Raises:
        FileNotFoundError: The run has no such model.
    """
    adapter = run.adapter_path(name)
    if name != "M0" and not (adapter / "adapter_config.json").is_file():
        raise FileNotFoundError(f"{adapter}: the run has no model {name}; run its stages first")

    file = f"{place}/letters/{name}.jsonl"
    inputs = on_primary(
        lambda: {
            **run.model_inputs(),
            "adapter": None if name == "M0" else hash_path(adapter),
            "prompts": digest([[id, list(messages)] for id, messages in prompts.items()]),
        }
    )

    def work() -> None:
        model = run.model_of(name)
        encode = model.tokenizer.encode_prompt
        requests = [
            Request(id, tuple(encode(messages, row=id)), name) for id, messages in prompts.items()
        ]
        # At scale 0 an adapter is exactly the base model: one compiled program serves all models.
        weights = (run.adapter("M_int")[0], 0.0) if name == "M0" else run.adapter(name)
        likeliest_letters(model, weights, requests, run.folder / file)

    step(run, f"{place.replace('/', '_')}_letters_{name}", inputs, (file,), work)
    return on_primary(lambda: read_jsonl(run.folder / file, LetterAnswer))


def written_letters(run: Run, name: str, place: str, prompts: Prompts) -> list[LetterAnswer]:
    """Have a model answer each prompt, and read the letter in its answer."""
    found = []
    for answer in answers_of(run, name, place, prompts):
        option = read_letter(answer.text) if answer.had_room else None
        problem = None
        if option is None:
            problem = NOT_READ if answer.had_room else NO_ROOM
        found.append(LetterAnswer(answer.question_id, name, option, None, problem))
    return found


def without_room(answers: Mapping[str, Sequence[LetterAnswer]]) -> dict[str, int]:
    """Count by model the prompts that left no room for an answer."""
    counts = {}
    for name, of_model in answers.items():
        counts[name] = sum(not answer.had_room for answer in of_model)
    return counts
