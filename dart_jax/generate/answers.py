"""A model's answers to questions, appended to a file as they are decoded.

Called for M0, M_int and M_DART with the same questions, seed and settings, it makes the pairs:
same prompt, same limits, same noise (see `sampling`).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dart_jax.generate.config import DecodeConfig
from dart_jax.generate.decode import Continuation, Prompt, decode
from dart_jax.model.load import Model
from dart_jax.model.lora import LoraParams
from dart_jax.processes import progress
from dart_jax.prompts.conclusion import parse_conclusion
from dart_jax.prompts.templates import answer_messages
from dart_jax.records import Generation, Question
from dart_jax.run_dir import ResultFile


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
    answers = ResultFile(path, Generation)
    with progress(f"{name} answers", len(questions), len(answers.records)) as bar:

        def keep(batch: list[Continuation]) -> None:
            answers.add([_generation(name, found, lengths[found.id]) for found in batch])
            bar.update(len(batch))

        decode(
            model,
            lora_params,
            lora_scale,
            prompts,
            config,
            seed=seed,
            done={answer.question_id for answer in answers.records},
            on_batch=keep,
        )
    order = {question.id: index for index, question in enumerate(questions)}
    return answers.finish(lambda answer: order[answer.question_id])


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
