"""The thread in which asgiref runs the ORM of async handlers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import wraps
from typing import Any

from asgiref.sync import SyncToAsync, ThreadSensitiveContext, sync_to_async

from faststream_django.worker.database import clean_up, close_all, close_broken

__all__ = ["ORMThread"]


class ORMThread:
    """One thread for the ORM of all async handlers and of what they depend on.

    asgiref's common one belongs to the views, and a forked child waits for it for ever.
    """

    def __init__(self) -> None:
        self._context = ThreadSensitiveContext()
        self._handlers = 0

    def around(self, handle: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        """Have the ORM of a coroutine function use this thread, and clean up its connections.

        They are shared: while other handlers run, only those that are broken are closed.
        """

        @wraps(handle)
        async def run(*args: Any, **kwargs: Any) -> Any:
            token = SyncToAsync.thread_sensitive_context.set(self._context)
            self._handlers += 1
            try:
                if self._handlers == 1:
                    await self._clean_up()
                try:
                    result = await handle(*args, **kwargs)
                except Exception:
                    await self._clean_up()
                    raise
                # Not after a cancellation: the process may be ending, without threads.
                if self._handlers == 1:
                    await self._clean_up()
                return result
            finally:
                self._handlers -= 1
                with suppress(ValueError):  # the loop has ended, and what is left of it ends elsewhere
                    SyncToAsync.thread_sensitive_context.reset(token)

        return run

    def stop(self) -> None:
        """Have the thread end, with its connections; whoever needs one later has a new one."""
        executor = SyncToAsync.context_to_thread_executor.pop(self._context, None)
        if executor is not None:
            executor.submit(close_all)
            executor.shutdown(wait=False)

    async def _clean_up(self) -> None:
        # No thread yet: no handler has used the ORM, and a hop to a thread costs more than most messages.
        if self._context not in SyncToAsync.context_to_thread_executor:
            return
        if self._handlers > 1:
            await sync_to_async(close_broken)()
            return
        error = (await sync_to_async(clean_up)()).error
        if error is not None:
            raise error
