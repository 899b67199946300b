"""Stands in for a connection in the tests of the verbs: keeps what it is given, fails where it is told to."""

import contextlib
import threading
from dataclasses import dataclass, field

from faststream_django import brokers
from faststream_django.backends.base import Publication
from faststream_django.connection.bulk import BulkResult, Chunk


@dataclass
class Send:
    """One call, as the connection got it."""

    broker: str
    messages: list
    timeout: float | None
    thread: int = field(default_factory=threading.get_ident)

    @property
    def bodies(self):
        return [message.decode() for message in self.messages]


class Recorder:
    """Makes the senders of every alias; all write into one list, in the order of the calls."""

    def __init__(self):
        self.sends = []
        self.errors = {}
        self.stop_at = None
        self.raises = False  # what send_many() never does

    def fail(self, body, error):
        """Have the messages with this body fail."""
        self.errors[body] = error

    @property
    def bodies(self):
        return [body for send in self.sends for body in send.bodies]

    def __call__(self, settings):
        return RecordingSender(settings, self)


class RecordingSender:
    def __init__(self, settings, recorder):
        self.settings = settings
        self.recorder = recorder

    def start(self):
        """Nothing to connect."""

    def send(self, message, timeout=None):
        self._note([message], timeout)
        if error := self._error(message):
            raise error

    async def asend(self, message, timeout=None, caller=None, *, processed=False):
        self.send(message, timeout)

    def send_many(self, items, timeout=None, on_settled=lambda chunk: None):
        result, chunk = self._settle(list(items), timeout)
        on_settled(chunk)
        return result

    async def asend_many(self, items, timeout=None, on_settled=None):
        result, chunk = self._settle([item async for item in items], timeout)
        await on_settled(chunk)
        return result

    def _settle(self, messages, timeout):
        self._note(messages, timeout)
        chunk, result = Chunk(), BulkResult(stopped_at=self.recorder.stop_at)
        for index, message in enumerate(messages[: self.recorder.stop_at]):
            publication = Publication(message, self.settings.alias)
            chunk.add(index, publication)
            if error := self._error(message):
                if self.recorder.raises:
                    raise error
                chunk.errors[index] = error
            else:
                publication.confirmed = True
        result.errors.update(chunk.errors)
        result.confirmed = len(chunk.publications) - len(chunk.errors)
        return result, chunk

    def _note(self, messages, timeout):
        self.recorder.sends.append(Send(self.settings.alias, messages, timeout))

    def _error(self, message):
        body = message.decode()
        return self.recorder.errors.get(body) if isinstance(body, str) else None


@contextlib.contextmanager
def recording():
    """Send into a Recorder while the context lasts."""
    recorder = Recorder()
    with brokers.replaced(recorder):
        yield recorder
