"""The configured teacher and judge, ready to use."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial

from dart_jax.audit.config import GUARD
from dart_jax.audit.judge import judge_pairs
from dart_jax.audit.judge_guard import judge_by_guard
from dart_jax.audit.judge_local import LocalJudge
from dart_jax.audit.scorer_protocol import score_texts
from dart_jax.audit.screen import Pair
from dart_jax.chat.local import LocalChat
from dart_jax.chat.protocol import ChatFailure, ChatModel, ChatReply, ChatRequest
from dart_jax.data.mini_suite import file_rationales, file_safer
from dart_jax.data.suites import custom_items
from dart_jax.processes import on_primary
from dart_jax.prompts.conclusion import analysis_text
from dart_jax.records import Outcome, PredictedLabel, Question
from dart_jax.stages.context import Run
from dart_jax.teach.from_file import file_targets
from dart_jax.teach.labels import ask_labels, likely_labels
from dart_jax.teach.quality import Violation
from dart_jax.teach.rules import rule_targets
from dart_jax.teach.safer import guard_pair, guard_violation, judged_violation, repair_pair
from dart_jax.teach.writer import Proposal, TargetRequest, TargetResult, write_targets


def make_targets(
    run: Run,
    requests: Sequence[TargetRequest],
    on_results: Callable[[Sequence[TargetResult]], None],
) -> None:
    """Have the configured teacher write the targets; they go to `on_results` when decided.

    Those by rule or from a file come all at once, others one at a time. An unlabelled question's
    own completion is its target, whoever the teacher is. A local teacher decodes in every process;
    a service is asked, and `on_results` called, in the first one only.
    """
    config = run.config.teacher
    checks = {"is_safer": partial(is_safer, run), "judge": partial(judge_repairs, run)}
    own = [r for r in requests if config.provider == "file" or r.question.condition is None]
    if own:
        texts = own_texts(run, own[0].stage)
        on_results(file_targets(own, texts, **checks))
        requests = [r for r in requests if r.question.condition is not None]

    if config.provider == "rules":
        on_results(rule_targets(requests, **checks))
        return
    # Without requests no model is loaded, and no service opened.
    if config.provider == "file" or not requests:
        return

    def on_result(result: TargetResult) -> None:
        on_results([result])

    if config.provider == "local":
        chat = LocalChat(run.model_at(config.model), run.decode, run.config.run.seed)
        write_targets(
            requests,
            chat,
            config,
            # Local models may be too small to write the line unasked.
            force_conclusion=True,
            on_result=on_result,
            **checks,
        )
    elif any(request.is_judged for request in requests):
        # In every process, since the judge that is asked between two rounds may be a local model.
        with _shared_service(run, "teacher") as chat:
            write_targets(requests, chat, config, on_result=on_result, **checks)
    else:

        def ask() -> None:
            with run.service("teacher") as chat:
                write_targets(requests, chat, config, on_result=on_result, **checks)

        on_primary(ask)


def own_texts(run: Run, stage: str) -> dict[str, str]:
    """The suite's own rationales for a stage, by question id."""
    if run.config.data.suite not in ("jsonl", "hub"):
        return file_rationales() if stage == "distill" else file_safer()
    if stage == "repair":
        return {}
    items = custom_items(run.config.data)
    return {item.question.id: item.rationale for item in items if item.rationale is not None}


def predict_labels(
    run: Run, questions: Sequence[Question], on_result: Callable[[PredictedLabel], None]
) -> None:
    """Have the configured teacher label the questions; in which processes as `make_targets`."""
    config = run.config.teacher
    if config.provider == "local":
        chat = LocalChat(run.model_at(config.model), run.decode, run.config.run.seed)
        likely_labels(questions, chat.score, chat.name, on_result)
    else:

        def ask() -> None:
            with run.service("teacher") as chat:
                ask_labels(questions, chat, config, on_result)

        on_primary(ask)


def is_safer(run: Run, request: TargetRequest, target: str) -> bool:
    """Tell whether the audit's scorer rates a target's analysis lower than the drifted one's."""
    analysis, drifted = analysis_text(target), analysis_text(request.drifted)
    # An empty analysis scores 0 unasked, as it does in the audit.
    texts = [text for text in (analysis, drifted) if text]
    questions = [request.question.text] * len(texts)
    scores = on_primary(lambda: score_texts(run.scorer, texts, questions))
    value = {"": 0.0}
    for text, (score, _) in zip(texts, scores, strict=True):
        value[text] = score
    return value[analysis] < value[drifted]


def judge_repairs(run: Run, proposals: Sequence[Proposal]) -> list[Violation | None]:
    """Have the configured judge compare repairs with the rationales that they repair.

    Every process gets the answers. A service's are in the run's store, so that no start asks twice.
    """
    is_guard = run.config.judge.provider == GUARD
    paired, read = (guard_pair, guard_violation) if is_guard else (repair_pair, judged_violation)
    pairs, questions = [], {}
    for number, (request, completion) in enumerate(proposals):
        id = request.question.id
        pairs.append(paired(number, id, request.drifted, completion))
        questions[id] = request.question

    outcomes: dict[str, Outcome] = {}

    def keep(outcome: Outcome) -> None:
        outcomes[outcome.candidate] = outcome

    judge(run, pairs, questions, keep)
    # A service was asked by the first process alone.
    decided = on_primary(lambda: outcomes)
    return [read(decided[pair.candidate.model]) for pair in pairs]


class _SharedChat:
    """A service that the first process asks, and whose answers every process gets."""

    def __init__(self, chat: ChatModel | None, name: str) -> None:
        self._chat = chat
        self.name = name

    def complete(
        self,
        requests: Sequence[ChatRequest],
        on_result: Callable[[ChatReply | ChatFailure], None],
    ) -> None:
        """Ask the requests; the answers come when all are there."""

        def ask() -> list[ChatReply | ChatFailure]:
            answers: list[ChatReply | ChatFailure] = []
            self._chat.complete(requests, answers.append)
            return answers

        for answer in on_primary(ask):
            on_result(answer)


@contextmanager
def _shared_service(run: Run, role: str) -> Iterator[_SharedChat]:
    """Open a service in the first process, for answers that all processes need."""
    with ExitStack() as held:
        opened: list[ChatModel] = []

        def open_it() -> str:
            opened.append(held.enter_context(run.service(role)))
            return opened[0].name

        name = on_primary(open_it)
        yield _SharedChat(opened[0] if opened else None, name)


def judge(
    run: Run,
    pairs: Sequence[Pair],
    questions: Mapping[str, Question],
    on_result: Callable[[Outcome], None],
    role: str = "judge",
) -> None:
    """Have the judge of a role decide on pairs; in which processes as `make_targets`."""
    config = run.config.service(role)
    if config.provider == "local":
        model = run.model_at(config.model)
        chat = LocalChat(model, run.decode, run.config.run.seed)
        LocalJudge(chat.score, model.name).judge_pairs(pairs, questions, on_result)
    elif config.provider == GUARD:
        bins = run.config.audit.severity_bins
        on_primary(lambda: judge_by_guard(pairs, questions, run.guard, bins, on_result))
    else:

        def ask() -> None:
            with run.service(role) as chat:
                judge_pairs(pairs, questions, chat, config, on_result)

        on_primary(ask)
