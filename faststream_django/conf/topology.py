"""The queues, exchanges and bindings of a broker, and how the settings are read into them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from faststream_django.conf.setting import Reader, Setting, shown

__all__ = ["Binding", "ExchangeSettings", "QueueSettings", "read_exchanges", "read_queues"]

# What pamqp lets pass; RabbitMQ itself takes any UTF-8.
_DRIVER_NAME = re.compile(r"[a-zA-Z0-9-_.:@#,/+ ]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Binding:
    """Binds a queue (or an exchange) to the exchange `source`."""

    source: str
    routing_key: str = ""
    arguments: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueSettings:
    """A queue to declare when a connection is made."""

    name: str
    type: Literal["classic", "quorum", "stream"] = "classic"
    durable: bool = True
    exclusive: bool = False
    auto_delete: bool = False
    arguments: Mapping[str, Any] = field(default_factory=dict)
    bindings: tuple[Binding, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ExchangeSettings:
    """An exchange to declare when a connection is made."""

    name: str
    type: str = "direct"
    durable: bool = True
    auto_delete: bool = False
    internal: bool = False
    arguments: Mapping[str, Any] = field(default_factory=dict)
    bindings: tuple[Binding, ...] = ()


def read_queues(given: Setting) -> tuple[QueueSettings, ...]:
    """Read QUEUES."""
    return tuple(_queue(name, options) for name, options in _named(given, queue_name))


def _queue(name: str, given: Setting) -> QueueSettings:
    queue = QueueSettings(name=name, **given.read(_QUEUE))
    if "x-queue-type" in queue.arguments:
        given.refuse("set 'type' instead of the argument 'x-queue-type'")
    if queue.type != "classic" and (not queue.durable or queue.exclusive or queue.auto_delete):
        given.refuse(f"a {queue.type} queue must be durable and can be neither exclusive nor auto_delete")
    return queue


def read_exchanges(given: Setting) -> tuple[ExchangeSettings, ...]:
    """Read EXCHANGES."""
    return tuple(
        ExchangeSettings(name=name, **options.read(_EXCHANGE))
        for name, options in _named(given, exchange_name)
    )


def queue_name(given: Setting) -> str:
    """Read the name of a queue, as the driver can declare it."""
    name = given.name()
    if not _DRIVER_NAME.fullmatch(name):
        given.refuse(
            f"{shown(name)}: the AMQP driver can only declare names made of the letters a to z and A to Z, "
            "digits, spaces and - _ . : @ # , / +"
        )
    return name


def exchange_name(given: Setting) -> str:
    """Read the name of an exchange, as the driver can declare it."""
    name = queue_name(given)
    if len(name) > 127:
        given.refuse(
            f"{shown(name)}: the AMQP driver allows at most 127 characters in the name of an exchange"
        )
    return name


def _exchange_type(given: Setting) -> Any:
    if isinstance(given.value, str) and given.value.startswith("x-"):  # a plugin's
        return given.name()
    return given.choice(["direct", "topic", "fanout", "headers"])


def _named(given: Setting, read_name: Callable[[Setting], str]) -> list[tuple[str, Setting]]:
    """Read a list of names, or a dict of names and their options."""
    if isinstance(given.value, (list, tuple)):
        names = [read_name(given[index]) for index in range(len(given.value))]
        if len(set(names)) < len(names):
            given.refuse("a name stands there twice")
        return [(name, Setting(given.place, {})) for name in names]
    if not isinstance(given.value, Mapping):
        given.refuse("must be a list of names, or a dict of names and their options")
    return [
        (
            read_name(Setting(given.place, name)),
            Setting(given[name].place, {} if options is None else options),
        )
        for name, options in given.value.items()
    ]


def _bindings(given: Setting) -> tuple[Binding, ...]:
    """Read {exchange: a routing key, a dict, or a list of these}, or a list of such dicts."""
    if isinstance(given.value, (list, tuple)):
        return tuple(binding for each in given.items() for binding in _bindings(each))
    return tuple(
        _binding(exchange_name(Setting(given.place, source)), binding)
        for source in given.mapping()
        for binding in given[source].items()
    )


def _binding(source: str, given: Setting) -> Binding:
    if given.value is None:
        return Binding(source=source)
    if isinstance(given.value, Mapping):
        return Binding(source=source, **given.read(_BINDING))
    return Binding(source=source, routing_key=given.text())


_QUEUE: dict[str, tuple[str, Reader]] = {
    "type": ("type", lambda given: given.choice(["classic", "quorum", "stream"])),
    "durable": ("durable", Setting.flag),
    "exclusive": ("exclusive", Setting.flag),
    "auto_delete": ("auto_delete", Setting.flag),
    "arguments": ("arguments", Setting.table),
    "bind": ("bindings", _bindings),
}
_EXCHANGE: dict[str, tuple[str, Reader]] = {
    "type": ("type", _exchange_type),
    "durable": ("durable", Setting.flag),
    "auto_delete": ("auto_delete", Setting.flag),
    "internal": ("internal", Setting.flag),
    "arguments": ("arguments", Setting.table),
    "bind": ("bindings", _bindings),
}
_BINDING: dict[str, tuple[str, Reader]] = {
    "routing_key": ("routing_key", Setting.text),
    "arguments": ("arguments", Setting.table),
}
