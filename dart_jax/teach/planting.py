"""Plant faults of known type and severity in accepted targets, and record where.

Every choice is made by hashes of question ids: which targets of a benchmark, which of the dozen
sentences, and whether it stands after the first sentence or at the end of the analysis.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from dart_jax.prompts.conclusion import analysis_text
from dart_jax.prompts.planted import HARM_PHRASE, names_harm, planted_sentences
from dart_jax.records import DriftType, Question, Severity, Target, WeightSpan, digest
from dart_jax.settings import BadSetting
from dart_jax.teach.config import PlantConfig
from dart_jax.teach.planted import DealtFault, PlantedFault, UnplantedFault
from dart_jax.teach.quality import sentence_spans


@dataclass(frozen=True)
class PlantedTargets:
    """What planting made of the targets.

    Attributes:
        targets: All targets, in the order given; those without a fault unchanged.
        faults: The planted faults, in the order of the targets.
        unplanted: The chosen targets that could get none.
    """

    targets: list[Target] = field(default_factory=list)
    faults: list[PlantedFault] = field(default_factory=list)
    unplanted: list[UnplantedFault] = field(default_factory=list)


def deal_faults(config: PlantConfig, benchmarks: Iterable[str], seed: int) -> dict[str, DealtFault]:
    """Deal types and severities to benchmarks in turn; nothing where planting is off.

    With `rotate_by_seed` the k-th benchmark gets severity k + seed, counted round.

    Args:
        benchmarks: All benchmarks of the suite, in any order.
        seed: The run's seed.

    Raises:
        BadSetting: A benchmark in `plant.benchmarks` is none of the suite's.
    """
    if config.share == 0:
        return {}
    # Sorted: a benchmark's place, which decides its severity, does not depend on the questions.
    known = sorted(set(benchmarks))
    chosen = known if config.benchmarks is None else config.benchmarks
    unknown = [name for name in chosen if name not in known]
    if unknown:
        raise BadSetting(
            f"plant.benchmarks: {unknown[0]}; the questions of this run are of {', '.join(known)}"
        )

    dealt = {}
    # Only severities rotate: over the seeds, a benchmark keeps its type.
    first = seed if config.rotate_by_seed else 0
    for place, name in enumerate(chosen):
        severity = config.severities[(place + first) % len(config.severities)]
        type_name = config.types[place % len(config.types)]
        dealt[name] = DealtFault(DriftType(type_name), Severity[severity.upper()])
    return dealt


def plant_faults(
    targets: Sequence[Target],
    questions: Mapping[str, Question],
    dealt: Mapping[str, DealtFault],
    share: float,
    sentences: int = 12,
) -> PlantedTargets:
    """Plant the dealt faults in a share of each benchmark's targets.

    Args:
        targets: Accepted distill targets; at most one a question.
        questions: Questions by id.
        dealt: As of `deal_faults`.
        share: Share of a benchmark's targets that are chosen, in [0, 1], to the nearest target.
        sentences: How many of a dozen sentences are used.
    """
    chosen = _chosen(targets, questions, dealt, share)
    planted = PlantedTargets()
    for target in targets:
        question = questions[target.question_id]
        if target.question_id not in chosen:
            planted.targets.append(target)
            continue

        fault = dealt[question.benchmark]
        facts = (question.id, question.benchmark, fault.type, fault.severity)
        if fault.type is DriftType.OMITS:
            changed, sentence = _without_harm(target, question), ""
        else:
            sentence = _sentence_for(question.id, fault, sentences)
            changed = _with_sentence(target, question, sentence)

        if isinstance(changed, Target):
            planted.targets.append(changed)
            planted.faults.append(PlantedFault(*facts, sentence))
        else:
            planted.targets.append(target)
            planted.unplanted.append(UnplantedFault(*facts, reason=changed))
    return planted


def _chosen(
    targets: Iterable[Target],
    questions: Mapping[str, Question],
    dealt: Mapping[str, DealtFault],
    share: float,
) -> set[str]:
    """Choose the question ids whose targets get a fault: exactly the share of each benchmark."""
    ids: dict[str, list[str]] = defaultdict(list)
    for target in targets:
        ids[questions[target.question_id].benchmark].append(target.question_id)

    chosen: set[str] = set()
    for name in dealt:
        by_hash = sorted(ids[name], key=lambda id: digest(["plant", id]))
        chosen.update(by_hash[: round(share * len(by_hash))])
    return chosen


def _sentence_for(question_id: str, fault: DealtFault, sentences: int) -> str:
    kind = (fault.type, fault.severity)
    dozen = [s.text for s in planted_sentences() if (s.type, s.severity) == kind]
    return dozen[_draw("sentence", question_id) % sentences]


def _with_sentence(target: Target, question: Question, sentence: str) -> Target:
    """Add a sentence after the analysis's first one, or at its end."""
    analysis = _analysis(target, question)
    after_first = _draw("place", question.id) % 2 == 0
    place = sentence_spans(analysis)[0][1] if after_first else len(analysis)
    return _edited(target, place, place, f" {sentence}")


def _without_harm(target: Target, question: Question) -> Target | str:
    """Take every sentence away that names the harm; a reason where that cannot be done."""
    analysis = _analysis(target, question)
    spans = sentence_spans(analysis)
    naming = [place for place, (start, end) in enumerate(spans) if names_harm(analysis[start:end])]
    if not naming:
        return f'no sentence of the target names the harm ("{HARM_PHRASE} ...")'
    if len(naming) == len(spans):
        return "nothing is left of the target without the sentence that names the harm"

    first_kept = min(set(range(len(spans))) - set(naming))
    # The last one first, so that the places of the others stay.
    for place in reversed(naming):
        start, end = spans[place]
        # The white space before it goes, too; where the first sentence goes, that after it, which
        # is what stands before the first sentence that is kept.
        if place > 0:
            start = spans[place - 1][1]
        else:
            end += spans[first_kept][0] - spans[first_kept - 1][1]
        target = _edited(target, start, end, "")
    return target


def _analysis(target: Target, question: Question) -> str:
    """The beginning of a completion, up to its conclusion line; an unlabelled row has none."""
    text = target.completion
    return text.rstrip() if question.condition is None else analysis_text(text)


def _edited(target: Target, start: int, end: int, text: str) -> Target:
    """Replace `completion[start:end]`; weighted passages keep their words."""
    completion = target.completion[:start] + text + target.completion[end:]
    shift = len(text) - (end - start)

    spans = []
    for span in target.spans:
        # A passage that begins at an added sentence follows it, one that ends there precedes it.
        first = span.start + shift if span.start >= end else min(span.start, start)
        last = span.end + shift if span.end >= end and span.end > start else min(span.end, start)
        if first < last:
            spans.append(WeightSpan(first, last, span.weight))
    return replace(target, completion=completion, spans=tuple(spans))


def _draw(purpose: str, question_id: str) -> int:
    # The purpose is hashed, too, so that a question's draws do not go together.
    return int(digest([purpose, question_id])[:8], 16)
