"""Uploading an export: what is refused before any work, what is listed, what the hub is asked."""

import pytest
from huggingface_hub import HfApi

from dart_jax.commands import export as export_command
from dart_jax.commands.hub_upload import UploadFailed, check_name, listing, upload
from dart_jax.settings import BadSetting
from tests.loopback_hub import loopback_hub

TOKEN = "hf_" + "s" * 34


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "README.md").write_text("card")
    (folder / "adapter_model.safetensors").write_bytes(bytes(1234))
    return folder


@pytest.fixture
def hub(monkeypatch):
    """A hub that has no repository yet, and a token for it."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    with loopback_hub() as hub:
        yield hub


@pytest.mark.parametrize("name", ["name", "a/b/c", "owner/", "own er/name", "owner/na--me", "/x"])
def test_a_name_that_is_no_repository_is_refused(name):
    with pytest.raises(BadSetting, match=r"--push .*give a repository as OWNER/NAME"):
        check_name(name)


def test_the_list_has_each_file_its_size_and_who_sees_it(folder):
    lines = listing(folder, "owner/name", public=False).splitlines()
    assert lines[0] == "owner/name (private), 2 files, 1,238 bytes:"
    assert [line.split() for line in lines[1:]] == [
        ["4", "README.md"],
        ["1,234", "adapter_model.safetensors"],
    ]
    assert "owner/name (public)" in listing(folder, "owner/name", public=True)


def send(hub, folder, public=False):
    return upload(folder, "owner/name", public, HfApi(endpoint=hub.url))


def test_a_new_repository_is_private_and_has_the_files(hub, folder):
    assert send(hub, folder) == f"{hub.url}/owner/name"
    assert hub.private is True
    assert hub.files == {"README.md": b"card", "adapter_model.safetensors": bytes(1234)}
    assert set(hub.tokens) == {f"Bearer {TOKEN}"}


def test_a_public_one_is_made_where_it_is_asked_for(hub, folder):
    send(hub, folder, public=True)
    assert hub.private is False and len(hub.files) == 2


def test_weights_and_marks_of_an_earlier_export_go_and_other_files_stay(hub, folder):
    hub.private = True
    hub.files = {
        "model-00002-of-00002.safetensors": b"",
        "planted_faults.json": b"",
        "LICENCE": b"l",
    }
    send(hub, folder)
    assert sorted(hub.files) == ["LICENCE", "README.md", "adapter_model.safetensors"]


@pytest.mark.parametrize(
    ("private", "public", "message"),
    [(False, False, "everybody can see it; add --public"), (True, True, "exists and is private")],
)
def test_a_repository_that_others_see_otherwise_gets_nothing(private, public, message, hub, folder):
    hub.files, hub.private = {}, private
    with pytest.raises(UploadFailed, match=message):
        send(hub, folder, public)
    assert hub.files == {}


@pytest.mark.parametrize("status", [401, 403])
def test_a_token_that_may_not_write_is_an_error_that_keeps_the_export(status, hub, folder, capsys):
    hub.refuses = status
    with pytest.raises(UploadFailed, match=rf"{status} .*may not write there.*{folder}") as caught:
        send(hub, folder)
    assert TOKEN not in str(caught.value) + str(capsys.readouterr())


def test_without_a_connection_the_export_is_kept_and_no_token_is_told(folder, monkeypatch, capsys):
    """By the real library, which the tests keep offline (HF_HUB_OFFLINE)."""
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    with pytest.raises(
        UploadFailed, match=rf"--push owner/name: .*offline.*whole in {folder}"
    ) as e:
        upload(folder, "owner/name", False)
    assert TOKEN not in str(e.value) + str(capsys.readouterr())
    assert len(list(folder.iterdir())) == 2


@pytest.fixture
def exported(monkeypatch):
    """The exports that were begun, in place of the work."""
    begun = []

    def write(run, adapter, form, out, **options):
        begun.append(options["published"])
        out.mkdir()
        (out / "README.md").write_text("card")
        return "M_DART"

    monkeypatch.setattr(export_command, "export", write)
    return begun


def export(tmp_path, *options):
    return export_command.main(
        [f"--run={tmp_path}", "--format=peft", f"--out={tmp_path / 'new'}", *options]
    )


def test_the_dry_run_lists_and_sends_nothing(exported, tmp_path, capsys):
    assert export(tmp_path, "--push=owner/name", "--push-dry-run") == 0
    said = capsys.readouterr().out
    assert "would be uploaded to owner/name (private), 1 files, 4 bytes:" in said
    assert said.endswith("nothing was sent (--push-dry-run)\n")
    assert exported == ["owner/name"]


def test_what_cannot_be_uploaded_is_said_before_the_export(exported, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    with pytest.raises(UploadFailed, match=r"no token; set HF_TOKEN .*--push-dry-run needs none"):
        export(tmp_path, "--push=owner/name")
    with pytest.raises(BadSetting, match="--push name: give a repository as OWNER/NAME"):
        export(tmp_path, "--push=name")
    for option in ("--public", "--push-dry-run"):
        with pytest.raises(BadSetting, match="go with --push OWNER/NAME"):
            export(tmp_path, option)
    assert exported == []
