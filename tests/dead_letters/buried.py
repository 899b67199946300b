"""Dead letters as the worker writes them, put into their queues by hand."""

import datetime as dt

from faststream_django.worker import headers
from tests.waiting import wait_until

ERROR = "ValueError at shop/subscribers.py:7"


def described(queue, **changes):
    """Return the headers of a dead letter."""
    return {
        headers.ATTEMPTS: 5,
        headers.QUEUE: queue,
        headers.EXCHANGE: "",
        headers.ROUTING_KEY: queue,
        headers.REASON: headers.FAILED,
        headers.ERROR: ERROR,
        headers.FAILED_AT: dt.datetime.now(dt.UTC).replace(microsecond=0),
        "tenant": "acme",
        **changes,
    }


def bury(node, queue, count, *, first=0, **changes):
    """Put letters with the ids m-0, m-1, ... into the dead letters of a queue, which exist."""
    import pika

    already = node.count(f"{queue}.dlq")
    with node.channel() as channel:
        for number in range(first, first + count):
            channel.basic_publish(
                "",
                f"{queue}.dlq",
                b'{"number": %d}' % number,
                pika.BasicProperties(
                    delivery_mode=2,
                    message_id=f"m-{number}",
                    content_type="application/json",
                    headers=described(queue, **changes),
                ),
            )
    wait_until(lambda: node.count(f"{queue}.dlq") == already + count)


def ids_in(node, queue, count=0):
    """Take out all messages of a queue, at least so many; return their ids."""
    ids = []

    def are_there():
        ids.extend(message.properties.message_id for message in node.drain(queue))
        return len(ids) >= count

    wait_until(are_there)
    return ids
