"""A team's own questions are read strictly, from a file or a data set, and can be split."""

import json

import pytest

from dart_jax.data.config import DataConfig
from dart_jax.data.custom_dataset import CustomItem, load_file, load_hub
from dart_jax.data.splits import make_splits
from dart_jax.data.suites import custom_items, load_suite
from dart_jax.records import BadRecord, Condition, Question, Turn, WeightSpan

PLAIN = {"id": "a", "question": "May we?", "label": "NO"}
FULL = {
    "id": "b",
    "question": "Must we?",
    "label": "YES",
    "completion": "The law says so. It has for years.\nConclusion: YES",
    "weight": 2.5,
    "benchmark": "leave",
    "scenario": "parents",
}
TURN = {"role": "user", "content": "Hello?"}
ANSWER = {"role": "assistant", "content": "Yes?"}
CHAT = {
    "id": "c",
    "messages": [{"role": "system", "content": "Be brief."}, TURN, ANSWER, TURN],
    "completion": " Yes, I am here.\n",
    "token_weights": [1, 2, 1, 0],
}


def written(tmp_path, *rows):
    path = tmp_path / "own.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_rows_become_questions_with_what_stands_beside_them(tmp_path):
    plain, full = load_file(written(tmp_path, PLAIN, FULL))
    assert plain == CustomItem(Question("a", "own", Condition.EQUAL, "May we?", -1, "a"), None, 1.0)
    assert full.question == Question("b", "leave", Condition.DIFF, "Must we?", -1, "parents")
    assert (full.rationale, full.weight) == ("The law says so. It has for years.", 2.5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"label": "maybe"}, r":2: label"),
        ({"question": " "}, r":2: .*question is empty"),
        ({"weight": 0.0}, r":2: .*weight: 0.0; give a number from 1e-06"),
        ({"weight": 1e-50}, r":2: .*weight: 1e-50, which is 0 in float32; give a number"),
        ({"weight": 1e40}, r":2: .*weight: 1e\+40, which is infinite in float32; give a number"),
        ({"weight": float("inf")}, r":2: "),
        ({"token_weights": [1]}, r":2: .*token_weights without a completion"),
        ({"token_weights": ["1"]}, r":2: token_weights\.0"),
        ({"token_weights": [{"txt": "So", "weight": 1}]}, r":2: token_weights\.0\.passage\.txt"),
        ({"completion": "So is it.", "token_weights": [1]}, r":2: .*1 numbers, .* has 3 words"),
        ({"completion": " "}, r":2: .*completion is empty"),
        ({"question": None}, r":2: .*either question or messages"),
        ({"messages": [TURN]}, r":2: .*either question or messages"),
        ({"question": None, "messages": []}, r":2: .*messages: there is no text"),
        ({"question": None, "messages": [TURN | {"role": "me"}]}, r":2: messages\.0\.role"),
        ({"question": None, "messages": [TURN | {"name": "x"}]}, r":2: messages\.0\.name"),
        ({"question": None, "messages": [ANSWER]}, r":2: .*messages: there is no text before"),
        (
            {"question": None, "messages": [TURN, ANSWER], "completion": "No."},
            r":2: .*messages end with the assistant's turn, and there is a completion",
        ),
        ({"question": None, "messages": [TURN, ANSWER, ANSWER]}, r":2: .*messages: it ends with"),
        (
            {"question": None, "messages": [TURN, ANSWER | {"content": " "}]},
            r":2: .*completion is empty",
        ),
        ({"question": None, "prompt": " "}, r":2: .*prompt is empty"),
        ({"question": None, "prompt": [TURN, ANSWER]}, r":2: .*prompt: it ends with the assistant"),
        ({"question": None, "prompt": [TURN | {"role": "me"}]}, r":2: prompt\.messages\.0\.role"),
        ({"question": None, "prompt": 3}, r":2: prompt\."),
        ({"prompt": "Hello?"}, r":2: .*give either question or messages or prompt"),
        ({"completion": [TURN]}, r":2: .*completion: give a text, or one turn of the assistant"),
        ({"completion": []}, r":2: .*completion: give a text, or one turn"),
        ({"response": "So."}, r":2: response: no key of ours; rename it to completion"),
        ({"instruction": "Say so."}, r":2: instruction: no key of ours; rename it to prompt"),
        ({"input": ""}, r":2: input: .*after the instruction"),
        ({"output": "So."}, r":2: output: .*rename it to completion"),
        ({"conversations": []}, r":2: conversations: .*rename it to messages"),
        ({"chosen": "So."}, r":2: chosen: .*preference pairs"),
        ({"text": "So."}, r":2: text: .*split it into prompt and completion"),
        ({"remark": "So."}, r":2: remark: "),
        ({"completion": "So.\nConclusion: YES"}, r":2: .*concludes YES, but label is NO"),
        ({"completion": "So.\nConclusion: perhaps"}, r":2: .*without YES or NO"),
        ({"completion": "Conclusion: NO"}, r":2: .*no text before"),
        ({"completion": "So.\nConclusion: NO\nAnd so on."}, r":2: .*end it with its one conclus"),
        ({"completion": "So.\nConclusion: NO\nConclusion: YES"}, r":2: .*contradictory"),
        ({"completion": "<think>So?</think>So.\nConclusion: NO"}, r":2: .*<think> block"),
        ({"id": "b"}, r"the id b comes twice"),
        ({"id": " "}, r":2: .*id is empty"),
        ({"id": "a\tb"}, r":2: .*id 'a\\tb' has a control character"),
    ],
)
def test_a_bad_line_is_named(tmp_path, changes, message):
    with pytest.raises(BadRecord, match=r"own\.jsonl.*" + message):
        load_file(written(tmp_path, FULL, PLAIN | changes))


