"""What a function in a thread has the task do that waits for it: await something on the event loop."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Awaitable, Callable
from queue import SimpleQueue
from typing import Any

__all__ = ["Errand", "await_in_task", "errands"]


class Errands(threading.local):
    """Where a thread sends its errands."""

    send: Callable[[Errand], None]


errands = Errands()


class Errand:
    """A coroutine function to await: a task does, and a thread waits for the result."""

    __slots__ = ("_answers", "_args", "_function", "_kwargs")

    def __init__(
        self, function: Callable[..., Awaitable[Any]], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        self._function = function
        self._args = args
        self._kwargs = kwargs
        self._answers: SimpleQueue[tuple[Any, BaseException | None, dict[Any, Any]]] = SimpleQueue()

    async def run(self) -> None:
        before = contextvars.copy_context()
        result, error = None, None
        try:
            result = await self._function(*self._args, **self._kwargs)
        except asyncio.CancelledError:
            self.refuse()
            raise
        except BaseException as raised:  # noqa: BLE001  # it is raised in the thread
            error = raised
        changed = {
            variable: value
            for variable, value in contextvars.copy_context().items()
            if before.get(variable, before) is not value
        }
        self._answers.put((result, error, changed))

    def refuse(self) -> None:
        """Have the thread's function end: the task is cancelled."""
        self._answers.put((None, asyncio.CancelledError(), {}))

    def wait(self) -> Any:
        result, error, changed = self._answers.get()
        for variable, value in changed.items():
            variable.set(value)
        if error is not None:
            raise error
        return result


def await_in_task(function: Callable[..., Awaitable[Any]], *args: Any, **kwargs: Any) -> Any:
    """Await a coroutine function in the task that waits for this thread; return what it returns.

    Context variables that it sets are set in this thread too. Raise CancelledError if the task is cancelled.
    """
    errand = Errand(function, args, kwargs)
    errands.send(errand)
    return errand.wait()
