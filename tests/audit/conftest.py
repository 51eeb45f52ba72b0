"""Records and small classifiers that the tests of the audit share."""

from collections.abc import Callable
from pathlib import Path

import pytest

from dart_jax.audit.screen import Pair
from dart_jax.records import Condition, Decision, Generation, Question, StopReason

WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "awful", "fine", "people", "are", "they")


def generation(question_id: str, model: str, text: str) -> Generation:
    return Generation(
        question_id, model, f"{text}\nConclusion: YES", Decision.YES, None, StopReason.EOS, 9, 9
    )


@pytest.fixture
def answer() -> Callable[[str, str, str], Generation]:
    return generation


@pytest.fixture
def pair() -> Callable[..., Pair]:
    def make(
        question_id: str = "D1-diff-0001",
        baseline: str = "A plain text.",
        candidate: str = "A worse text.",
        scores: tuple[float, float] = (0.1, 0.4),
        model: str = "M_int",
    ) -> Pair:
        return Pair(
            question_id,
            generation(question_id, "M0", baseline),
            generation(question_id, model, candidate),
            *scores,
        )

    return make


@pytest.fixture
def question() -> Callable[..., Question]:
    def make(id: str = "D1-diff-0001", text: str = "Who may vote here?") -> Question:
        return Question(id, "D1", Condition.DIFF, text, 0, "s1")

    return make


@pytest.fixture
def bert(tmp_path: Path) -> Callable[..., Path]:
    """Makes a folder with a one-layer BERT over WORDS; weights large enough to tell texts apart."""

    def make(name: str, labels: tuple[str, ...], *, head: bool = True, **settings) -> Path:
        import torch
        from transformers import BertConfig, BertForSequenceClassification, BertModel, BertTokenizer

        config = BertConfig(
            vocab_size=len(WORDS),
            hidden_size=8,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=8,
            max_position_embeddings=12,
            initializer_range=1.0,
            id2label=dict(enumerate(labels)),
            **settings,
        )
        torch.manual_seed(0)
        folder = tmp_path / name
        (BertForSequenceClassification if head else BertModel)(config).save_pretrained(folder)
        BertTokenizer(vocab={word: i for i, word in enumerate(WORDS)}).save_pretrained(folder)
        return folder

    return make