def test_an_unlabelled_chat_is_kept_as_it_is(tmp_path):
    (item,) = load_file(written(tmp_path, CHAT))
    assert item.question.condition is None and item.question.gold is None
    assert item.question.messages == tuple(Turn(**turn) for turn in CHAT["messages"])
    assert item.question.text == (
        "system: Be brief.\n\nuser: Hello?\n\nassistant: Yes?\n\nuser: Hello?"
    )
    assert item.rationale == CHAT["completion"]
    assert [item.rationale[s.start : s.end] for s in item.spans] == [" Yes,", " I", " am", " here."]
    (alone,) = load_file(written(tmp_path, {"id": "d", "messages": [TURN]}))
    assert (alone.question.text, alone.rationale, alone.spans) == ("Hello?", None, ())


@pytest.mark.parametrize(
    "row",
    [
        {"messages": [TURN, {"role": "assistant", "content": "Yes, here."}]},
        {"prompt": "Hello?", "completion": "Yes, here."},
        {"prompt": [TURN], "completion": "Yes, here."},
        {"prompt": [TURN], "completion": [{"role": "assistant", "content": "Yes, here."}]},
        {"messages": [TURN], "completion": "Yes, here."},
    ],
)
def test_a_chat_may_be_written_in_several_forms(tmp_path, row):
    """Prompt, completion, token weights and the id that is made are the same."""
    (item,) = load_file(written(tmp_path, row | {"token_weights": [1, 2]}))
    assert item == CustomItem(
        Question(
            "row-6519faaf0427",
            "own",
            None,
            "Hello?",
            -1,
            "row-6519faaf0427",
            (Turn("user", "Hello?"),),
        ),
        "Yes, here.",
        1.0,
        (WeightSpan(0, 4, 1.0), WeightSpan(4, 10, 2.0)),
    )


def test_earlier_answers_of_a_chat_are_part_of_its_prompt(tmp_path):
    (item,) = load_file(written(tmp_path, {"messages": [TURN, ANSWER, TURN, ANSWER]}))
    assert [turn.role for turn in item.question.messages] == ["user", "assistant", "user"]
    assert item.rationale == "Yes?"


