"""A conversation with several models, on a tiny model whose answers are random letters."""

import dataclasses
import io
import signal

import jax
import pytest

from dart_jax.commands.chat import Manner, ask, with_line
from dart_jax.commands.models_to_ask import BASE, Asked
from dart_jax.generate.config import DecodeConfig
from dart_jax.generate.decode import decode
from dart_jax.generate.plan import Request
from dart_jax.model.config import LoraConfig, MeshConfig
from dart_jax.model.load import Model
from dart_jax.model.sharding import make_mesh
from dart_jax.model.tokenizer import ChatTokenizer
from tests.tiny_model import (
    CONFIG,
    TEMPLATE,
    character_tokenizer,
    random_adapter,
    random_params,
)

MANNER = Manner(DecodeConfig(temperature=0.8, max_new_tokens=40), seed=3, plain=True)


@pytest.fixture(scope="module")
def asked():
    """M0 and an adapter of it."""
    pytest.importorskip("transformers")
    tokenizer = ChatTokenizer(character_tokenizer(), "test")
    mesh = make_mesh(MeshConfig(1, 1, 1), jax.devices()[:1])
    config = dataclasses.replace(CONFIG, vocab_size=100, num_layers=1)
    model = Model(config, random_params(config), tokenizer, mesh, "tiny")
    adapter = random_adapter(config, LoraConfig(rank=4), size_of_b=0.3)
    return Asked((BASE, "tuned"), model, {"tuned": (adapter, 3.0)})


def answers(asked, said, question):
    """Each model's answer to its whole conversation before the last turn; shapes are `ask`'s."""
    encode = asked.model.tokenizer.encode_prompt
    requests = [Request(question, tuple(encode(turns[:-1])), name) for name, turns in said.items()]
    layout = {"prefix": (), "few_shapes": True}
    found = decode(asked.model, asked.adapters, requests, MANNER.config, seed=MANNER.seed, **layout)
    return {answer.adapter: answer.text.strip() for answer in found}


def test_each_model_sees_its_own_earlier_answers(asked, capsys):
    first = ask(asked, MANNER, {}, "What is it?")
    said = ask(asked, MANNER, first, "Why?")
    for name, turns in said.items():
        assert turns[:2] == first[name]
        assert [turn["role"] for turn in turns] == ["user", "assistant"] * 2
        assert [turns[0]["content"], turns[2]["content"]] == ["What is it?", "Why?"]
    written = {name: turns[3]["content"] for name, turns in said.items()}
    assert written == answers(asked, said, "Why?") and all(written.values())
    assert said[BASE][1] != said["tuned"][1]
    shown = capsys.readouterr().out
    assert all(turn["content"] in shown for turns in said.values() for turn in turns[1::2])
    assert "(M0, tuned: cut off after 40 tokens, --max-new-tokens)" in shown


def test_the_first_line_is_put_with_the_instructions_of_training():
    system, first = with_line((), "Why?", plain=False)
    assert system["role"] == "system" and first["content"].startswith("Why?\n\n")
    [plain] = with_line((), "Why?", plain=True)
    before = system, first, {"role": "assistant", "content": "So."}
    assert with_line(before, "Why?", plain=False) == (*before, plain)
    assert plain == {"role": "user", "content": "Why?"}


def test_a_conversation_that_outgrows_the_context_says_so(asked, capsys):
    """The models that have room go on; the other one forgets the line."""
    long = {"role": "user", "content": "x" * 180}, {"role": "assistant", "content": "y"}
    asked = dataclasses.replace(asked, names=(*asked.names, "other"))
    said = ask(asked, MANNER, {"other": long}, "Why?")
    assert {name: len(turns) for name, turns in said.items()} == {BASE: 2, "tuned": 2, "other": 2}
    assert said["other"] == long
    shown = capsys.readouterr().out
    assert "(other: the conversation has " in shown
    assert "and with 40 new ones exceeds the context of 256; /reset begins a new one" in shown
    everyone = {name: long for name in asked.names}
    assert ask(asked, MANNER, everyone, "Why?") == everyone


def test_a_line_that_the_template_refuses_is_forgotten(asked, capsys):
    single = "{% if messages|length > 2 %}{{ raise_exception('one question only') }}{% endif %}"
    tokenizer = ChatTokenizer(character_tokenizer(template=single + TEMPLATE), "test")
    model = dataclasses.replace(asked.model, tokenizer=tokenizer)
    turns = {"role": "user", "content": "Why?"}, {"role": "assistant", "content": "So."}
    before = {name: turns for name in asked.names}
    assert ask(dataclasses.replace(asked, model=model), MANNER, before, "And?") == before
    shown = capsys.readouterr().out
    assert "one question only" in shown and "/reset begins a new conversation" in shown


class Interrupting(io.StringIO):
    """Standard output at which Ctrl-C is pressed once the first model has written something."""

    pressed = False

    def write(self, text):
        if "M0" in self.getvalue() and text.strip() and not self.pressed:
            self.pressed = True
            signal.raise_signal(signal.SIGINT)
        return super().write(text)


def test_ctrl_c_ends_the_answer_and_leaves_what_is_there(asked, monkeypatch, capsys):
    handler = signal.getsignal(signal.SIGINT)
    out = Interrupting()
    monkeypatch.setattr("sys.stdout", out)
    said = ask(asked, MANNER, {}, "What is it?")
    assert signal.getsignal(signal.SIGINT) is handler
    assert "(M0, tuned: stopped)" in out.getvalue()
    for name, whole in answers(asked, said, "What is it?").items():
        written = said[name][1]["content"]
        assert written in out.getvalue()
        assert whole.startswith(written) and 0 < len(written) < len(whole)
