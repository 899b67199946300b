"""settings.FASTSTREAM -> frozen dataclasses; the only reader of settings."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, fields
from typing import Any, Literal

from django.conf import settings

from faststream_django.conf.broker_url import InvalidURL, parse_url
from faststream_django.conf.options import read_options
from faststream_django.conf.outbox import OutboxSettings, read_outbox
from faststream_django.conf.secrets import PrivateURL, conceal, with_password
from faststream_django.conf.setting import Reader, Setting, did_you_mean, shown
from faststream_django.conf.topology import ExchangeSettings, QueueSettings, read_exchanges, read_queues
from faststream_django.conf.url_source import URLSource
from faststream_django.conf.worker import WorkerSettings, read_worker
from faststream_django.exceptions import BrokerDoesNotExist, InvalidBroker

__all__ = [
    "BrokerSettings",
    "TestRun",
    "broker_aliases",
    "broker_settings",
    "broker_settings_from",
    "conceal_passwords",
    "is_configured",
    "valid_brokers",
]

RABBIT_BACKEND = "faststream_django.backends.rabbit.RabbitBackend"
MEMORY_BACKEND = "faststream_django.backends.memory.MemoryBackend"

_NO_ENTRIES: Mapping[Any, Any] = {}
_EXAMPLE = "FASTSTREAM = {'default': {'URL': 'amqp://user:password@host/vhost'}}"


@dataclass(frozen=True, slots=True)
class TestRun:
    """What is different while tests run."""

    connect: bool = False
    """Whether messages are published for real, not just checked and forgotten."""


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class BrokerSettings:
    """One entry of ``settings.FASTSTREAM``; times in seconds, sizes in bytes."""

    alias: str = "default"
    urls: tuple[str, ...]
    """Without the password where that is a function, and none where the URL is one."""
    url_source: Callable[[], tuple[str, ...]] | None = field(default=None, repr=False)
    """What gives the URLs of each connection, and may block; None: they are always the same."""
    backend: str
    queues: tuple[QueueSettings, ...] = ()
    exchanges: tuple[ExchangeSettings, ...] = ()
    declare: bool | Literal["passive"] = True
    timeout: float = 5.0
    connect_timeout: float = 3.0
    heartbeat: int = 10
    shutdown_timeout: float = 10.0
    max_message_bytes: int = 1_048_576
    max_in_flight: int = 1000
    autostart: bool = True
    on_commit: Literal["memory", "outbox"] = "memory"
    on_failure: Literal["raise", "outbox"] = "raise"
    outbox: OutboxSettings = field(default_factory=OutboxSettings)
    worker: WorkerSettings = field(default_factory=WorkerSettings)
    options: Mapping[str, Any] = field(default_factory=dict)
    test: TestRun = TestRun()

    def __post_init__(self) -> None:
        object.__setattr__(self, "urls", tuple(PrivateURL(url) for url in self.urls))

    @property
    def uses_outbox(self) -> bool:
        """Whether messages of this alias may be stored in the database."""
        return "outbox" in (self.on_commit, self.on_failure)

    @property
    def is_embedded(self) -> bool:
        """Whether this is the embedded broker, memory://."""
        return bool(self.urls) and parse_url(self.urls[0]).scheme == "memory"

    def __repr__(self) -> str:
        shown = {each.name: getattr(self, each.name) for each in fields(self) if each.repr}
        shown["options"] = list(self.options)  # security objects hold passwords
        return f"BrokerSettings({', '.join(f'{name}={value!r}' for name, value in shown.items())})"


# By the identity of the mapping, which is kept here: its id cannot be given to another one. The last ones
# only, since each override_settings() brings another.
_parsed: dict[int, tuple[Mapping[Any, Any], dict[str, BrokerSettings]]] = {}
_MOST_PARSED = 8


