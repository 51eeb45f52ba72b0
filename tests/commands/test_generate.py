"""`python -m dart_jax generate` on a finished run: files, and a person's lines."""

import io
import json
import os
import shutil

import pytest

from dart_jax.commands import generate
from dart_jax.commands.prompt_file import read_prompts
from dart_jax.records import BadRecord, Generation, read_jsonl
from dart_jax.settings import BadSetting

LINES = [
    {"id": "b", "question": "May old people vote? (a) yes (b) no"},
    {"id": "a", "messages": [{"role": "user", "content": "Say hello."}]},
    {"id": "long", "messages": [{"role": "user", "content": "x" * 5000}]},
]


@pytest.fixture
def prompts(tmp_path):
    """A function: a prompt file of these lines."""

    def write(lines=LINES):
        path = tmp_path / "prompts.jsonl"
        path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
        return path

    return write


def ask(run, *options):
    return generate.main(["--run", str(run), *map(str, options)])


def test_answers_to_a_file(finished, prompts, tmp_path, capsys):
    """Every prompt under every model, in order; what is there is not decoded again."""
    out = tmp_path / "out.jsonl"
    options = ("--models", "M0,M_DART,M_int", "--prompts", prompts(), "--out", out)
    assert ask(finished, *options) == 0
    assert "shapes (rows x tokens)" in capsys.readouterr().out
    found = read_jsonl(out, Generation)
    assert [(g.question_id, g.model) for g in found] == [
        (line["id"], model) for line in LINES for model in ("M0", "M_DART", "M_int")
    ]
    assert all(g.stop is None and "long: a prompt of" in g.unparseable for g in found[6:])
    assert all(g.stop is not None and 0 < g.new_tokens <= 8 for g in found[:6])
    assert {g.text for g in found if g.model == "M0"} != {
        g.text for g in found if g.model == "M_DART"
    }
    whole = out.read_bytes()
    lines = whole.splitlines(keepends=True)
    out.write_bytes(lines[4] + lines[0] + lines[1][:30])
    assert ask(finished, *options) == 0
    assert out.read_bytes() == whole


def test_settings_are_the_runs_unless_given(finished, prompts, tmp_path):
    """The run decodes eight tokens."""
    path = prompts(LINES[:1])
    for given, count in ((), 8), (("--max-new-tokens", 3, "--temperature", 0, "--top-k", 1), 3):
        out = tmp_path / f"{count}.jsonl"
        ask(finished, "--models", "M0", "--prompts", path, "--out", out, *given)
        [answer] = read_jsonl(out, Generation)
        assert answer.new_tokens == count


@pytest.fixture(scope="module")
def answered(finished, tmp_path_factory):
    """Folder of M0's answers to the first two lines."""
    folder = tmp_path_factory.mktemp("answered")
    path = folder / "prompts.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in LINES[:2]))
    assert ask(finished, "--models", "M0", "--prompts", path, "--out", folder / "out.jsonl") == 0
    return folder


@pytest.mark.parametrize(
    ("options", "lines", "named"),
    [
        (("--temperature", 0.7), LINES[:2], r"decode\.temperature changed \(0\.2 -> 0\.7\)"),
        (("--seed", 3), LINES[:2], r"seed changed \(0 -> 3\)"),
        ((), [{**LINES[0], "question": "May young people vote?"}, LINES[1]], "prompts.b changed"),
        ((), [{**LINES[1], "id": "b"}, LINES[1]], "prompts.b changed"),
    ],
    ids=["temperature", "seed", "question", "a message in a question's place"],
)
def test_answers_made_from_something_else_are_refused(
    options, lines, named, finished, answered, prompts, tmp_path
):
    """What changed is named, and the answers stay as they are."""
    out = shutil.copytree(answered, tmp_path / "out") / "out.jsonl"
    whole = out.read_bytes()
    command = ("--models", "M0", "--prompts", prompts(lines), "--out", out, *options)
    with pytest.raises(ValueError, match=rf"made from something else: {named}; give another --out"):
        ask(finished, *command)
    assert out.read_bytes() == whole


def test_answers_of_unknown_origin_are_refused_until_they_are_removed(
    finished, answered, prompts, tmp_path
):
    out = shutil.copytree(answered, tmp_path / "out") / "out.jsonl"
    whole = out.read_bytes()
    command = ("--models", "M0", "--prompts", prompts(LINES[:2]), "--out", out)
    out.with_name("out.jsonl.inputs.json").unlink()
    with pytest.raises(ValueError, match=r"out\.jsonl\.inputs\.json, .* is missing or damaged"):
        ask(finished, *command)
    assert out.read_bytes() == whole
    out.unlink()
    assert ask(finished, *command) == 0
    assert out.read_bytes() == whole


def test_further_prompts_and_models_are_added(finished, prompts, tmp_path):
    out = tmp_path / "out.jsonl"
    ask(finished, "--models", "M0", "--prompts", prompts(LINES[:1]), "--out", out)
    [first] = read_jsonl(out, Generation)
    options = ("--slots", 3)  # layout
    ask(finished, "--models", "M0,M_int", "--prompts", prompts(LINES[:2]), "--out", out, *options)
    found = read_jsonl(out, Generation)
    assert [(g.question_id, g.model) for g in found] == [
        (id, model) for id in ("b", "a") for model in ("M0", "M_int")
    ]
    assert found[0] == first
    changed = [{**LINES[0], "question": "May young people vote?"}]
    with pytest.raises(ValueError, match=r"prompts\.b changed"):
        ask(finished, "--models", "M_int", "--prompts", prompts(changed), "--out", out)


