"""Uploading an export: what is refused before any work, what is listed, what the hub is asked."""

from unittest.mock import create_autospec

import pytest
from huggingface_hub import HfApi

from dart_jax.commands import export as export_command
from dart_jax.commands.hub_upload import UploadFailed, check_name, listing, upload
from dart_jax.settings import BadSetting

TOKEN = "hf_" + "s" * 34


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "README.md").write_text("card")
    (folder / "adapter_model.safetensors").write_bytes(bytes(1234))
    return folder


@pytest.fixture
def hub():
    """A hub that has no repository; it takes no call that huggingface_hub's own would not."""
    api = create_autospec(HfApi, instance=True)
    api.create_repo.return_value = "https://huggingface.co/owner/name"
    api.model_info.return_value.private = True
    return api


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


def test_the_hub_is_asked_for_a_private_repository_with_these_files(hub, folder):
    assert upload(folder, "owner/name", False, hub) == "https://huggingface.co/owner/name"
    hub.create_repo.assert_called_once_with("owner/name", private=True, exist_ok=True)
    [call] = hub.upload_folder.call_args_list
    assert call.kwargs["repo_id"] == "owner/name" and call.kwargs["folder_path"] == folder
    assert call.kwargs["allow_patterns"] == ["README.md", "adapter_model.safetensors"]


@pytest.mark.parametrize(
    ("private", "public", "message"),
    [(False, False, "everybody can see it; add --public"), (True, True, "exists and is private")],
)
def test_a_repository_that_others_see_otherwise_gets_nothing(private, public, message, hub, folder):
    hub.model_info.return_value.private = private
    with pytest.raises(UploadFailed, match=message):
        upload(folder, "owner/name", public, hub)
    hub.upload_folder.assert_not_called()


def test_a_public_one_is_made_where_it_is_asked_for(hub, folder):
    hub.model_info.return_value.private = False
    upload(folder, "owner/name", True, hub)
    hub.create_repo.assert_called_once_with("owner/name", private=False, exist_ok=True)


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
