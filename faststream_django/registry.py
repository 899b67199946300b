"""The registry: alias -> connection, one of each per process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

from django.utils.module_loading import import_string

from faststream_django.backends.base import Backend
from faststream_django.conf.entries import BrokerSettings, broker_aliases, broker_settings
from faststream_django.connection.connection import Connection
from faststream_django.connection.sender import Sender
from faststream_django.connection.stand_in import StandIn
from faststream_django.exceptions import InvalidBroker
from faststream_django.guard import runs_tests
from faststream_django.loop.imports import undisturbed
from faststream_django.loop.thread import loop_thread

__all__ = ["Brokers", "brokers", "make_backend"]

# Seconds that the first publish waits for imports of other threads to end. It may be called in one itself.
IMPORTS_TIMEOUT = 0.5


class Brokers:
    """Maps the aliases of ``settings.FASTSTREAM`` to their connections.

    A connection is made with the first use of its alias, and made anew when its settings change. Raises
    BrokerDoesNotExist for an unknown alias and InvalidBroker for a wrong entry.
    """

    def __init__(self) -> None:
        # By the id of their settings, which broker_settings() makes anew when the setting is changed: so a
        # lookup compares nothing, and a connection never serves other settings than its own. It holds them,
        # so that no other object can get their id. Without a lock, which a fork could inherit while another
        # thread holds it: each operation on the dict is atomic; of two new ones setdefault() keeps the first.
        self._connections: dict[int, Connection] = {}
        self._stand_ins: list[Callable[[BrokerSettings], Sender]] = []
        self._unguarded: list[tuple[str, ...]] = []

    def __getitem__(self, alias: str) -> Sender:
        settings = broker_settings(alias)
        if self._stand_ins:
            return self._stand_ins[-1](settings)
        if runs_tests() and self._is_guarded(settings):
            return StandIn(settings)
        return self._connections.get(id(settings)) or self._connect(settings)

    def __contains__(self, alias: object) -> bool:
        return alias in broker_aliases()

    def __iter__(self) -> Iterator[str]:
        return iter(broker_aliases())

    def __len__(self) -> int:
        return len(broker_aliases())

    def start(self, *aliases: str) -> None:
        """Start connecting in the background and return immediately, even if a broker is unavailable.

        Without arguments, all aliases are started.
        """
        for alias in aliases or broker_aliases():
            self[alias].start()

    def stop(self, timeout: float | None = None) -> None:
        """Settle the messages in flight and close all connections at the same time, within `timeout` seconds.

        The default is each alias's SHUTDOWN_TIMEOUT. A later publish connects again.
        """
        loop_thread.refuse_itself()
        # Those of this moment: threads that go on publishing make others, without end.
        connections = [self._connections.pop(key, None) for key in tuple(self._connections)]
        waits = [connection.begin_stop(timeout) for connection in connections if connection is not None]
        for wait in waits:
            wait()

    @property
    def are_replaced(self) -> bool:
        """Whether something stands in for the connections."""
        return bool(self._stand_ins)

    @contextmanager
    def replaced(self, make: Callable[[BrokerSettings], Sender]) -> Iterator[None]:
        """Send through what `make` returns for an alias, in every thread, while the context lasts."""
        self._stand_ins.append(make)
        try:
            yield
        finally:
            self._stand_ins.remove(make)

    @contextmanager
    def unguarded(self, *aliases: str) -> Iterator[None]:
        """Connect as in production although tests run, in every thread, while the context lasts.

        Without arguments every alias does.
        """
        for alias in aliases:
            broker_settings(alias)  # raises for one that does not exist
        self._unguarded.append(aliases)
        try:
            yield
        finally:
            self._unguarded.remove(aliases)

    def _is_guarded(self, settings: BrokerSettings) -> bool:
        """Tell whether messages of a test run end here; see faststream_django.testing.real_brokers()."""
        if settings.test.connect:
            return False
        return not any(not aliases or settings.alias in aliases for aliases in self._unguarded)

    def _connect(self, settings: BrokerSettings) -> Connection:
        connection = Connection(settings, partial(make_backend, settings))
        connection = self._connections.setdefault(id(settings), connection)
        for key, other in list(self._connections.items()):
            if other is not connection and not _is_current(other.settings):
                self._connections.pop(key, None)
                wait = other.begin_stop()
                if not loop_thread.is_current():  # as for a handler of the embedded broker
                    wait()
        return connection


def make_backend(settings: BrokerSettings) -> Backend:
    """Return a backend for the settings; raise InvalidBroker if BACKEND names none."""
    with undisturbed(IMPORTS_TIMEOUT):
        backend = import_string(settings.backend)
    if not (isinstance(backend, type) and issubclass(backend, Backend)):
        raise InvalidBroker(
            f"FASTSTREAM[{settings.alias!r}]['BACKEND']: {settings.backend!r} is not a subclass of "
            "faststream_django.backends.base.Backend"
        )
    return backend(settings)


def _is_current(settings: BrokerSettings) -> bool:
    """Tell whether the alias still exists, and with these settings."""
    try:
        return broker_settings(settings.alias) is settings
    except InvalidBroker:
        return False


brokers = Brokers()
