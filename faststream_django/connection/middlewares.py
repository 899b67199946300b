"""Takes messages through FastStream's middlewares, each in a task of its own."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable
from functools import partial

from faststream_django.backends.base import Backend, NotSent, Publication, Settled, Verdict
from faststream_django.backends.turns import Turns
from faststream_django.connection.errors import repeated, swallowed
from faststream_django.exceptions import PublishError
from faststream_django.messages.message import Message

__all__ = ["Middlewares"]


class Middlewares:
    """Runs the middlewares of a backend for each message, and sends what they make of it.

    `post` sends on the session of the moment or on the next, `withdraw` takes that back, and `on_done` is
    called once for each message that is not cancelled.
    """

    def __init__(
        self,
        backend: Backend,
        post: Callable[[Publication, Message, Settled], None],
        withdraw: Callable[[Publication], None],
        on_done: Callable[[Publication, BaseException | None], None],
    ) -> None:
        self._backend = backend
        self._post = post
        self._withdraw = withdraw
        self._on_done = on_done
        self._loop = asyncio.get_running_loop()
        self._tasks: dict[Publication, asyncio.Task[None]] = {}
        self._turns = Turns()

    def start(self, publication: Publication, context: contextvars.Context | None) -> None:
        """Have the middlewares see a message, in the context of its caller."""
        if publication.caller is not None:
            publication.turn = self._turns.take(publication.caller, publication.message.exchange)
        self._tasks[publication] = self._loop.create_task(self._process(publication), context=context)

    def cancel(self, publication: Publication) -> None:
        """Stop a message that the caller has given up, if the middlewares still have it."""
        task = self._tasks.pop(publication, None)
        if task is not None:
            self._end_turn(publication)
            task.cancel()

    async def _process(self, publication: Publication) -> None:
        error: BaseException | None = None
        try:
            await self._backend.process(publication, partial(self._transmit, publication))
            if not publication.confirmed:
                error = swallowed(publication)
        except BaseException as raised:  # noqa: BLE001 - SystemExit would end the loop for every caller
            error = raised
        if error is not None and publication.is_uncertain:
            if not isinstance(error, PublishError):
                error.add_note(f"The broker may have message {publication.message.message_id}.")
            elif not error.maybe_sent:
                error = repeated(publication, error)
        self._end_turn(publication)
        if self._tasks.pop(publication, None) is not None:
            self._on_done(publication, error)

    async def _transmit(self, publication: Publication, message: Message) -> None:
        """Send what the middlewares have made of the message. They may do that several times."""
        outcome: asyncio.Future[PublishError | None] = self._loop.create_future()

        def on_settled(_: Publication, verdict: Verdict) -> None:
            if outcome.done():
                return
            if isinstance(verdict, NotSent):  # here, where the lost ones are told in their order
                self._post(publication, message, on_settled)
            else:
                outcome.set_result(verdict)

        try:
            if publication.turn is not None:
                await publication.turn.came.wait()
            self._post(publication, message, on_settled)
            self._end_turn(publication)
            verdict = await outcome
        except asyncio.CancelledError:  # a middleware has a time limit of its own
            self._withdraw(publication)
            publication.in_doubt = publication.is_uncertain
            raise
        if verdict is not None and not verdict.maybe_sent:
            publication.maybe_sent = False
            raise verdict
        publication.in_doubt = True
        if verdict is not None:
            raise verdict
        publication.confirmed = True

    def _end_turn(self, publication: Publication) -> None:
        turn, publication.turn = publication.turn, None
        if turn is not None:
            self._turns.end(turn)