def test_a_labelled_chat_has_its_completion_checked(tmp_path):
    row = {"messages": [TURN, ANSWER | {"content": "So.\nConclusion: YES"}], "label": "NO"}
    with pytest.raises(BadRecord, match="concludes YES, but label is NO"):
        load_file(written(tmp_path, row))
    (item,) = load_file(written(tmp_path, row | {"label": "YES"}))
    assert item.rationale == "So."


def test_a_row_without_an_id_gets_one_from_its_prompt(tmp_path):
    """The same whatever stands around it, what else it says, and in which order."""
    ask, tell = {"question": "May we?"}, {"prompt": "Tell me.", "completion": "No."}
    rows = [ask, PLAIN, tell, tell | {"completion": "Yes."}, tell]
    ids = [item.question.id for item in load_file(written(tmp_path, *rows))]
    assert ids[1] == "a" and len(set(ids)) == 5
    assert ids[3:] == [f"{ids[2]}-2", f"{ids[2]}-3"]
    others = [tell | {"weight": 2.0}, ask | {"label": "NO", "benchmark": "pay"}]
    again = [item.question for item in load_file(written(tmp_path, *others))]
    assert [question.id for question in again] == [ids[2], ids[0]]
    assert [question.scenario_id for question in again] == [ids[2], ids[0]]


@pytest.mark.parametrize("ending", ["", "\nConclusion: NO", "\nConclusion: NO\n"])
def test_token_weights_of_a_labelled_row_are_places_in_its_target(tmp_path, ending):
    passage = {"text": "law", "weight": 3.0}
    row = PLAIN | {"completion": f"  The law says so.{ending}", "token_weights": [passage]}
    (item,) = load_file(written(tmp_path, row))
    assert item.spans == (WeightSpan(4, 7, 3.0),)
    assert item.rationale[4:7] == "law"


def test_a_conclusion_that_is_rewritten_takes_no_token_weights(tmp_path):
    row = PLAIN | {"completion": "So.\n\n**Conclusion: NO**", "token_weights": [1, 2, 3]}
    with pytest.raises(BadRecord, match="token_weights need a conclusion written as"):
        load_file(written(tmp_path, row))
    load_file(written(tmp_path, {key: row[key] for key in row if key != "token_weights"}))


def test_chat_rows_of_trl_are_read_as_they_are(tmp_path):
    """Its two forms of a conversation and the plain one; nulls, as a data set's export has them."""
    user, reply = {"role": "user", "content": "Hello?"}, {"role": "assistant", "content": "Hi."}
    rows = [
        {"prompt": [user], "completion": [reply]},
        {"prompt": "Hello?", "completion": "Hi."},
        {"messages": [user, reply | {"tool_calls": None}], "completion": None, "weight": None},
        {"id": 7, "prompt": "Hello?", "messages": [user, reply]},
    ]
    items = load_file(written(tmp_path, *rows))
    assert {(item.question.messages, item.rationale) for item in items} == {
        ((Turn("user", "Hello?"),), "Hi.")
    }
    ids = [item.question.id for item in items]
    assert len(set(ids)) == 4 and ids[3] == "7" and ids[1] == f"{ids[0]}-2"
    longer = [user, reply, user, reply | {"content": "Yes?"}]
    [item] = load_file(written(tmp_path, {"messages": longer}))
    assert ([turn.role for turn in item.question.messages], item.rationale) == (
        ["user", "assistant", "user"],
        "Yes?",
    )
    first, last = load_file(written(tmp_path, {"id": "a", "messages": longer}), "all")
    assert (last.question.messages, last.rationale) == (item.question.messages, "Yes?")
    assert (first.question.messages, first.rationale) == ((Turn("user", "Hello?"),), "Hi.")
    assert (first.question.id, first.question.scenario_id) == ("a/turn-2", "a")
    both = {"prompt": "Another?", "messages": [user, reply]}
    with pytest.raises(BadRecord, match=r"own\.jsonl:2: .*give either question or messages"):
        load_file(written(tmp_path, rows[0], both))


