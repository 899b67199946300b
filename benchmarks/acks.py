"""What the broker saw of a worker: that it gets every message once, and acknowledges it after its handler."""

from __future__ import annotations

import re
from dataclasses import dataclass

from benchmarks.contenders import Entrant
from benchmarks.witness import NotTheSameWork
from tests.nodes import RabbitMQNode

__all__ = ["AckWitness", "Acks"]

# What the node counted since its start for classic queues, and what is in one of them now.
_LOOK = """
#{{[{{protocol, amqp091}}, {{queue_type, rabbit_classic_queue}}] := Counted}} =
    rabbit_global_counters:overview(),
[Churn] = ets:tab2list(connection_churn_metrics),
Now = case rabbit_amqqueue:lookup(rabbit_misc:r(<<"/">>, queue, <<"{queue}">>)) of
    {{ok, Queue}} ->
        [{{_, R}}, {{_, U}}, {{_, P}}, {{_, D}}] = rabbit_amqqueue:info(Queue,
            [messages_ready, messages_unacknowledged, messages_persistent, durable]),
        {{R, U, P, case D of true -> 1; false -> 0 end}};
    _ -> {{0, 0, 0, 0}}
end,
{{maps:get(messages_acknowledged_total, Counted),
  maps:get(messages_redelivered_total, Counted),
  element(2, Churn), Now}}.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Acks:
    acknowledged: int
    redelivered: int
    connections_made: int
    ready: int
    unacknowledged: int
    persistent: int
    is_durable: int


class AckWitness:
    """Raises NotTheSameWork where a worker does less than the others."""

    def __init__(self, node: RabbitMQNode) -> None:
        self._node = node

    def look(self, queue: str) -> Acks:
        numbers = map(int, re.findall(r"\d+", self._node.ctl("eval", _LOOK.format(queue=queue))))
        names = (
            "acknowledged", "redelivered", "connections_made",
            "ready", "unacknowledged", "persistent", "is_durable",
        )  # fmt: skip
        return Acks(**dict(zip(names, numbers, strict=True)))

    def check_held(self, entrant: Entrant, before: Acks, now: Acks) -> None:
        """Look while the handler of one message runs."""
        seen = {
            "acknowledged": now.acknowledged - before.acknowledged,
            "waiting for its acknowledgement": now.unacknowledged,
        }
        wanted = {"acknowledged": 0, "waiting for its acknowledgement": 1}
        _compare(f"{entrant.title} handles a message", seen, wanted)

    def check_filled(self, entrant: Entrant, now: Acks, messages: int) -> None:
        """Look once the messages of a round are in the queue."""
        seen = {"stored persistently": now.persistent, "the queue is durable": now.is_durable}
        wanted = {"stored persistently": messages, "the queue is durable": 1}
        _compare(f"{entrant.title} got {messages} messages", seen, wanted)

    def check_handled(self, entrant: Entrant, before: Acks, now: Acks, messages: int) -> None:
        """Look after a round."""
        seen = {
            "acknowledged": now.acknowledged - before.acknowledged,
            "delivered again": now.redelivered - before.redelivered,
            "left": now.ready + now.unacknowledged,
        }
        wanted = {"acknowledged": messages, "delivered again": 0, "left": 0}
        _compare(f"{entrant.title} handled {messages} messages", seen, wanted)

    def check_empty(self, entrant: Entrant) -> None:
        """Look after each round, at a small price."""
        left = self._node.count(entrant.queue)
        if left:
            raise NotTheSameWork(f"{entrant.title} left {left} messages in its queue")


def _compare(what: str, seen: dict[str, int], wanted: dict[str, int]) -> None:
    wrong = {name: number for name, number in seen.items() if number != wanted[name]}
    if wrong:
        raise NotTheSameWork(f"{what}, but RabbitMQ says: {wrong}")
