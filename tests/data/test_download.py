"""Public files from a server: whole, interrupted, of another content, or not there."""

import hashlib
import subprocess

import pytest

from dart_jax.data.download import BadDownload, PublicFile, download, is_published, size_at
from tests.file_server import file_server

CONTENT = bytes(range(256)) * 4096
PATH = "/folder/D1_1k.pkl"


@pytest.fixture
def server():
    with file_server() as running:
        running.files[PATH] = CONTENT
        yield running


@pytest.fixture
def file(server):
    sha256 = hashlib.sha256(CONTENT).hexdigest()
    return PublicFile(server.url + PATH, len(CONTENT), f"sha256:{sha256}")


@pytest.fixture
def target(tmp_path):
    return tmp_path / "made" / "D1_1k.pkl"


def names(target):
    return sorted(path.name for path in target.parent.iterdir())


def test_a_file_arrives_whole(file, target):
    download(file, target)
    assert target.read_bytes() == CONTENT
    assert names(target) == ["D1_1k.pkl"]
    assert size_at(file.url) == len(CONTENT)


@pytest.mark.parametrize("ranges", [True, False])
def test_what_broke_off_is_gone_on_with(server, file, target, ranges):
    server.cut_after, server.ranges = 300_000, ranges
    with pytest.raises(BadDownload, match=r"broke off after 300,000 bytes .* goes on from there"):
        download(file, target)
    assert names(target) == ["D1_1k.pkl.part"]

    server.cut_after = None
    download(file, target)
    assert target.read_bytes() == CONTENT
    assert names(target) == ["D1_1k.pkl"]
    assert server.asked[-1] == ("GET", PATH, "bytes=300000-")


def test_a_part_that_is_the_whole_file_is_taken(file, target):
    target.parent.mkdir()
    target.with_name("D1_1k.pkl.part").write_bytes(CONTENT)
    download(file, target)
    assert target.read_bytes() == CONTENT


@pytest.mark.parametrize("left", [b"", b"of another file", CONTENT + b"more"])
def test_another_content_gets_no_name(server, file, target, left):
    """Whether the server has it, or an earlier part; the next start begins anew."""
    target.parent.mkdir()
    target.with_name("D1_1k.pkl.part").write_bytes(left)
    if not left:
        server.files[PATH] = CONTENT[:-1] + b"x"
    with pytest.raises(BadDownload, match=r"is not the published file, .* it was removed"):
        download(file, target)
    assert names(target) == []

    server.files[PATH] = CONTENT
    download(file, target)
    assert target.read_bytes() == CONTENT


def test_a_file_that_is_not_there(server, file, target):
    del server.files[PATH]
    with pytest.raises(BadDownload, match=r"D1_1k.pkl: the server says 404"):
        download(file, target)
    assert names(target) == []


def test_a_server_that_does_not_answer(target):
    with file_server() as gone:
        url = gone.url
    with pytest.raises(BadDownload, match=r"cannot be reached .*machine with a network"):
        download(PublicFile(url + PATH, None, "sha256:"), target)


def test_a_file_may_be_known_by_the_id_that_git_gives_it(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(CONTENT)
    command = ["git", "hash-object", path]
    git_id = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    assert is_published(path, PublicFile("", None, f"git:{git_id}"))
    path.write_bytes(CONTENT[1:])
    assert not is_published(path, PublicFile("", None, f"git:{git_id}"))
