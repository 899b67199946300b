"""Messages as a worker gets them, and handlers as its threads run them."""

import asyncio
import contextvars
import threading
from contextlib import ExitStack

from aio_pika import IncomingMessage
from aiormq.abc import DeliveredMessage
from django.db import connections
from faststream.exceptions import AckMessage
from faststream.rabbit import RabbitRouter
from faststream.rabbit.parser import AioPikaParser
from pamqp.commands import Basic
from pamqp.header import ContentHeader

from faststream_django.worker.options import handler_options
from faststream_django.worker.source import note_subscriber
from tests.engines import skip_database_in_memory


def message(message_id="m-1", *, body=b"{}", headers=None):
    """Return a message as FastStream parses it."""
    properties = Basic.Properties(message_id=message_id, headers=headers or {})
    header = ContentHeader(body_size=len(body), properties=properties)
    delivered = DeliveredMessage(Basic.Deliver("tag", 1), header, body, channel=None)
    return asyncio.run(AioPikaParser().parse_message(IncomingMessage(delivered, no_ack=True)))


def handle(handler, message, queue="orders", *, prefix=""):
    """Run the handler as for a message of this queue; tell whether it ran."""
    return contextvars.copy_context().run(_handle, handler, message, queue, prefix)


def _handle(handler, message, queue, prefix):
    note_subscriber(RabbitRouter(prefix=prefix).subscriber(queue))
    try:
        with ExitStack() as stack:
            for scope in handler_options(handler).scopes:
                stack.enter_context(scope(message))
            handler(message)
    except AckMessage:
        return False
    return True


class Worker(threading.Thread):
    """A thread that handles one message."""

    def __init__(self, handler, message, **options):
        skip_database_in_memory()
        super().__init__(daemon=True)
        self._work = lambda: handle(handler, message, **options)
        self.ran = None
        self.error = None
        self.start()

    def run(self):
        try:
            self.ran = self._work()
        except Exception as error:
            self.error = error
        finally:
            connections.close_all()

    def outcome(self):
        """Wait for its end; return whether the handler ran, or its error."""
        self.join(30)
        assert not self.is_alive(), "the handler does not end"
        return self.error or self.ran
