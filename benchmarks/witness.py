"""What the broker saw, whatever a contender says of itself."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from benchmarks.contenders import Entrant
from benchmarks.workload import MARK
from tests.nodes import RabbitMQNode

__all__ = ["NotTheSameWork", "Sight", "Witness"]

# Since its start the node counts what it received, what of that on channels in confirm mode, what it
# confirmed, and the connections it accepted. The queue is emptied in the same breath, so that no
# connection of ours comes between two looks.
_LOOK = """
#{{[{{protocol, amqp091}}] := Counted}} = rabbit_global_counters:overview(),
[Churn] = ets:tab2list(connection_churn_metrics),
{{Ready, Persistent, Durable}} =
    case rabbit_amqqueue:lookup(rabbit_misc:r(<<"/">>, queue, <<"{queue}">>)) of
        {{ok, Queue}} ->
            [{{_, R}}, {{_, P}}, {{_, D}}] =
                rabbit_amqqueue:info(Queue, [messages, messages_persistent, durable]),
            {{ok, _}} = rabbit_amqqueue:purge(Queue),
            {{R, P, case D of true -> 1; false -> 0 end}};
        _ -> {{0, 0, 0}}
    end,
{{maps:get(messages_received_total, Counted),
  maps:get(messages_received_confirm_total, Counted),
  maps:get(messages_confirmed_total, Counted),
  element(2, Churn), Ready, Persistent, Durable}}.
"""


class NotTheSameWork(Exception):
    """Contenders whose figures must not stand side by side."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    received: int
    received_in_confirm_mode: int
    confirmed: int
    connections_made: int
    stored: int
    stored_persistent: int
    is_durable: int


class Witness:
    def __init__(self, node: RabbitMQNode) -> None:
        self._node = node

    def look(self, queue: str) -> Sight:
        """Read the counters of the node and of a queue, and empty the queue."""
        numbers = re.findall(r"\d+", self._node.ctl("eval", _LOOK.format(queue=queue)))
        received, in_confirm_mode, confirmed, connections, stored, persistent, durable = map(int, numbers)
        return Sight(
            received=received,
            received_in_confirm_mode=in_confirm_mode,
            confirmed=confirmed,
            connections_made=connections,
            stored=stored,
            stored_persistent=persistent,
            is_durable=durable,
        )

    def check(self, entrant: Entrant, before: Sight, after: Sight, messages: int) -> None:
        """Raise NotTheSameWork unless every message was published and stored as it must be."""
        title = entrant.title
        seen = {
            "received": after.received - before.received,
            "received on channels in confirm mode": (
                after.received_in_confirm_mode - before.received_in_confirm_mode
            ),
            "confirmed": after.confirmed - before.confirmed,
            "stored": after.stored,
            "stored persistently": after.stored_persistent,
        }
        if "is_confirmed" in entrant.lacks:
            del seen["received on channels in confirm mode"], seen["confirmed"]
        wrong = {what: number for what, number in seen.items() if number != messages}
        if wrong:
            raise NotTheSameWork(f"{title} published {messages} messages, but RabbitMQ says: {wrong}")
        if not after.is_durable:
            raise NotTheSameWork(f"{title} published to a queue that is not durable")

    def collect(self, entrant: Entrant, messages: int) -> None:
        """Raise NotTheSameWork unless the messages of a round are in the queue; empty it."""
        queue = entrant.queue
        with self._node.channel() as channel:
            stored = channel.queue_declare(queue, passive=True).method.message_count
            _, properties, body = channel.basic_get(queue, auto_ack=True)
            channel.queue_purge(queue)
        if stored != messages:
            raise NotTheSameWork(f"{entrant.title} published {messages} messages, but {stored} arrived")
        if messages:
            _check_message(entrant.title, properties, body)


def _check_message(title: str, properties: Any, body: bytes) -> None:
    if properties.delivery_mode != 2 or MARK.encode() not in body:
        raise NotTheSameWork(f"{title} published another message: {properties} {body[:200]!r}")
