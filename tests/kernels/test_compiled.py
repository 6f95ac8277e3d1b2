"""Kernels are compiled once: in a process, and on a machine."""

import ctypes
import importlib
import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from test_load import unchecked

from fml.engine.ir.types import F32
from fml.engine.kernels.expr import Buffer, Load, Var
from fml.engine.kernels.llvm import compiled as module
from fml.engine.kernels.llvm.cache import Cache
from fml.engine.kernels.llvm.compiled import Compiled, Recipe, Signature, compiled
from fml.engine.kernels.llvm.fingerprint import fingerprint
from fml.engine.kernels.llvm.host import Host
from fml.engine.kernels.loops import Kernel, Store, loop

BUFFERS = Buffer("in0", F32), Buffer("out0", F32)
SIGNATURE = Signature(BUFFERS, ("begin", "end"), ((0, 1),), (8,), 3)


class Multiplied:
    """The recipe of a kernel that multiplies four numbers, and how often it was made."""

    def __init__(self, factor: float) -> None:
        self.factor, self.made = factor, 0
        self.recipe = Recipe(f"multiplied by {factor}", self.make)

    def make(self, name: str, host: Host) -> Kernel:
        self.made += 1
        (given, out), i = BUFFERS, Var("i")
        body = loop("i", 4, [Store(out, i, Load(given, i) * self.factor)], i)
        sizes = Var("begin"), Var("end")
        return Kernel(name, BUFFERS, (body,), sizes, SIGNATURE.shared, (8,), 3)

    def check(self, code: Compiled) -> None:
        """Call it."""
        assert code.signature == SIGNATURE
        numbers, out = (ctypes.c_float * 4)(1, 2, 3, 4), (ctypes.c_float * 4)()
        types = [ctypes.c_void_p] * 2 + [ctypes.c_int64] * 2
        ctypes.CFUNCTYPE(None, *types)(code.address)(numbers, out, 0, 3)
        assert list(out) == [self.factor * x for x in (1, 2, 3, 4)]


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "kernels")


@pytest.fixture(autouse=True)
def forget(monkeypatch: pytest.MonkeyPatch) -> None:
    """Begin as a new process does."""
    monkeypatch.setattr(module, "_loaded", {})


def in_new_process(kernel: Multiplied, cache: Cache, host: Host | None = None) -> bool:
    """Whether a kernel is made that another process may have left."""
    module._loaded.clear()
    before = kernel.made
    (code,) = compiled([kernel.recipe], host, cache)
    kernel.check(code)
    return kernel.made > before


def test_equal_keys_are_one_kernel(cache: Cache) -> None:
    kernels = [Multiplied(2.0), Multiplied(3.0), Multiplied(2.0)]
    codes = compiled([kernel.recipe for kernel in kernels], None, cache)
    for kernel, code in zip(kernels, codes, strict=True):
        kernel.check(code)
    assert sum(kernel.made for kernel in kernels) == 2
    assert codes[0] is codes[2]
    assert compiled([kernels[2].recipe], None, cache)[0] is codes[0]


def test_a_kernel_is_made_once_on_a_machine(cache: Cache) -> None:
    kernel = Multiplied(2.0)
    assert in_new_process(kernel, cache)
    assert not in_new_process(kernel, cache)
    assert in_new_process(kernel, Cache(cache.folder.parent / "other"))


def test_another_host_has_its_own(cache: Cache) -> None:
    kernel = Multiplied(2.0)
    assert in_new_process(kernel, cache)
    assert in_new_process(kernel, cache, Host.forced("baseline"))
    assert not in_new_process(kernel, cache)


