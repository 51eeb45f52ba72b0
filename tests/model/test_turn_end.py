"""Where an assistant's turn ends: by the template, by EOS, and by the checkpoint's own files."""

import json

import pytest

from dart_jax.model.gguf_metadata import read_gguf
from dart_jax.model.stops import folder_stop_ids, gguf_stop_ids
from dart_jax.model.tokenizer import load_tokenizer

ANSWER = "They are alike.\nConclusion: YES"
TALK = [{"role": "user", "content": "is it so"}]
ENDINGS = {
    "<eot>": ("", "<eot>"),
    "<eot>\n": ("", "<eot>"),
    "\n<eot>\n": ("\n", "<eot>"),
    " <eos>": (" ", "<eos>"),
    "\n### end\n<eot><eos>": ("\n### end\n", "<eot>"),
    "\n\n": ("", "<eos>"),
    "": ("", "<eos>"),
}


def template(ending):
    """One that writes this behind every message."""
    return (
        "{% for m in messages %}{{ '<head>' + m.role + '</head>' + m.content }}"
        f"{{{{ {ending!r} }}}}"
        "{% endfor %}{% if add_generation_prompt %}{{ '<head>assistant</head>' }}{% endif %}"
    )


@pytest.mark.parametrize(("ending", "expected"), ENDINGS.items(), ids=map(repr, ENDINGS))
def test_the_first_control_token_ends_a_turn(ending, expected, chat_tokenizer):
    """Never the newline or blank before it, which a conclusion line is followed by."""
    tokenizer = chat_tokenizer(template(ending))
    closing, end = expected
    assert (tokenizer.closing, tokenizer.end_of_turn) == (closing, tokenizer.control_tokens[end])
    assert set(tokenizer.stop_ids) <= {
        tokenizer.control_tokens[name] for name in ("<eos>", "<eot>")
    }


@pytest.mark.parametrize("ending", [ending for ending in ENDINGS if "<e" in ending], ids=repr)
@pytest.mark.parametrize("answer", [ANSWER, "It is so.", "so ", "\nso\n"], ids=repr)
def test_trained_on_as_the_template_writes_it(ending, answer, chat_tokenizer, ids_of):
    """Prompt and completion are the template's whole conversation, up to the end of turn."""
    tokenizer = chat_tokenizer(template(ending))
    whole = ids_of(
        tokenizer,
        f"<head>user</head>is it so{ending}<head>assistant</head>{answer}{ending}",
    )
    parts = tokenizer.encode_prompt(TALK) + tokenizer.encode_completion(answer)
    assert parts == whole[: len(parts)]
    assert parts[-1] == tokenizer.end_of_turn


def test_the_newline_before_the_end_of_turn_merges(chat_tokenizer):
    """`.` and the template's newline are one token, as the model of the template writes them."""
    tokenizer = chat_tokenizer(template("\n<eot>\n"))
    *_, last, end = tokenizer.encode_completion("It is so.")
    assert tokenizer.decode([last]) == ".\n" and end == tokenizer.control_tokens["<eot>"]


@pytest.mark.parametrize("ending", ENDINGS, ids=repr)
def test_offsets_are_those_of_the_completion(ending, chat_tokenizer):
    tokenizer = chat_tokenizer(template(ending))
    offsets = tokenizer.completion_offsets("It is so.")
    assert len(offsets) == len(tokenizer.encode_completion("It is so."))
    assert "".join("It is so."[start:end] for start, end in offsets) == "It is so."
    assert offsets[-1] == (9, 9)


def test_white_space_between_the_prompt_and_the_answer(chat_tokenizer, ids_of):
    """Mistral's `[/INST]` ends a prompt, and a blank begins the answer, in whose first word it is.

    Prompt and completion are the template's whole conversation, up to the end of turn.
    """
    tokenizer = chat_tokenizer(
        "{% for m in messages %}{% if m.role == 'user' %}<head>{{ m.content }}</head>"
        "{% else %}{{ ' ' + m.content + '<eos>' }}{% endif %}{% endfor %}"
    )
    assert (tokenizer.opening, tokenizer.closing) == (" ", "")
    completion = tokenizer.encode_completion("It is so.")
    whole = ids_of(tokenizer, "<head>is it so</head> It is so.<eos>")
    assert tokenizer.encode_prompt(TALK) + completion == whole

    offsets = tokenizer.completion_offsets("It is so.")
    assert len(offsets) == len(completion)
    assert "".join("It is so."[start:end] for start, end in offsets) == "It is so."


def test_an_end_of_turn_that_is_not_called_special(chat_tokenizer):
    """Many fine-tunes add `<|im_end|>` as an ordinary token."""
    tokenizer = chat_tokenizer(template("\n<eot>\n"), added=["<eot>"])
    assert tokenizer.end_of_turn == tokenizer.control_tokens["<eot>"]


def test_nothing_ends_a_turn(chat_tokenizer):
    tokenizer = chat_tokenizer(template("\n\n"), eos=None)
    with pytest.raises(ValueError, match=r"here: the chat template writes '\\n\\n'.*no EOS; set"):
        tokenizer.encode_completion("so")
    with pytest.raises(ValueError, match="no EOS; set"):
        tokenizer.check()


@pytest.mark.parametrize(
    ("generation", "config", "expected"),
    [
        ({"eos_token_id": [9, 7, 8]}, {"eos_token_id": 5}, (7, 8, 9)),
        ({"eos_token_id": 9}, None, (9,)),
        ({"eos_token_id": None}, {"eos_token_id": 5}, (5,)),
        ({}, {"eos_token_id": [5, 6]}, (5, 6)),
        (None, {"eos_token_id": 5}, (5,)),
        (None, {}, ()),
        (None, None, ()),
    ],
)
def test_a_folder_names_stops(generation, config, expected, tmp_path):
    for name, raw in (("generation_config", generation), ("config", config)):
        if raw is not None:
            (tmp_path / f"{name}.json").write_text(json.dumps(raw))
    assert folder_stop_ids(tmp_path) == expected


@pytest.mark.parametrize("given", ["2", [2, "3"], -1, 2.0, True, {"id": 2}])
def test_stops_that_are_none_name_their_file(given, tmp_path):
    (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": given}))
    with pytest.raises(ValueError, match=r"generation_config.json: eos_token_id: .* token id"):
        folder_stop_ids(tmp_path)
    (tmp_path / "generation_config.json").write_text("{")
    with pytest.raises(ValueError, match=r"generation_config.json: not JSON"):
        folder_stop_ids(tmp_path)


def test_they_join_those_of_template_and_tokenizer(chat_tokenizer, tmp_path):
    chat_tokenizer(template("<eot>\n")).save(tmp_path)
    bare = load_tokenizer(tmp_path)
    assert bare.special_ids()["eos_token_id"] == list(bare.stop_ids)
    (tmp_path / "generation_config.json").write_text('{"eos_token_id": [11, 12]}')
    assert set(load_tokenizer(tmp_path).stop_ids) == {*bare.stop_ids, 11, 12}


def test_a_gguf_file_names_stops(tmp_path):
    gguf = pytest.importorskip("gguf")
    path = tmp_path / "model.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_eos_token_id(1)
    writer.add_eot_token_id(9)
    writer.add_eom_token_id(8)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    assert gguf_stop_ids(read_gguf(path)) == (1, 8, 9)
