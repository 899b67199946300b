import asyncio
import importlib
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from faststream_django.loop import imports

SOON = 5.0

# The package imports its module when another thread is about to import the same.
PACKAGE = """
import sys, threading, time

def is_locking(frame):
    return frame.f_code.co_name in ("acquire", "_get_module_lock")

me = threading.get_ident()
threading.Thread(target=sys.rival, daemon=True).start()
deadline = time.monotonic() + 5
while not any(ident != me and is_locking(frame) for ident, frame in sys._current_frames().items()):
    assert time.monotonic() < deadline
import NAME.part
"""


@pytest.fixture
def package(tmp_path, monkeypatch):
    name = f"package_{tmp_path.name.replace('-', '_')}"
    (tmp_path / name).mkdir()
    (tmp_path / name / "__init__.py").write_text(PACKAGE.replace("NAME", name))
    (tmp_path / name / "part.py").write_text("value = 42")
    monkeypatch.syspath_prepend(tmp_path)
    return name


@pytest.fixture
def slow_import(tmp_path, monkeypatch):
    """A thread in the middle of an import, until the event is set."""
    (tmp_path / "slow_module.py").write_text("import sys; sys.entered.set(); sys.go_on.wait(30)")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "entered", threading.Event(), raising=False)
    monkeypatch.setattr(sys, "go_on", threading.Event(), raising=False)
    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(importlib.import_module, "slow_module")
        assert sys.entered.wait(SOON)
        yield sys.go_on
        sys.go_on.set()
        done.result(SOON)
    del sys.modules["slow_module"]


def test_threads_that_import_one_package_from_both_ends_get_whole_modules(package, monkeypatch):
    """Without a lock for both, Python hands one of them a module that is half done."""
    outcomes = []

    def rival():
        try:
            outcomes.append(importlib.import_module(f"{package}.part").value)
        except Exception as error:
            outcomes.append(error)

    monkeypatch.setattr(sys, "rival", rival, raising=False)
    with imports.undisturbed(SOON):
        importlib.import_module(package)

    deadline = time.monotonic() + SOON
    while not outcomes:
        assert time.monotonic() < deadline
    assert outcomes == [42]


def test_import_of_another_thread_is_seen(slow_import):
    assert imports.others_import()


def test_import_of_this_thread_is_not_another(tmp_path, monkeypatch):
    (tmp_path / "own_module.py").write_text(
        "from faststream_django.loop.imports import others_import\nseen = others_import()"
    )
    monkeypatch.syspath_prepend(tmp_path)

    assert importlib.import_module("own_module").seen is False


def test_undisturbed_waits_until_others_are_done(slow_import):
    threading.Timer(0.1, slow_import.set).start()

    with imports.undisturbed(SOON):
        assert slow_import.is_set()
        assert imports._imp.lock_held()
    assert not imports._imp.lock_held()


def test_undisturbed_goes_on_without_lock_where_others_import_for_ever(slow_import):
    with imports.undisturbed(0.05):
        assert not imports._imp.lock_held()


def test_quiet_waits_no_longer_than_its_patience(slow_import):
    asyncio.run(imports.quiet(0.05))

    assert not slow_import.is_set()
    slow_import.set()
    asyncio.run(imports.quiet(SOON))


class Monkey:
    def __init__(self, *patched):
        self.patched = patched

    def is_module_patched(self, name):
        return name in self.patched


def test_nobody_waits_or_is_held_up_where_threads_are_greenlets(monkeypatch, slow_import):
    """A greenlet in the middle of an import would wait for us with its whole thread."""
    monkeypatch.setitem(sys.modules, "gevent.monkey", Monkey("threading"))
    monkeypatch.setattr(imports.time, "sleep", lambda seconds: pytest.fail("it waited"))

    with imports.undisturbed(SOON):
        assert not imports._imp.lock_held()


def test_gevent_that_is_only_imported_changes_nothing(monkeypatch):
    monkeypatch.setitem(sys.modules, "gevent.monkey", Monkey())

    with imports.undisturbed(SOON):
        assert imports._imp.lock_held()
