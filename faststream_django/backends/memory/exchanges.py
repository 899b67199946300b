"""The exchanges of the embedded broker, what is bound to them, and where a message goes from there."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from faststream_django.backends.memory.queue import Queue
from faststream_django.backends.memory.refusals import ServerRefused, refuse_other
from faststream_django.backends.memory.routing import EXCHANGE_TYPES, matches

__all__ = ["Exchange", "Exchanges"]


@dataclass(frozen=True, slots=True)
class Binding:
    """A binding: what goes from an exchange to a queue or to another exchange."""

    destination: Queue | Exchange
    routing_key: str
    arguments: Mapping[str, Any]


@dataclass(slots=True, eq=False, kw_only=True)
class Exchange:
    """An exchange and what is bound to it."""

    name: str
    type: str = "direct"
    durable: bool = True
    auto_delete: bool = False
    internal: bool = False
    arguments: Mapping[str, Any] = field(default_factory=dict)
    bindings: list[Binding] = field(default_factory=list)


class Exchanges:
    """The exchanges of one server, which holds its lock while it asks them."""

    def __init__(self, queues: Mapping[str, Queue]) -> None:
        self._queues = queues
        self._exchanges = {exchange.name: exchange for exchange in _predeclared()}

    def __getitem__(self, name: str) -> Exchange:
        """Return the exchange or raise NOT_FOUND."""
        if name not in self._exchanges:
            raise ServerRefused(404, f"NOT_FOUND - no exchange '{name}' in vhost '/'")
        return self._exchanges[name]

    def get(self, name: str) -> Exchange | None:
        return self._exchanges.get(name)

    def declare(
        self,
        name: str,
        type: str,  # noqa: A002
        *,
        durable: bool,
        auto_delete: bool,
        internal: bool,
        arguments: Mapping[str, Any],
    ) -> Exchange:
        """Declare an exchange; raise PRECONDITION_FAILED if there is another with its name."""
        if type not in EXCHANGE_TYPES:
            raise ServerRefused(503, f"COMMAND_INVALID - unknown exchange type '{type}'")
        properties: dict[str, object] = {
            "type": type,
            "durable": durable,
            "auto_delete": auto_delete,
            "internal": internal,
        }
        exchange = self._exchanges.get(name)
        if exchange is not None:
            current = {key: getattr(exchange, key) for key in properties}
            refuse_other(
                "exchange",
                name,
                properties | dict(arguments),
                current | dict(exchange.arguments),
            )
            return exchange
        if name.startswith("amq."):
            raise ServerRefused(
                403,
                f"ACCESS_REFUSED - exchange name '{name}' contains reserved prefix 'amq.*'",
            )
        exchange = Exchange(
            name=name,
            type=type,
            durable=durable,
            auto_delete=auto_delete,
            internal=internal,
            arguments=dict(arguments),
        )
        self._exchanges[name] = exchange
        return exchange

    def bind(
        self, destination: Queue | Exchange, source: str, routing_key: str, arguments: Mapping[str, Any]
    ) -> None:
        """Let messages of the exchange ``source`` reach the queue or exchange."""
        exchange = self[source]
        if not source:
            raise ServerRefused(403, "ACCESS_REFUSED - operation not permitted on the default exchange")
        binding = Binding(destination, routing_key, dict(arguments))
        if binding not in exchange.bindings:
            exchange.bindings.append(binding)

    def unbind(self, destination: Queue | Exchange) -> None:
        """Remove every binding of what is deleted; auto-delete exchanges go with their last."""
        for exchange in list(self._exchanges.values()):
            self._unbind(exchange, destination)

    def _unbind(self, exchange: Exchange, destination: Queue | Exchange) -> None:
        kept = [binding for binding in exchange.bindings if binding.destination is not destination]
        if len(kept) == len(exchange.bindings):
            return
        exchange.bindings[:] = kept
        if exchange.auto_delete and not kept:
            del self._exchanges[exchange.name]
            self.unbind(exchange)

    def route(
        self, exchange: Exchange, routing_keys: Collection[str], headers: Mapping[str, Any]
    ) -> Iterable[Queue]:
        """Return the queues that a message reaches from the exchange, each once."""
        queues: dict[str, Queue] = {}
        seen = {exchange.name}
        exchanges = [exchange]
        for current in exchanges:
            for destination in self._destinations(current, routing_keys, headers):
                if isinstance(destination, Queue):
                    queues[destination.name] = destination
                elif destination.name not in seen:
                    seen.add(destination.name)
                    exchanges.append(destination)
        return queues.values()

    def _destinations(
        self, exchange: Exchange, routing_keys: Collection[str], headers: Mapping[str, Any]
    ) -> list[Queue | Exchange]:
        if not exchange.name:
            return [self._queues[key] for key in routing_keys if key in self._queues]
        destinations = [
            binding.destination
            for binding in exchange.bindings
            if matches(exchange.type, binding.routing_key, binding.arguments, routing_keys, headers)
        ]
        alternate = exchange.arguments.get("alternate-exchange")
        if not destinations and alternate in self._exchanges:
            return [self._exchanges[alternate]]
        return destinations


def _predeclared() -> Iterator[Exchange]:
    yield Exchange(name="")
    for exchange_type in EXCHANGE_TYPES:
        yield Exchange(name=f"amq.{exchange_type}", type=exchange_type)
    yield Exchange(name="amq.match", type="headers")
