"""What the worker writes into the headers of a message that failed, and reads when it comes back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "ATTEMPTS",
    "ERROR",
    "EXCHANGE",
    "FAILED",
    "FAILED_AT",
    "INVALID",
    "LEFT_OUT",
    "OF_THE_WORKER",
    "QUEUE",
    "REASON",
    "REJECTED",
    "ROUTING_KEY",
    "UNDECODABLE",
    "UNHANDLED",
    "attempts_of",
    "user_headers",
]

ATTEMPTS = "faststream-attempts"
"""How often the message was handled, an int."""
QUEUE = "faststream-queue"
"""The queue that it was consumed from."""
EXCHANGE = "faststream-exchange"
"""The exchange that it was published to; empty: the default exchange."""
ROUTING_KEY = "faststream-routing-key"
"""The routing key that it was published with."""
REASON = "faststream-reason"
"""Why it is here: one of the reasons below."""
ERROR = "faststream-error"
"""The type of the error and the place that it was raised at, without values of the message."""
FAILED_AT = "faststream-failed-at"
"""When it failed last, a datetime in whole seconds."""
LEFT_OUT = "faststream-left-out"
"""The names of the headers that could not be kept, a list; missing where all could."""

FAILED = "failed"
"""The handler, a dependency of it or a middleware raised an error."""
INVALID = "invalid"
"""The body does not fit the arguments of the handler, or is larger than MAX_MESSAGE_BYTES."""
UNDECODABLE = "undecodable"
"""The body cannot be parsed."""
UNHANDLED = "unhandled"
"""No handler of the queue takes it: the filters of all refuse it."""
REJECTED = "rejected"
"""The handler raised RejectMessage."""

OF_THE_WORKER = frozenset({ATTEMPTS, QUEUE, EXCHANGE, ROUTING_KEY, REASON, ERROR, FAILED_AT, LEFT_OUT})
# What RabbitMQ writes or routes by: CC and BCC would send copies elsewhere.
_OF_THE_BROKER = frozenset(
    {"CC", "BCC", "x-death", "x-delivery-count", "x-acquired-count", "x-stream-offset"}
)
_OF_DEATHS = ("x-first-death-", "x-last-death-")


def attempts_of(headers: Mapping[str, Any]) -> int:
    """Return how often a message was handled before; 0 for what no worker has written."""
    count = headers.get(ATTEMPTS)
    return count if type(count) is int and count > 0 else 0


def user_headers(headers: Mapping[str, Any]) -> dict[str, Any]:
    """Return the headers that the publisher wrote, without the worker's and RabbitMQ's."""
    return {
        name: value
        for name, value in headers.items()
        if name not in OF_THE_WORKER and name not in _OF_THE_BROKER and not name.startswith(_OF_DEATHS)
    }
