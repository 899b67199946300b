"""What a test does with its messages: catch them without a broker, or let them use the real ones."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any

from faststream_django.backends.memory.server import MemoryServer
from faststream_django.loop.thread import loop_thread
from faststream_django.registry import brokers
from faststream_django.testing.blocks import Block
from faststream_django.testing.capture import capturing
from faststream_django.testing.failing import Failing, FailWith
from faststream_django.testing.messages import CapturedMessages
from faststream_django.testing.replying import NO_REPLY

__all__ = ["capture_messages", "real_brokers"]


class capture_messages(Block["CapturedMessages"]):  # noqa: N801 - named as Django's override_settings
    """Capture what would be published, in every thread of this process; no broker is needed.

    Everything is validated as usual: a bad payload, option or alias raises an error. The signals are sent
    as if a broker had confirmed each message. Messages of publish_on_commit() appear when their
    transaction commits, or in the transaction of a TestCase, which never commits, when the code under test
    would have committed. Captures can be nested; each of them sees the messages.

    Use it as a context manager (in async code: ``async with``), as a decorator of a test function, which
    gets the messages if it has a parameter ``messages``, or as a decorator of a TestCase class, whose
    tests have ``self.messages``.

    ``fail_with`` makes publishes fail: a PublishError or a subclass of it fails them all; a list has one
    entry per message, in order, with None for success, and everything after its end succeeds; a function
    takes the `Message` and returns an error or None. With ``fail_on``, an alias or several, only
    messages to these brokers can fail. Messages that fail are not captured.

    ``reply_with`` is what a request() gets: the value that the handler would return, or a function that takes
    the `Message` and returns it; a PublishError, such as ``RequestTimeout("...")``, is raised. Without
    ``reply_with`` a request raises RuntimeError.
    """

    name = "messages"
    not_in_event_loop = (
        "capture_messages() in async code would not see the messages of publish_on_commit(): "
        "write `async with capture_messages() as messages:`."
    )

    def __init__(
        self,
        *,
        fail_with: FailWith | None = None,
        fail_on: str | Collection[str] | None = None,
        reply_with: Any = NO_REPLY,
    ) -> None:
        super().__init__()
        self._failing = Failing(fail_with, fail_on)
        self._reply_with = reply_with

    @contextmanager
    def open(self) -> Iterator[CapturedMessages]:
        with capturing(self._failing, self._reply_with) as capture:
            yield CapturedMessages(capture)


class real_brokers(Block[None]):  # noqa: N801 - named as Django's override_settings
    """Publish for real in a test run, in every thread, while the block lasts.

    Otherwise a test run validates each message, announces it as confirmed, and forgets it; nothing
    connects and no subscriber runs. Takes the aliases that may connect; without arguments, all may.
    Inside an open capture_messages() messages are still captured.

    When the block ends, the messages in flight are settled, running handlers of the embedded broker get
    SHUTDOWN_TIMEOUT seconds to finish, the connections are closed, and the queues of the embedded broker
    are emptied. Use it as a context manager (in async code: ``async with``), or as a decorator of a test
    function or a TestCase class.
    """

    not_in_event_loop = (
        "real_brokers() in async code would block the event loop when it ends: "
        "write `async with real_brokers():`."
    )

    def __init__(self, *aliases: str) -> None:
        super().__init__()
        self._aliases = aliases

    @contextmanager
    def open(self) -> Iterator[None]:
        with brokers.unguarded(*self._aliases):
            try:
                yield
            finally:
                loop_thread.stop()
                MemoryServer.purge_all()