def test_another_adapter_under_the_same_name_is_refused(copied, prompts, tmp_path):
    out = tmp_path / "out.jsonl"
    options = ("--models", "M_DART", "--prompts", prompts(LINES[:1]), "--out", out)
    ask(copied, *options)
    shutil.rmtree(copied / "adapters/M_DART")
    shutil.copytree(copied / "adapters/M_int", copied / "adapters/M_DART")
    with pytest.raises(ValueError, match=r"something else: models\.M_DART changed"):
        ask(copied, *options)


def test_adapters_without_their_run_answer_as_with_it(finished, tiny_model, prompts, tmp_path):
    """Their base is the one that they name, or --model.path."""
    rows, decode = prompts(LINES[:2]), ("--max-new-tokens", 8, "--slots", 8)
    ask(finished, "--models", "M0,M_int", "--prompts", rows, "--out", tmp_path / "run.jsonl")
    folder = shutil.copytree(finished / "adapters/M_int", tmp_path / "M_int")
    for out, base in ("named.jsonl", ()), ("given.jsonl", ("--model.path", tiny_model)):
        command = ("--adapter", folder, *base, "--prompts", rows, "--out", tmp_path / out, *decode)
        assert generate.main([*map(str, command)]) == 0
        assert (tmp_path / out).read_bytes() == (tmp_path / "run.jsonl").read_bytes()


def test_a_conversation_at_a_terminal(finished, monkeypatch, capsys):
    """The second line is put to each model behind the first one and its own answer."""
    typed = iter(["May old people vote?", "Why?", "/quit"])
    monkeypatch.setattr("builtins.input", lambda prompt: next(typed))
    controller, terminal = os.openpty()
    with open(terminal) as stdin:
        monkeypatch.setattr("sys.stdin", stdin)
        assert ask(finished, "--models", "M0,M_DART") == 0
    os.close(controller)
    shown = capsys.readouterr().out
    assert shown.count("M0:\n") == shown.count("M_DART:\n") == 2
    assert next(typed, None) is None


def test_typed_lines_are_answered_side_by_side(finished, monkeypatch, capsys):
    monkeypatch.setattr("sys.stdin", io.StringIO("May old people vote?\n\nAnd young ones?\n"))
    assert ask(finished, "--models", "M0,M_DART") == 0
    shown = capsys.readouterr().out
    assert sum(line.split() == ["M0", "|", "M_DART"] for line in shown.splitlines()) == 2


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ({"id": "q"}, r"prompts\.jsonl:2: .*either question or messages"),
        ({"id": "q", "question": "a", "messages": []}, r"prompts\.jsonl:2: .*either"),
        ({"id": "q", "question": ""}, r"prompts\.jsonl:2: .*empty"),
        ({"id": "q", "messages": [{"role": "robot", "content": "a"}]}, r":2: messages.0.role"),
        ({"id": "q", "question": "a", "labels": 1}, r"prompts\.jsonl:2: labels"),
        ({"id": "b", "question": "a"}, r"prompts\.jsonl: two prompts have the id 'b'"),
        ({"id": " ", "question": "a"}, r"prompts\.jsonl:2: .*id is empty"),
        ({"prompt": [{"role": "assistant", "content": "a"}]}, r":2: .*ends with the assistant's"),
        ({"prompt": "a", "completion": "b"}, r":2: completion: .*a prompt has none"),
        ({"instruction": "a"}, r":2: instruction: .*rename it to prompt"),
        ({"prompt": "\ud83d"}, r":2: half a surrogate pair"),
    ],
)
def test_bad_lines_are_named(line, problem, prompts):
    with pytest.raises(BadRecord, match=problem):
        read_prompts(prompts([LINES[0], line]))


def test_prompts_may_be_written_in_several_forms(prompts):
    """Without ids, the same prompt has the same one, and comes apart by its number."""
    said = [{"role": "user", "content": "Say hello."}]
    lines = [{"prompt": "Say hello."}, {"question": "Why?"}, {"messages": said}, {"prompt": said}]
    found = read_prompts(prompts(lines))
    assert [prompt.conversation() == tuple(said) for prompt in found] == [True, False, True, True]
    first, asked, *others = [prompt.id for prompt in found]
    assert others == [f"{first}-2", f"{first}-3"] and asked != first
    assert [prompt.id for prompt in read_prompts(prompts(lines[2:]))] == [first, others[0]]


def test_bad_commands_say_what_is_there(finished, prompts, tmp_path):
    with pytest.raises(ValueError, match=r"--models M_X: .* has M0, M_DART, M_int"):
        ask(finished, "--models", "M0,M_X")
    with pytest.raises(ValueError, match="each one once"):
        ask(finished, "--models", "M0,M0")
    with pytest.raises(FileNotFoundError, match="is no run"):
        ask(tmp_path)
    with pytest.raises(ValueError, match="no prompts"):
        ask(finished, "--prompts", prompts([]), "--out", tmp_path / "out.jsonl")
    with pytest.raises(BadSetting, match="go together"):
        ask(finished, "--prompts", prompts())