def test_no_split_keeps_every_row_for_training(tmp_path):
    rows = [CHAT | {"id": str(n)} for n in range(3)] + [PLAIN, FULL]
    config = DataConfig(suite="jsonl", file=str(written(tmp_path, *rows)), split_by="none")
    splits = make_splits(config)
    assert sorted(q.id for q in splits["train"]) == ["0", "1", "2", "a", "b"]
    assert splits["validation"] == splits["test"] == []
    with pytest.raises(ValueError, match=r"split is empty: .*5 questions, .*data\.split_by row"):
        make_splits(DataConfig(suite="jsonl", file=config.file, split_by="row"))


def test_unlabelled_rows_are_a_stratum_of_their_own(tmp_path):
    said = [{"role": "user", "content": f"Say {n}."} for n in range(10)]
    rows = [CHAT | {"id": f"c{n}", "messages": [said[n]]} for n in range(10)]
    rows += [PLAIN | {"id": f"p{n}", "question": f"Is it {n}?"} for n in range(10)]
    splits = make_splits(DataConfig(suite="jsonl", file=str(written(tmp_path, *rows))))
    for name, each in (("train", 8), ("validation", 1), ("test", 1)):
        assert sum(q.condition is None for q in splits[name]) == each, name


@pytest.mark.parametrize("content", ["", "\n \r\n", "\ufeff"])
def test_an_empty_file_is_an_error(tmp_path, content):
    path = written(tmp_path)
    path.write_text(content, encoding="utf-8", newline="")
    with pytest.raises(BadRecord, match=r"own\.jsonl: no question in it"):
        load_file(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"id": "a", "question": "q", "id": "b"}', r":1: the key 'id' is given twice"),
        (b'{"id": "a", "question": "q", "weight": NaN}', r":1: NaN is no number"),
        (b'{"id": "a", "question": "q", "weight": 1e999}', r":1: a number is too large"),
        (b'{"id": "a", "question": "\\ud83d"}', r":1: half a surrogate pair"),
        (b'[{"id": "a", "question": "q"}]', r":1: a JSON array"),
        (b'{"id": "a", "question": "q"}\n"q"', r":2: Input should be"),
        (b'{"id": "a", "question": "q"},\n', r":1: not JSON: Extra data"),
        ('{"id": "a", "question": "é"}'.encode("latin-1"), r":1: not UTF-8: byte 0xe9"),
        ('{"id": "a", "question": "é"}'.encode("utf-16"), r":1: not UTF-8: this is UTF-16"),
    ],
)
def test_what_is_no_row_is_named(tmp_path, content, message):
    path = tmp_path / "own.jsonl"
    path.write_bytes(content)
    with pytest.raises(BadRecord, match=r"own\.jsonl" + message):
        load_file(path)


def test_a_folder_in_place_of_a_file_is_named(tmp_path):
    with pytest.raises(IsADirectoryError, match="give the file"):
        load_file(tmp_path)


@pytest.mark.parametrize(("suite", "key"), [("jsonl", "file"), ("hub", "hub")])
def test_the_missing_setting_is_named(suite, key):
    with pytest.raises(ValueError, match=rf"needs data\.{key}"):
        load_suite(DataConfig(suite=suite))


def test_own_benchmarks_are_split_and_dealt_evenly(tmp_path):
    rows = [
        PLAIN
        | {"id": (id := f"{benchmark}{label}{n}"), "question": f"{id}?"}
        | {"label": label, "benchmark": benchmark}
        for benchmark in ("leave", "pay")
        for label in ("YES", "NO")
        for n in range(10)
    ]
    config = DataConfig(suite="jsonl", file=str(written(tmp_path, *rows)), max_train=8)
    splits = make_splits(config)
    assert {name: len(part) for name, part in splits.items()} == {
        "train": 8,
        "validation": 4,
        "test": 4,
    }
    strata = {(q.benchmark, q.condition) for q in splits["train"]}
    assert len(strata) == 4
    reordered = DataConfig(suite="jsonl", file=str(written(tmp_path, *rows[::-1])), max_train=8)
    assert make_splits(reordered) == splits


