import asyncio

from faststream_django import apublish_many, publish_many
from faststream_django.backends.memory.refusals import ServerRefused


def bodies(server, queue="orders"):
    try:
        return [message.decode() for message in server.drain(queue)]
    except ServerRefused:  # nothing has connected, so the queue is not declared
        return []


def run(verb, *arguments, **options):
    """Call a verb, an async one in a loop of its own."""

    async def main():
        return await verb(*arguments, **options)

    return asyncio.run(main()) if asyncio.iscoroutinefunction(verb) else verb(*arguments, **options)


def call(verb, payload, *arguments, **options):
    """Call a verb with one payload."""
    payload = [payload] if verb in (publish_many, apublish_many) else payload
    return run(verb, payload, *arguments, **options)
