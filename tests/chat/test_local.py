"""The local model behind the chat protocol: one outcome for each request, in their order."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dart_jax.chat.local import LocalChat
from dart_jax.chat.protocol import BAD_PROMPT, ChatFailure, ChatReply, ChatRequest
from dart_jax.generate.config import DecodeConfig
from dart_jax.model.config import MeshConfig
from dart_jax.model.load import Model
from dart_jax.model.sharding import make_mesh
from dart_jax.model.tokenizer import ChatTokenizer
from tests import tiny_model
from tests.tiny_model import character_tokenizer, character_vocabulary, random_params

TOKENS = character_vocabulary()
CONFIG = dataclasses.replace(
    tiny_model.CONFIG, vocab_size=len(TOKENS), num_layers=1, context_length=80
)
DECODE = DecodeConfig(top_p=0.95, slots=2)


@pytest.fixture(scope="module")
def model() -> Model:
    """Random weights over single characters."""
    pytest.importorskip("transformers")
    tokenizer = ChatTokenizer(character_tokenizer(), "test")
    mesh = make_mesh(MeshConfig(1, 1, 1), jax.devices()[:1])
    return Model(CONFIG, random_params(CONFIG), tokenizer, mesh, "tiny")


@pytest.fixture(scope="module")
def chat(model) -> LocalChat:
    return LocalChat(model, DECODE, seed=3)


def request(id: str, content: str = "say something", **settings) -> ChatRequest:
    settings = {"temperature": 0.8, "max_tokens": 12, "may_be_cut": True} | settings
    return ChatRequest(id, ({"role": "user", "content": content},), **settings)


REQUESTS = [  # of random weights; what they write has no end
    request("long", "x" * 70),
    request("b", "a longer question than the others"),
    request("greedy", temperature=0.0, max_tokens=5),
    request("schema", json_schema={"type": "object"}),
    request("a"),
    request("c"),
]


@pytest.fixture(scope="module")
def outcomes(chat):
    """What `complete` returned, and what `on_result` saw."""
    seen = []
    return chat.complete(REQUESTS, seen.append), seen


def test_one_outcome_a_request_in_their_order(outcomes):
    results, seen = outcomes
    assert [result.id for result in results] == [request.id for request in REQUESTS]
    assert sorted(result.id for result in seen) == sorted(request.id for request in REQUESTS)
    assert all(result in results for result in seen)


def test_replies(outcomes, model):
    replies = {result.id: result for result in outcomes[0] if isinstance(result, ChatReply)}
    assert set(replies) == {"a", "b", "c", "greedy"}
    limits = {request.id: request for request in REQUESTS}
    for id, reply in replies.items():
        assert reply.text and 0 < reply.completion_tokens <= limits[id].max_tokens
        prompt = model.tokenizer.encode_prompt(limits[id].messages)
        assert reply.prompt_tokens == len(prompt)
    assert replies["a"].text != replies["c"].text  # the noise is the request's own
    assert not replies["a"].text.startswith(replies["greedy"].text)


def test_failures_say_why(outcomes):
    failures = {result.id: result for result in outcomes[0] if isinstance(result, ChatFailure)}
    assert set(failures) == {"long", "schema"}
    assert "long: a prompt of" in failures["long"].reason
    assert "context of 80" in failures["long"].reason
    assert "JSON schema" in failures["schema"].reason


def test_a_reply_does_not_depend_on_the_other_requests(outcomes, chat):
    asked = {request.id: request for request in REQUESTS}
    for result in outcomes[0][1:3]:
        assert chat.complete([asked[result.id]]) == [result]
    assert chat.complete([]) == []


def test_an_empty_completion_is_a_failure(model):
    """A head that always ends the turn: nothing was said, which is no answer."""
    params = jax.tree.map(jnp.zeros_like, model.base_params)
    params |= {"embed": jnp.ones_like(params["embed"]), "final_norm": jnp.ones(CONFIG.embed_dim)}
    params["head"] = params["head"].at[:, TOKENS.index("<eot>")].set(1.0)
    silent = LocalChat(dataclasses.replace(model, base_params=params), DECODE, seed=0)
    [result] = silent.complete([request("q")])
    assert result == ChatFailure("q", "empty completion")


def test_an_answer_that_is_cut_off_is_of_use_to_those_who_say_so(chat, outcomes):
    whole = {result.id: result for result in outcomes[0]}["a"]
    assert chat.complete([request("a", may_be_cut=False)]) == [
        ChatFailure("a", "cut off at max_tokens 12; raise it")
    ]
    assert whole.completion_tokens == 12


def test_a_prompt_that_is_not_unicode_is_a_failure(chat):
    bad, good = chat.complete([request("bad", "a\ud800"), request("good")])
    assert bad == ChatFailure("bad", BAD_PROMPT) and isinstance(good, ChatReply)


def test_scores_are_whole_answers(chat, model):
    """With the end of the turn: a prefix of another answer is scored as an answer of its own."""
    prompts = [({"role": "user", "content": text},) for text in ("hello", "x" * 75, "is it so")]
    scores = chat.score(prompts, ["No", "No drift", "Elaborates"])
    assert scores.shape == (3, 3) and scores.dtype == np.float64
    assert np.isnan(scores[1]).all()
    assert np.isfinite(scores[[0, 2]]).all() and (scores[[0, 2]] < 0).all()
    end = model.tokenizer.end_of_turn
    assert model.tokenizer.encode_completion("No")[-1] == end
    np.testing.assert_allclose(chat.score(prompts[:1], ["No"])[0, 0], scores[0, 0], atol=1e-4)


def test_name(chat):
    assert chat.name == "local:tiny"