def test_a_data_set_gives_the_items_of_its_file(tmp_path, monkeypatch):
    pytest.importorskip("datasets")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    path = written(tmp_path, PLAIN | {"note": "left aside"}, FULL | {"note": None}, CHAT)
    folder = tmp_path / "set"
    folder.mkdir()
    path.rename(folder / "train.jsonl")
    config = DataConfig(suite="hub", hub=str(folder))
    assert custom_items(config) == load_hub(str(folder), "train")
    assert custom_items(config) == load_file(written(tmp_path, PLAIN, FULL, CHAT))
    assert load_suite(config) == [item.question for item in custom_items(config)]


def test_a_bad_row_of_a_data_set_is_named(tmp_path, monkeypatch):
    pytest.importorskip("datasets")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "set"
    folder.mkdir()
    written(tmp_path, PLAIN, FULL | {"label": "maybe"}).rename(folder / "train.jsonl")
    with pytest.raises(BadRecord, match=r"set \(train\), row 2: label"):
        load_hub(str(folder), "train")


def data_set(tmp_path, monkeypatch, *rows):
    pytest.importorskip("datasets")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "set"
    folder.mkdir()
    written(tmp_path, *rows).rename(folder / "train.jsonl")
    return load_hub(str(folder), "train")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"question": "a", "question": "b"}\n', r"set \(train\): .*question.* twice"),
        (b'{"question": "a\\ud83d"}\n', r"set \(train\): .*surrogate"),
        ('{"question": "é"}\n'.encode("latin-1"), r"set \(train\), row 1: not UTF-8"),
        (b'{"question": "a", "weight": NaN}\n', r"row 1: NaN is no number"),
        (b'{"id": "2024-01-01T00:00:00", "question": "a"}\n', r"row 1: id: .*datetime.*to text"),
    ],
)
def test_a_data_set_that_cannot_be_read_is_named(tmp_path, monkeypatch, content, message):
    pytest.importorskip("datasets")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "set"
    folder.mkdir()
    (folder / "train.jsonl").write_bytes(content)
    with pytest.raises(BadRecord, match=message):
        load_hub(str(folder), "train")


def test_a_data_set_of_chats_needs_no_ids(tmp_path, monkeypatch):
    """As published sets are: the first turn once more as prompt, names in some turns only."""
    turn = TURN | {"name": "ada"}
    rows = [
        {"prompt": "Hello?", "prompt_id": 1, "messages": [TURN, ANSWER | {"name": None}]},
        {"prompt": "Hello?", "prompt_id": 2, "messages": [TURN]},
    ]
    first, second = data_set(tmp_path, monkeypatch, *rows)
    assert first.rationale == "Yes?" and second.rationale is None
    assert second.question.id == f"{first.question.id}-2"
    with pytest.raises(BadRecord, match=r"own\.jsonl:1: messages\.0\.name"):
        load_file(written(tmp_path, {"messages": [turn, ANSWER]}))


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"prompt": "Hello?", "response": "Yes?"}, "row 1: response: .*rename it to completion"),
        (
            {"instruction": "Greet.", "output": "Hello."},
            "row 1: instruction: .*to prompt",
        ),
    ],
)
def test_a_completion_under_another_name_is_not_left_aside(tmp_path, monkeypatch, row, message):
    with pytest.raises(BadRecord, match=message):
        data_set(tmp_path, monkeypatch, row)


@pytest.mark.parametrize("ending", ["", "\nConclusion: NO"])
def test_a_conclusion_alone_may_be_trained_on(tmp_path, ending):
    """It is added where the completion has none; where it has one, that weighs 0 with the rest."""
    row = PLAIN | {"label": "NO", "completion": f"So it is.{ending}"}
    row["token_weights"] = [0] * len(row["completion"].split())
    if not ending:
        assert {span.weight for span in load_file(written(tmp_path, row))[0].spans} == {0}
        return
    with pytest.raises(BadRecord, match="every word weighs 0"):
        load_file(written(tmp_path, row))
