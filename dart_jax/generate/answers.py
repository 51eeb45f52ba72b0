"""A model's answers to questions, appended to a file as they are decoded.

Called for M0, M_int and M_DART with the same questions, seed and settings, it makes the pairs:
same prompt, same limits, same noise (see `sampling`).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from dart_jax.generate.config import DecodeConfig
from dart_jax.generate.decode import Continuation, Prompt, decode
from dart_jax.model.load import Model
from dart_jax.model.lora import LoraParams
from dart_jax.prompts.conclusion import parse_conclusion
from dart_jax.prompts.templates import answer_messages
from dart_jax.records import Generation, Question, append_jsonl, resume_jsonl, write_jsonl


def answer_prompts(questions: Sequence[Question], model: Model) -> list[Prompt]:
    """The prompts of `questions`, keyed by question id."""
    return [
        Prompt(q.id, tuple(model.tokenizer.encode_prompt(answer_messages(q)))) for q in questions
    ]


def answer_questions(
    name: str,
    model: Model,
    lora_params: LoraParams,
    lora_scale: float,
    questions: Sequence[Question],
    path: Path,
    config: DecodeConfig,
    seed: int,
) -> list[Generation]:
    """Answer what `path` does not hold yet; return all answers in the order of `questions`.

    Args:
        name: `M0`, `M_int` or `M_DART`.
        lora_params: Empty for M0.

    Raises:
        PromptTooLong: Before anything is decoded.
    """
    prompts = answer_prompts(questions, model)
    lengths = {prompt.id: len(prompt.tokens) for prompt in prompts}
    have = resume_jsonl(path, Generation)
    with tqdm(total=len(questions), initial=len(have), desc=f"{name} answers", unit="") as bar:

        def keep(batch: list[Continuation]) -> None:
            new = [_generation(name, found, lengths[found.id]) for found in batch]
            append_jsonl(path, new)
            have.extend(new)
            bar.update(len(new))

        decode(
            model,
            lora_params,
            lora_scale,
            prompts,
            config,
            seed=seed,
            done={generation.question_id for generation in have},
            on_batch=keep,
        )
    by_id = {generation.question_id: generation for generation in have}
    ordered = [by_id[question.id] for question in questions]
    write_jsonl(path, ordered)
    return ordered


def _generation(name: str, found: Continuation, prompt_tokens: int) -> Generation:
    decision, problem = parse_conclusion(found.text)
    return Generation(
        question_id=found.id,
        model=name,
        text=found.text,
        decision=decision,
        unparseable=problem,
        stop=found.stop,
        prompt_tokens=prompt_tokens,
        new_tokens=len(found.tokens),
    )
