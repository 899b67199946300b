"""A courier on a session that answers when the test says so."""

import asyncio

from faststream_django.backends.base import Backend, Publication, Session
from faststream_django.conf import BrokerSettings
from faststream_django.connection.bulk import Bulk
from faststream_django.connection.courier import Courier
from faststream_django.messages import Message


class SlowSession(Session):
    def __init__(self):
        self.closed = asyncio.get_running_loop().create_future()
        self.posted = []
        self.withdrawn = []
        self.heard = 0.0

    @property
    def heard_at(self):
        return self.heard

    def post(self, message, publication, on_settled, *, more=False):
        publication.on_settled = on_settled
        self.posted.append(publication)

    def withdraw(self, publication):
        self.withdrawn.append(publication)

    def answer(self, verdict=None):
        publication = self.posted.pop(0)
        publication.on_settled(publication, verdict)

    async def close(self):
        self.abort("closed")


class SlowBackend(Backend):
    def __init__(self, middleware=None, **settings):
        super().__init__(BrokerSettings(urls=("amqp://localhost/",), backend="", timeout=0.05, **settings))
        self.sessions = []
        self._middleware = middleware

    @property
    def is_direct(self):
        return self._middleware is None

    async def process(self, publication, transmit):
        await self._middleware(lambda: transmit(publication.message))

    async def connect(self, url):
        self.sessions.append(SlowSession())
        return self.sessions[-1]


def run(scenario, middleware=None, **settings):
    """Run a scenario with a courier that is connected; return what it returns."""

    async def main():
        backend = SlowBackend(middleware, **settings)
        courier = Courier(backend)
        courier.start()
        async with asyncio.timeout(10):
            while not courier.is_connected:  # noqa: ASYNC110 - the loop is the one that is tested
                await asyncio.sleep(0)
            return await scenario(courier, backend)

    return asyncio.run(main())


def send(courier, *, timeout=5.0, **options):
    """Send a message; return it and the list that will hold what came of it."""
    publication, told = Publication(Message.encode(b"x", "orders"), "default", timeout, **options), []
    courier.send(publication, lambda _, error: told.append(error))
    return publication, told


def bulk_of(count):
    """Return a bulk and its only chunk."""
    bulk = Bulk("default", 5.0)
    for _ in range(count):
        bulk.feed(Message.encode(b"x", "orders"))
    return bulk, bulk.rest()


async def until(condition):
    while not condition():  # noqa: ASYNC110
        await asyncio.sleep(0)


async def another_session(backend):
    while len(backend.sessions) < 2 or not backend.sessions[1].posted:  # noqa: ASYNC110
        await asyncio.sleep(0)
    return backend.sessions[1]


async def posted(session):
    """Wait until the session has a message; note that it is written, as a session does."""
    while not session.posted:  # noqa: ASYNC110
        await asyncio.sleep(0)
    session.posted[0].begin_sending()


async def told_of(told):
    while not told:  # noqa: ASYNC110
        await asyncio.sleep(0)
    return told[0]
