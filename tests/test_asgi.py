"""with_lifespan() and the server, event by event; tests/processes/test_asgi.py has real servers."""

import asyncio

import pytest
from django.core.asgi import get_asgi_application

from faststream_django import brokers, publish
from faststream_django.asgi import with_lifespan
from faststream_django.loop import loop_thread


@pytest.fixture(autouse=True)
def _memory(settings):
    settings.FASTSTREAM = {
        "default": {"URL": "memory://asgi", "QUEUES": ["orders"]},
        "idle": {"URL": "memory://asgi-idle", "AUTOSTART": False},
    }
    loop_thread.stop()
    yield
    brokers.stop()


class Server:
    """A server's side of the protocol."""

    def __init__(self, application):
        self.answers = asyncio.Queue()
        self._events = asyncio.Queue()
        self.running = asyncio.create_task(
            application({"type": "lifespan", "asgi": {}}, self._events.get, self.answers.put)
        )

    async def tell(self, event):
        await self._events.put({"type": f"lifespan.{event}"})
        return await self.answer()

    async def answer(self):
        async with asyncio.timeout(20):
            return (await self.answers.get())["type"].removeprefix("lifespan.")


async def silent(scope, receive, send):
    """Has no lifespan, and says so by returning."""


async def raises(scope, receive, send):
    await receive()
    raise ValueError("No lifespan.")


@pytest.mark.parametrize("application", [get_asgi_application(), silent, raises])
def test_brokers_start_and_end_with_the_server(application):
    async def main():
        server = Server(with_lifespan(application))

        assert await server.tell("startup") == "startup.complete"
        assert loop_thread.is_started
        await asyncio.to_thread(publish, 1, "orders")
        assert brokers["default"].is_connected
        assert not brokers["idle"].is_connected
        assert await server.tell("shutdown") == "shutdown.complete"
        assert not loop_thread.is_started
        await server.running

    asyncio.run(main())


def test_brokers_with_autostart_only_are_started(settings):
    settings.FASTSTREAM = {"default": {"URL": "memory://asgi", "AUTOSTART": False}}

    async def main():
        server = Server(with_lifespan(silent))
        await server.tell("startup")
        assert not loop_thread.is_started
        await server.tell("shutdown")

    asyncio.run(main())


def test_an_application_with_a_lifespan_starts_after_the_brokers_and_ends_before_them():
    seen = []

    async def application(scope, receive, send):
        for event in ("startup", "shutdown"):
            assert (await receive())["type"] == f"lifespan.{event}"
            seen.append((event, loop_thread.is_started))
            await send({"type": f"lifespan.{event}.complete"})

    async def main():
        server = Server(with_lifespan(application))
        assert await server.tell("startup") == "startup.complete"
        assert await server.tell("shutdown") == "shutdown.complete"
        await server.running

    asyncio.run(main())
    assert seen == [("startup", True), ("shutdown", True)]
    assert not loop_thread.is_started


def test_an_application_may_fail_to_start():
    async def application(scope, receive, send):
        await receive()
        await send({"type": "lifespan.startup.failed"})
        raise LookupError

    async def main():
        server = Server(with_lifespan(application))
        assert await server.tell("startup") == "startup.failed"
        with pytest.raises(LookupError):
            await server.running

    asyncio.run(main())


def test_everything_else_is_passed_on_unchanged():
    passed = []

    async def application(*call):
        passed.append(call)

    call = ({"type": "http"}, object(), object())
    asyncio.run(with_lifespan(application)(*call))

    assert passed == [call]
    assert passed[0][0] is call[0]