def broker_settings(alias: str) -> BrokerSettings:
    """Return the settings of a broker; raise InvalidBroker or BrokerDoesNotExist.

    The same object every time, as long as ``settings.FASTSTREAM`` is the same object.
    """
    try:
        return _broker_settings(alias)
    except InvalidBroker as error:
        # The frames below hold the URL in local variables, which error pages show.
        raise error.with_traceback(None) from error.__cause__


def broker_aliases() -> tuple[str, ...]:
    """Return the aliases in ``settings.FASTSTREAM``; none if it is not set."""
    aliases = tuple(_entries())
    for alias in aliases:
        if not isinstance(alias, str) or not alias or not alias.isprintable():
            raise InvalidBroker(f"FASTSTREAM: an alias must be a name (str), not {shown(alias)}")
    return aliases


def valid_brokers() -> Iterator[BrokerSettings]:
    """Yield the settings of each broker, in their order; leave out what broker_settings() refuses."""
    with suppress(InvalidBroker):
        for alias in broker_aliases():
            with suppress(InvalidBroker):
                yield broker_settings(alias)


def is_configured() -> bool:
    """Tell whether ``settings.FASTSTREAM`` exists."""
    return hasattr(settings, "FASTSTREAM")


def conceal_passwords() -> None:
    """Have no password shown by what shows the settings, as Django's error page and ``diffsettings``.

    They hide a setting by its name only. Each URL in ``settings.FASTSTREAM`` becomes a PrivateURL, in place;
    settings that are changed later follow with their first use. Nothing is raised for a wrong setting.
    """
    with suppress(InvalidBroker):
        _entries()


def broker_settings_from(alias: str, entry: Mapping[str, Any]) -> BrokerSettings:
    """Validate one entry of the setting; raise InvalidBroker with the place and what to do."""
    given = Setting(f"FASTSTREAM[{shown(alias)}]", entry)
    if str(alias).upper() in _BROKER and not isinstance(entry, Mapping):
        given.refuse(f"belongs under an alias, as in {_EXAMPLE}")
    parsed = given.read(_BROKER)
    if "urls" not in parsed:
        given.refuse("the key 'URL' is missing, for example 'amqp://user:password@host/vhost'")
    parsed |= _access(given, parsed["urls"], parsed.pop("password", None))
    result = BrokerSettings(alias=alias, **{"backend": _default_backend(parsed["urls"]), **parsed})
    if result.declare is True:
        _refuse_reserved_names(given, result)
    return result


def _broker_settings(alias: str) -> BrokerSettings:
    entries, parsed = _parsed_entries()
    if alias not in entries:
        raise BrokerDoesNotExist(_does_not_exist(alias))
    if alias not in parsed:
        parsed.setdefault(alias, broker_settings_from(alias, conceal(entries[alias])))
    return parsed[alias]


def _entries() -> Mapping[Any, Any]:
    return _parsed_entries()[0]


def _parsed_entries() -> tuple[Mapping[Any, Any], dict[str, BrokerSettings]]:
    """Return the setting, and what was parsed of it so far."""
    given = getattr(settings, "FASTSTREAM", _NO_ENTRIES)
    known = _parsed.get(id(given))
    if known is not None:
        return known
    entries = conceal(given)
    if entries is not given:  # it could not be changed
        settings.FASTSTREAM = entries
    if not isinstance(entries, Mapping):
        raise InvalidBroker(f"FASTSTREAM must be a dict of aliases, as in {_EXAMPLE}")
    for oldest in tuple(_parsed)[: 1 - _MOST_PARSED]:
        _parsed.pop(oldest, None)
    return _parsed.setdefault(id(entries), (entries, {}))


def _does_not_exist(alias: str) -> str:
    if aliases := broker_aliases():
        return (
            f"FASTSTREAM has no broker {shown(alias)}{did_you_mean(alias, aliases)}; "
            f"its aliases are {', '.join(map(shown, aliases))}"
        )
    return (
        f"FASTSTREAM has no broker {shown(alias)}: the setting is "
        f"{'empty' if is_configured() else 'missing'}. Add to your settings {_EXAMPLE}"
    )


