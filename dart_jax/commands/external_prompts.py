"""Ask a run's models prompts beyond its own suite; answers are kept, the work resumes.

Each step below is a stage of the run's folder, `stages/<name>.json`, so that a second start does
nothing, a killed one goes on, and other models, decoding or prompts begin anew. They belong to no
training: `dart_jax.train` neither asks for them nor repeats them.
"""

from __future__ import annotations

import dataclasses
import hashlib
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

from dart_jax.audit.config import GUARD
from dart_jax.audit.grading import Ask, grade, likely_grades, replies_for
from dart_jax.changes import enumerated
from dart_jax.chat.local import LocalChat
from dart_jax.chat.protocol import Message
from dart_jax.commands.refresh_report import refresh_report
from dart_jax.generate.answers import to_generation
from dart_jax.generate.continuation import Continuation
from dart_jax.generate.decode import check_room, decode
from dart_jax.generate.plan import Request
from dart_jax.processes import on_primary, progress
from dart_jax.prompts.conclusion import RULE
from dart_jax.records import Generation, JudgeFailure, digest, read_jsonl
from dart_jax.run_dir import ResultFile, hash_path
from dart_jax.stages.auditing import judge_input
from dart_jax.stages.context import Run
from dart_jax.summaries import read_json

G = TypeVar("G")
P = TypeVar("P")
S = TypeVar("S")


def step(
    run: Run,
    name: str,
    inputs: Mapping[str, Any],
    outputs: Sequence[str],
    work: Callable[[], None],
    check: Callable[[], None] | None = None,
) -> None:
    """Do the work of a stage, unless it is up to date.

    Args:
        check: Raises, before anything is touched, for what `work` would refuse.
    """
    if on_primary(partial(run.folder.is_current, name, inputs)):
        print(f"{name}: up to date", flush=True)
        return

    reasons = on_primary(partial(run.folder.reasons, name, inputs))
    print(f"{name}: again, because {enumerated(reasons)}" if reasons else name, flush=True)
    if check is not None:
        check()

    run.stage = name
    started = time.perf_counter()
    with run.folder.stage(name, inputs, outputs, ()) as set_aside_in:
        if set_aside_in is not None:
            print(f"{name}: what it had left is in {set_aside_in} now", flush=True)
        work()
    print(f"{name}: {time.perf_counter() - started:.0f} s", flush=True)


def answers_of(
    run: Run, name: str, title: str, prompts: Mapping[str, tuple[Message, ...]]
) -> list[Generation]:
    """Answer prompts by one model, in their order; kept in `<title>/answers/<name>.jsonl`.

    The prompts are put as they are, and an answer ends where the model ends it. The noise is that
    of the run's seed and the prompt's id: two models see the same.

    Raises:
        FileNotFoundError: The run has no such adapter.
        PromptTooLong: No prompt leaves room for its answer.
    """
    adapter = run.adapter_path(name)
    if name != "M0" and not (adapter / "adapter_config.json").is_file():
        raise FileNotFoundError(f"{adapter}: the run has no model {name}; run its stages first")

    file = f"{title}/answers/{name}.jsonl"
    inputs = on_primary(
        lambda: {
            "run.seed": run.config.run.seed,
            **run.model_inputs(),
            "adapter": None if name == "M0" else hash_path(adapter),
            "decode": run.config.decode.identity(),
            "conclusion": RULE,
            "prompts": digest([[id, list(messages)] for id, messages in prompts.items()]),
        }
    )

    def check() -> None:
        check_room(_requests(run, name, prompts), run.model_of(name), run.decode.max_new_tokens)

    def work() -> None:
        _decode_missing(run, name, prompts, ResultFile(run.folder / file, Generation))

    step(run, f"{title.replace('/', '_')}_answers_{name}", inputs, (file,), work, check)
    return on_primary(lambda: read_jsonl(run.folder / file, Generation))


def _requests(run: Run, name: str, prompts: Mapping[str, tuple[Message, ...]]) -> list[Request]:
    encode = run.model_of(name).tokenizer.encode_prompt
    return [Request(id, tuple(encode(messages, row=id)), name) for id, messages in prompts.items()]


def _decode_missing(
    run: Run,
    name: str,
    prompts: Mapping[str, tuple[Message, ...]],
    file: ResultFile[Generation],
) -> None:
    done = {answer.question_id for answer in file.records}
    missing = {id: messages for id, messages in prompts.items() if id not in done}
    requests = _requests(run, name, missing)
    lengths = {request.id: request.length for request in requests}

    with progress(f"{name} answers", len(prompts), len(done)) as bar:

        def keep(found: list[Continuation]) -> None:
            file.add([to_generation(one, lengths[one.id], concludes=False) for one in found])
            bar.update(len(found))

        decode(
            run.model_of(name),
            {} if name == "M0" else {name: run.adapter(name)},
            requests,
            run.decode,
            seed=run.config.run.seed,
            on_finished=keep,
        )

    order = {id: index for index, id in enumerate(prompts)}
    file.finish(lambda answer: order[answer.question_id])


