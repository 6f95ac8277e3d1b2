"""What is kept is what was written, or it is not there; and nothing about the folder raises."""

import os
import resource
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from fml.engine.kernels.llvm import cache as module
from fml.engine.kernels.llvm.cache import Cache, user_folder

VALUE = b"value" * 100


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "deep" / "kernels")


def only_file(cache: Cache) -> Path:
    (path,) = cache.folder.iterdir()
    return path


def test_a_value_is_found_under_its_key(cache: Cache) -> None:
    assert cache.get("a") is None
    cache.put("a", b"first")
    cache.put("a", VALUE)
    cache.put("b", b"")
    again = Cache(cache.folder)
    assert (again.get("a"), again.get("b"), again.get("c")) == (VALUE, b"", None)


def test_only_the_user_may_look(cache: Cache) -> None:
    cache.put("a", VALUE)
    assert cache.folder.stat().st_mode & 0o777 == 0o700
    assert only_file(cache).stat().st_mode & 0o777 == 0o600


def flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def linked(path: Path) -> None:
    path.rename(path.parent.parent / "elsewhere")
    path.symlink_to(path.parent.parent / "elsewhere")


def piped(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


DAMAGE: dict[str, Callable[[Path], object]] = {
    "changed": flipped,
    "cut off": lambda path: os.truncate(path, 50),
    "empty": lambda path: os.truncate(path, 0),
    "longer": lambda path: path.write_bytes(path.read_bytes() + b"x"),
    "a symlink": linked,
    "a pipe": piped,
    "open to the group": lambda path: path.chmod(0o660),
    "open to all": lambda path: path.chmod(0o602),
    "unreadable": lambda path: (path.chmod(0), os.truncate(path, 9)),  # root reads it all the same
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_or_foreign_file_is_not_read_and_is_replaced(
    cache: Cache, damage: Callable[[Path], object]
) -> None:
    cache.put("a", VALUE)
    damage(only_file(cache))
    assert cache.get("a") is None
    cache.put("a", VALUE)
    assert cache.get("a") == VALUE
    assert only_file(cache).is_file()


def test_a_value_does_not_count_for_another_key(cache: Cache) -> None:
    cache.put("a", VALUE)
    first = only_file(cache)
    cache.put("b", VALUE)
    (second,) = set(cache.folder.iterdir()) - {first}
    first.replace(second)
    assert cache.get("b") is None


def test_another_format_is_not_read(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as before:
        before.setattr(module, "_FORMAT", b"fml cache 0")
        cache.put("a", VALUE)
    assert cache.get("a") is None


def test_what_others_own_is_not_touched(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    cache.put("a", VALUE)
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    assert cache.get("a") is None
    cache.put("b", VALUE)
    Cache(cache.folder, limit=0).trim()
    assert len(list(cache.folder.iterdir())) == 1


def test_a_folder_that_others_write_to_is_not_used(cache: Cache) -> None:
    cache.put("a", VALUE)
    cache.folder.chmod(0o777)
    assert cache.get("a") is None
    cache.put("b", VALUE)
    assert only_file(cache)


def test_a_folder_that_cannot_be_made_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "kernels"):
        cache = Cache(folder)
        cache.put("a", VALUE)
        cache.trim()
        assert cache.get("a") is None


def test_a_value_that_finds_no_room_leaves_nothing_behind(cache: Cache) -> None:
    cache.put("a", VALUE)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
    try:
        cache.put("b", VALUE)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert cache.get("b") is None
    assert cache.get("a") == VALUE
    assert only_file(cache)


def test_what_was_not_used_for_longest_goes(cache: Cache) -> None:
    for n, key in enumerate("abcd"):
        cache.put(key, VALUE)
        (path,) = (p for p in cache.folder.iterdir() if p.stat().st_mtime > 1e6)
        os.utime(path, (n, n))
    assert cache.get("a") == VALUE  # used now
    Cache(cache.folder, limit=3 * 600).trim()
    assert [key for key in "abcd" if cache.get(key)] == ["a", "c", "d"]


def test_what_was_never_finished_goes(cache: Cache) -> None:
    cache.put("a", VALUE)
    for name, time in ((".old", 1e9), (".new", 1e12)):
        (cache.folder / name).touch()
        os.utime(cache.folder / name, (time, time))
    cache.trim()
    assert cache.get("a") == VALUE
    assert {p.name for p in cache.folder.iterdir() if p.name[0] == "."} == {".new"}


HOME = Path.home()


@pytest.mark.parametrize(
    ("platform", "variables", "folder"),
    [
        ("linux", {}, HOME / ".cache" / "fml"),
        ("linux", {"XDG_CACHE_HOME": "/c"}, Path("/c/fml")),
        ("linux", {"XDG_CACHE_HOME": "relative"}, HOME / ".cache" / "fml"),
        ("linux", {"XDG_CACHE_HOME": "/c", "FML_CACHE": "/own"}, Path("/own")),
        ("linux", {"FML_CACHE": ""}, HOME / ".cache" / "fml"),
        ("darwin", {"XDG_CACHE_HOME": "/c"}, HOME / "Library" / "Caches" / "fml"),
        ("win32", {"LOCALAPPDATA": "/local"}, Path("/local/fml/Cache")),
    ],
)
def test_where_it_lies(
    platform: str, variables: dict[str, str], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    for name in ("FML_CACHE", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert user_folder() == folder


def test_without_a_home_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless() -> Path:
        raise RuntimeError("no home")

    monkeypatch.delenv("FML_CACHE", raising=False)
    monkeypatch.setattr(Path, "home", homeless)
    assert user_folder() is None
