"""Plain values and numpy scalars come through; whatever names anything else is refused."""

import copyreg
import os
import pickle
import struct

import numpy as np
import pytest

from dart_jax.data.safe_pickle import UnreadablePickle, UnsafePickle, load


class Calls:
    """Pickles into a call of `function(*arguments)`, with optional state."""

    def __init__(self, function, *arguments, state=None):
        self.reduced = (function, arguments) if state is None else (function, arguments, state)

    def __reduce__(self):
        return self.reduced


def _write(tmp_path, value, protocol=4):
    path = tmp_path / "N2_1k.pkl"
    path.write_bytes(value if isinstance(value, bytes) else pickle.dumps(value, protocol))
    return path


@pytest.mark.parametrize("protocol", [3, 4, 5])
def test_values_and_scalars_arrive_plain(tmp_path, protocol):
    scalars = [np.int64(-3), np.uint8(7), np.str_("naïve 🙂"), np.str_(""), np.bool_(True)]
    value = [["text", 1, "2020-573"], [*scalars, np.float32(0.5), np.float64(0.1)]]
    loaded = load(_write(tmp_path, value, protocol))
    assert loaded == value
    assert [type(x) for x in loaded[1]] == [int, int, str, str, bool, float, float]


def test_old_numpy_name_and_byte_order(tmp_path):
    scalar = Calls(np._core.multiarray.scalar, np.dtype(">i8"), struct.pack(">q", 258))
    text = Calls(np._core.multiarray.scalar, np.dtype(">U2"), "ab".encode("utf-32-be"))
    data = pickle.dumps([scalar, text], 3).replace(b"numpy._core", b"numpy.core")
    assert load(_write(tmp_path, data)) == [258, "ab"]


HOSTILE = {
    "posix.system": Calls(os.system, "true"),
    "builtins.eval": Calls(eval, "1"),
    "builtins.getattr": [["nested", [Calls(getattr, "a", "upper")]]],
    "_codecs.encode": Calls(__import__("_codecs").encode, "a", "latin1"),
    "numpy._core.multiarray._reconstruct": np.arange(3),
    "numpy.loadtxt": Calls(np.loadtxt, "x"),
    "numpy.ndarray": np.ndarray,
    "copyreg._reconstructor": Calls(copyreg._reconstructor, int, int, 0),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_other_globals_are_refused_by_name(tmp_path, name):
    path = _write(tmp_path, HOSTILE[name])
    with pytest.raises(UnsafePickle, match=name.replace(".", r"\.")) as refusal:
        load(path)
    assert str(path) in str(refusal.value)


def _stack_global(module: str, name: str) -> bytes:
    def text(value):
        return b"\x8c" + bytes([len(value)]) + value.encode()

    return b"\x80\x04" + text(module) + text(name) + b"\x93."


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("numpy.core.multiarray", "scalar.__globals__"),
        ("numpy._core.multiarray", "scalar.__new__"),
        ("numpy", "dtype.__class__"),
        ("numpy", "f2py.os.system"),
        ("numpy.f2py.crackfortran", "myeval"),
        ("dart_jax.data.safe_pickle", "load"),
    ],
)
def test_allowed_names_do_not_open_others(tmp_path, module, name):
    with pytest.raises(UnsafePickle, match=f"{module}.{name}"):
        load(_write(tmp_path, _stack_global(module, name)))


def test_no_hostile_code_runs(tmp_path):
    with pytest.raises(UnsafePickle):
        load(_write(tmp_path, [Calls(os.mkdir, str(tmp_path / "made"))]))
    assert not (tmp_path / "made").exists()


def test_extension_registry_is_refused_even_when_cached(tmp_path):
    code = 0x5A5A
    copyreg.add_extension("posixpath", "join", code)
    try:
        data = b"\x80\x02\x83" + struct.pack("<H", code) + b"."
        assert pickle.loads(data) is os.path.join  # now in the process's cache
        with pytest.raises(UnsafePickle, match=f"extension {code}"):
            load(_write(tmp_path, data))
    finally:
        copyreg.remove_extension("posixpath", "join", code)


@pytest.mark.parametrize("data", [b"\x80\x04\x8c\x03abcQ.", b"Pabc\n."])
def test_persistent_ids_are_refused(tmp_path, data):
    with pytest.raises(UnsafePickle, match="persistent object 'abc'"):
        load(_write(tmp_path, data))


def test_other_dtypes_are_refused(tmp_path):
    scalar = Calls(np._core.multiarray.scalar, np.dtype(object), b"")
    for value in (scalar, np.datetime64("2020-01-01"), np.complex64(1)):
        with pytest.raises(UnsafePickle, match="dtype '"):
            load(_write(tmp_path, value))


def test_stand_ins_cannot_be_rewritten(tmp_path):
    global_scalar = _stack_global("numpy._core.multiarray", "scalar")[:-1]
    for state in ({"__new__": 1}, (None, {"__new__": 1})):
        data = global_scalar + pickle.dumps(state, 3)[2:-1] + b"b."
        with pytest.raises((UnsafePickle, UnreadablePickle)):
            load(_write(tmp_path, data))
    assert load(_write(tmp_path, [np.int64(1)])) == [1]


def test_damaged_files_are_named(tmp_path):
    whole = pickle.dumps([[np.str_("question"), np.int64(1), "id"], [1.5, None]], 4)
    for length in range(len(whole)):
        path = _write(tmp_path, whole[:length])
        with pytest.raises(UnreadablePickle, match="not a readable pickle") as error:
            load(path)
        assert str(path) in str(error.value)


def test_a_huge_memo_is_not_allocated(tmp_path):
    with pytest.raises(UnreadablePickle, match="memo index 1073741824"):
        load(_write(tmp_path, b"\x80\x04]r\x00\x00\x00\x40."))


def test_flipped_bytes_never_escape_the_two_errors(tmp_path):
    whole = pickle.dumps([[np.str_("question"), np.int64(1), "id"], [1.5, None]], 4)
    for place in range(2, len(whole)):
        for value in (ord("r"), whole[place] ^ 0x01, whole[place] ^ 0x80):
            data = bytearray(whole)
            data[place] = value
            try:
                load(_write(tmp_path, bytes(data)))
            except (UnsafePickle, UnreadablePickle) as error:
                assert "N2_1k.pkl" in str(error)


def test_text_is_no_pickle_and_missing_file(tmp_path):
    with pytest.raises(UnreadablePickle):
        load(_write(tmp_path, b'{"id": "D1-diff-0000"}\n'))
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "absent.pkl")