def test_other_sources_make_it_anew(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = Multiplied(2.0)
    assert in_new_process(kernel, cache)
    monkeypatch.setattr(module, "fingerprint", lambda: "other")
    assert in_new_process(kernel, cache)
    assert not in_new_process(kernel, cache)


def test_of_unknown_sources_nothing_is_kept(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = Multiplied(2.0)
    monkeypatch.setattr(module, "fingerprint", lambda: None)
    assert in_new_process(kernel, cache)
    assert in_new_process(kernel, cache)
    assert not cache.folder.exists()


def image(name: str, body: str = "") -> bytes:
    return unchecked(f"declare void @abort()\ndefine void @{name}() {{\n{body}\nret void\n}}")


HEAD = b"[[], [], [], [], 0]\n"
WRONG: dict[str, Callable[[str], bytes]] = {
    "no object code": lambda name: HEAD + b"x" * 200,
    "no head": image,
    "a head of other things": lambda name: b"[1, 2]\n" + image(name),
    "another function": lambda name: HEAD + image("other"),
    "code that wants abort": lambda name: HEAD + image(name, "call void @abort()"),
}


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
def test_what_is_not_such_a_kernel_is_made_anew(
    cache: Cache, wrong: Callable[[str], bytes]
) -> None:
    kernel = Multiplied(2.0)
    assert in_new_process(kernel, cache)
    (name,) = module._loaded
    cache.put(name, wrong(name))
    assert in_new_process(kernel, cache)
    assert not in_new_process(kernel, cache)


def test_a_folder_that_takes_nothing_stops_nobody(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert in_new_process(Multiplied(2.0), Cache(tmp_path / "file" / "kernels"))


def test_the_cache_is_the_users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FML_CACHE", str(tmp_path / "own"))
    compiled([Multiplied(2.0).recipe])
    (kept,) = tmp_path.glob("own/kernels/*")
    assert kept.is_file()


def test_a_chosen_folder_that_takes_nothing_is_told_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("FML_CACHE", str(tmp_path / "file"))
    with pytest.warns(RuntimeWarning, match="cannot be kept in FML_CACHE=") as told:
        compiled([Multiplied(2.0).recipe, Multiplied(3.0).recipe])
    assert len(told) == 1
    compiled([Multiplied(4.0).recipe])  # a warning would be an error here


def test_its_size_is_bounded(cache: Cache) -> None:
    small = Cache(cache.folder, limit=6000)
    for factor in range(20):
        module._loaded.clear()
        compiled([Multiplied(float(factor)).recipe], None, small)
    sizes = [path.stat().st_size for path in cache.folder.iterdir()]
    assert 1 < len(sizes) < 20
    assert sum(sizes) <= 6000


def test_threads_make_it_once(cache: Cache) -> None:
    kernels = [Multiplied(float(factor)) for factor in range(5)]
    recipes = [kernel.recipe for kernel in kernels]
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda _: compiled(recipes, None, cache), range(16)))
    assert all(codes == results[0] for codes in results)
    assert [kernel.made for kernel in kernels] == [1] * 5


PROCESS = """
import sys
from pathlib import Path
from test_compiled import Cache, Multiplied, compiled
kernels = [Multiplied(float(factor)) for factor in range(30)]
print("ready", flush=True)
sys.stdin.readline()
for kernel in kernels:
    kernel.check(*compiled([kernel.recipe], None, Cache(Path(sys.argv[1]), limit=int(sys.argv[2]))))
print(sum(kernel.made for kernel in kernels))
"""


@pytest.mark.parametrize("limit", [1 << 20, 3000], ids=["roomy", "tight"])
def test_processes_share_it_at_the_same_time(cache: Cache, limit: int) -> None:
    """They write the same entries, and, where there is little room, remove each other's."""
    here = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    command = [sys.executable, "-c", PROCESS, str(cache.folder), str(limit)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    processes = [subprocess.Popen(command, env=here, **pipes) for _ in range(3)]
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in processes:
        out, _ = process.communicate()
        assert process.returncode == 0
        assert 0 <= int(out) <= 30
    names = [path.name for path in cache.folder.iterdir()]
    assert not [name for name in names if name.startswith(".")]
    if limit > 3000:
        assert len(names) == 30
        assert not any(in_new_process(Multiplied(float(f)), cache) for f in range(30))


def test_sources_that_changed_since_they_were_imported_have_no_fingerprint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources = importlib.import_module(fingerprint.__module__)

    def now() -> str | None:
        return fingerprint.__wrapped__()

    monkeypatch.setattr(sources, "_ENGINE", tmp_path)
    assert now() is None  # nothing there
    (tmp_path / "ops" / "deep").mkdir(parents=True)
    (tmp_path / "ops" / "deep" / "a.py").write_text("x = 1")
    assert now() is None  # newer than this process
    monkeypatch.setattr(sources, "IMPORTED", float("inf"))
    first = now()
    assert first is not None
    assert now() == first
    (tmp_path / "ops" / "deep" / "a.py").write_text("x = 2")
    assert now() not in {first, None}
    (tmp_path / "ops" / "deep" / "a.py").rename(tmp_path / "ops" / "a.py")
    assert now() not in {first, None}
