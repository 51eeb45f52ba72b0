"""Answer questions under several models, appending each answer to its model's file.

All models answer in one pass of the decoder with the same prompt, limits and noise (see
`sampling`), so that their answers can be compared in pairs.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from dart_jax.generate.config import DecodeConfig
from dart_jax.generate.continuation import Continuation
from dart_jax.generate.decode import decode
from dart_jax.generate.plan import Request, common_prefix_of
from dart_jax.generate.stats import DecodeStats
from dart_jax.model.load import Model
from dart_jax.model.lora import LoraParams
from dart_jax.processes import progress
from dart_jax.prompts.conclusion import parse_conclusion
from dart_jax.prompts.templates import answer_messages
from dart_jax.records import Condition, Generation, Question, StopReason
from dart_jax.run_dir import ResultFile

NOT_ASKED = "the prompt asks for no conclusion"

Adapters = Mapping[str, tuple[LoraParams, float]]


def answer_prompts(
    questions: Sequence[Question], model: Model, policy: bool = False
) -> list[Request]:
    """Encode the prompts of `questions` for M0; `policy` as of `answer_messages`."""
    encode = model.tokenizer.encode_prompt
    return [
        Request(q.id, tuple(encode(answer_messages(q, policy=policy), row=q.id))) for q in questions
    ]


def answer_prefix(model: Model, policy: bool = False) -> Sequence[int]:
    """The tokens with which the prompts of all questions begin."""
    # Two questions that share no token begin alike only in what every prompt has.
    probes = [Question("", "D1", Condition.DIFF, text, 0, "") for text in ("A", "?")]
    first, second = answer_prompts(probes, model, policy)
    return common_prefix_of(first.tokens, second.tokens)


def answer_questions(
    model: Model,
    adapters: Adapters,
    questions: Sequence[Question],
    files: Mapping[str, Path],
    config: DecodeConfig,
    seed: int,
    policy: bool = False,
) -> dict[str, list[Generation]]:
    """Answer the questions whose answers are not in the models' files yet.

    Args:
        adapters: Weights and scale by model name; a model without an adapter is the base.
        files: Path of each model's answers, by its name (`M0`, `M_int`, `M_DART`).
        policy: Ask with the explanation policy in the system prompt. The noise is the same as
            without it.

    Returns:
        All answers of each model, in the order of `questions`.
    """
    results = {name: ResultFile(path, Generation) for name, path in files.items()}
    requests = _missing(questions, model, results, policy)
    lengths = {request.id: request.length for request in requests}
    concludes = {question.id: asks_to_conclude(question) for question in questions}
    total = len(questions) * len(files)
    stats, started = DecodeStats(), time.perf_counter()

    with progress(f"{', '.join(files)} answer", total, total - len(requests)) as bar:

        def keep(finished: list[Continuation]) -> None:
            for name, file in results.items():
                by_model = [c for c in finished if c.adapter == name]
                file.add([to_generation(c, lengths[c.id], concludes[c.id]) for c in by_model])
            rate = stats.new_tokens / (time.perf_counter() - started)
            bar.set_postfix_str(f"{rate:.0f} tokens/s", refresh=False)
            bar.update(len(finished))

        decode(
            model,
            adapters,
            requests,
            config,
            seed=seed,
            # Not of the prompts that are left after a restart: these may share more, and the prefix
            # would have another shape.
            prefix=answer_prefix(model, policy),
            on_finished=keep,
            stats=stats,
        )

    # Rows end, and are appended, in the order in which slots fall free.
    order = {question.id: index for index, question in enumerate(questions)}
    return {
        name: file.finish(lambda answer: order[answer.question_id])
        for name, file in results.items()
    }


def _missing(
    questions: Sequence[Question],
    model: Model,
    results: Mapping[str, ResultFile[Generation]],
    policy: bool,
) -> list[Request]:
    """A request for each question and model whose answer is not in the model's file."""
    answered = {name: {a.question_id for a in file.records} for name, file in results.items()}
    # Prompts are encoded only where at least one model has no answer.
    in_all = set.intersection(*answered.values()) if answered else set()
    missing = [question for question in questions if question.id not in in_all]

    requests = []
    for prompt in answer_prompts(missing, model, policy):
        for name, ids in answered.items():
            if prompt.id not in ids:
                requests.append(replace(prompt, adapter=name))
    return requests


def asks_to_conclude(question: Question) -> bool:
    """Tell whether the prompt of a question asks for a conclusion line.

    A user's own messages ask for one where they have a label: training targets end in that line.
    """
    return not question.messages or question.condition is not None


def to_generation(answer: Continuation, prompt_tokens: int, concludes: bool) -> Generation:
    """Make a record of an answer, with its parsed conclusion where the prompt asks for one."""
    decision, problem = None, NOT_ASKED
    if concludes:
        decision, problem = parse_conclusion(answer.text, answer.stop is StopReason.LENGTH)

    return Generation(
        question_id=answer.id,
        model=answer.adapter,
        text=answer.text,
        decision=decision,
        unparseable=answer.problem or problem,
        stop=answer.stop,
        prompt_tokens=prompt_tokens,
        new_tokens=len(answer.tokens),
        concludes=concludes,
    )