def grade_missing(
    run: Run,
    asks: Sequence[Ask[G]],
    file: ResultFile[G | JudgeFailure],
    key: Callable[[G], tuple[str, str]],
    schema: dict,
    correction: Callable[[str], Message],
    choices: Mapping[str, Sequence[str | bool]],
) -> list[G | JudgeFailure]:
    """Have the configured judge grade what the file holds no grade of; a failure is asked again.

    Args:
        key: Model and id of a grade.
        schema, correction: As of `audit.grading.grade`.
        choices: Keys of the grades in a reply and their values, for a local judge.

    Returns:
        One grade or failure for each of `asks`, in their order.
    """

    def key_of(item: G | JudgeFailure) -> tuple[str, str]:
        return (item.candidate, item.question_id) if isinstance(item, JudgeFailure) else key(item)

    file.records = [item for item in file.records if not isinstance(item, JudgeFailure)]
    done = set(map(key_of, file.records))
    missing = [ask for ask in asks if (ask.model, ask.id) not in done]

    config = run.config.judge
    if config.provider == GUARD:
        raise ValueError(
            "judge.provider guard tells safe from unsafe and grades nothing else; set it to local, "
            "openai or deepseek for these answers"
        )
    with progress("graded", len(asks), len(done)) as bar:

        def keep(item: G | JudgeFailure) -> None:
            file.add([item])
            bar.update()

        if config.provider == "local":
            model = run.model_at(config.model)
            score = LocalChat(model, run.decode, run.config.run.seed).score
            likely_grades(missing, replies_for(choices), score, f"local:{model.name}", keep)
        else:

            def ask_service() -> None:
                with run.service("judge") as chat:
                    grade(missing, chat, config, schema, correction, keep)

            on_primary(ask_service)

    order = {(ask.model, ask.id): index for index, ask in enumerate(asks)}
    return file.finish(lambda item: order[key_of(item)])


def grading_inputs(run: Run) -> dict[str, Any]:
    """Collect what a grade depends on besides the answer: the judge and its prompts' wording."""
    return {"judge": judge_input(run), "prompts": run.common_inputs()["prompts"]}


def spread(items: Sequence[P], most: int | None, part: Callable[[P], str], seed: int) -> list[P]:
    """Take at most so many items, as even over their parts as can be, in the order given.

    Which ones is decided by SHA-256 of seed, part and place: the same on every machine.
    """
    if most is None or most >= len(items):
        return list(items)
    places: dict[str, list[int]] = defaultdict(list)
    for index, item in enumerate(items):
        places[part(item)].append(index)
    ranked = []
    for name, own in places.items():
        own.sort(key=lambda index: hashlib.sha256(f"{seed} {name} {index}".encode()).digest())
        ranked += [(rank, index) for rank, index in enumerate(own)]
    # By rank first: no part gives a second item before all have given one.
    chosen = sorted(index for _, index in sorted(ranked)[:most])
    return [items[index] for index in chosen]


def adapter_hashes(run: Run, names: Sequence[str]) -> dict[str, str | None]:
    """Name the models, so that the report can tell when its run has others."""
    return {name: hash_path(run.adapter_path(name)) for name in names}


def measured_inputs(
    run: Run, candidates: Sequence[str], answers: Mapping[str, Sequence[Any]]
) -> dict[str, Any]:
    """Collect what figures of answers depend on, the questions aside; for the first process.

    Args:
        candidates: Models beside M0.
        answers: Of M0 and the candidates.
    """
    return {
        "run.seed": run.config.run.seed,
        "adapters": adapter_hashes(run, candidates),
        "answers": {name: identity_of(found) for name, found in answers.items()},
        "evaluate": run.config.evaluate.identity(),
    }


def reported(run: Run, file: str, kind: type[S]) -> S:
    """Write the run's report again, and read the summary that is in it now."""
    on_primary(lambda: refresh_report(run.folder))
    return on_primary(lambda: read_json(run.folder / file, kind))


def plain(text: str) -> tuple[Message, ...]:
    """Make a text a user's message."""
    return ({"role": "user", "content": text},)


def identity_of(items: Sequence[Any]) -> str:
    """Hash some records."""
    return digest([dataclasses.asdict(item) for item in items])