def _access(given: Setting, urls: Any, password: Any) -> dict[str, Any]:
    """Return the fields for the URLs; what is known now is checked now."""
    if callable(urls):
        return {"urls": (), "url_source": URLSource(given.place, urls, password)}
    if password is None:
        return {}
    # For a function any password does, to see whether the URLs take one.
    complete = tuple(
        _with_password(given["URL"], url, "-" if callable(password) else password) for url in urls
    )
    return (
        {"url_source": URLSource(given.place, urls, password)} if callable(password) else {"urls": complete}
    )


def _with_password(given: Setting, url: str, password: str) -> str:
    problem, complete = "", url
    try:
        complete = with_password(url, password)
    except InvalidURL as error:
        problem = str(error)
    if problem:  # as in _url()
        given.refuse(problem)
    return complete


def _password(given: Setting) -> Any:
    if callable(given.value):
        return given.function()
    if not isinstance(given.value, str) or not given.value:
        given.refuse("must be a str that is not empty, or a function that returns one")
    return PrivateURL(given.value)


def _urls(given: Setting) -> Any:
    if callable(given.value):
        return given.function()
    urls = tuple(_url(each) for each in given.items())
    if len({_default_backend([url]) for url in urls}) > 1:
        given.refuse("amqp:// and memory:// cannot stand together: give each an alias of its own")
    return urls


def _url(given: Setting) -> str:
    problem = ""
    try:
        parse_url(given.value)
    except InvalidURL as error:
        problem = str(error)
    if problem:  # not in the handler: its frames would travel along as the context
        given.refuse(problem)
    return PrivateURL(given.value)


def _default_backend(urls: Sequence[str]) -> str:
    is_embedded = bool(urls) and parse_url(urls[0]).scheme == "memory"
    return MEMORY_BACKEND if is_embedded else RABBIT_BACKEND


def _refuse_reserved_names(given: Setting, broker: BrokerSettings) -> None:
    for key, declared in (("QUEUES", broker.queues), ("EXCHANGES", broker.exchanges)):
        for each in declared:
            if each.name.startswith("amq."):
                given[key].refuse(
                    f"{shown(each.name)}: RabbitMQ reserves names that begin with 'amq.': "
                    "rename it, or set 'DECLARE' to 'passive'"
                )


_TEST: dict[str, tuple[str, Reader]] = {"CONNECT": ("connect", Setting.flag)}
_BROKER: dict[str, tuple[str, Reader]] = {
    "URL": ("urls", _urls),
    "PASSWORD": ("password", _password),
    "BACKEND": ("backend", Setting.dotted_path),
    "QUEUES": ("queues", read_queues),
    "EXCHANGES": ("exchanges", read_exchanges),
    "DECLARE": ("declare", lambda given: given.choice([True, False, "passive"])),
    "TIMEOUT": ("timeout", Setting.seconds),
    "CONNECT_TIMEOUT": ("connect_timeout", Setting.seconds),
    "HEARTBEAT": ("heartbeat", lambda given: given.whole(65_535)),
    "SHUTDOWN_TIMEOUT": ("shutdown_timeout", Setting.seconds),
    "MAX_MESSAGE_BYTES": ("max_message_bytes", lambda given: given.whole(134_217_728)),
    "MAX_IN_FLIGHT": ("max_in_flight", lambda given: given.whole(1_000_000)),
    "AUTOSTART": ("autostart", Setting.flag),
    "ON_COMMIT": ("on_commit", lambda given: given.choice(["memory", "outbox"])),
    "ON_FAILURE": ("on_failure", lambda given: given.choice(["raise", "outbox"])),
    "OUTBOX": ("outbox", read_outbox),
    "WORKER": ("worker", read_worker),
    "OPTIONS": ("options", read_options),
    "TEST": ("test", lambda given: TestRun(**given.read(_TEST))),
}
