"""Django's database connections around a handler."""

from __future__ import annotations

from functools import wraps
from typing import TYPE_CHECKING, Any

from asgiref.sync import SyncToAsync, ThreadSensitiveContext, sync_to_async
from django.db import close_old_connections

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


__all__ = ["clean_up_around"]


def clean_up_around(orm_thread: ThreadSensitiveContext, handler: Callable[..., Any]) -> Callable[..., Any]:
    """Close Django's stale connections around the handler, in the thread that uses them.

    What a request does with its signals. A connection inside an atomic block is left alone.
    """
    from fast_depends.utils import is_coroutine_callable

    if is_coroutine_callable(handler):
        return _clean_up_async(orm_thread, handler)

    @wraps(handler)
    def run(*args: Any, **kwargs: Any) -> Any:
        close_old_connections()
        try:
            return handler(*args, **kwargs)
        finally:
            close_old_connections()

    return run


def _clean_up_async(
    orm_thread: ThreadSensitiveContext, handler: Callable[..., Awaitable[Any]]
) -> Callable[..., Awaitable[Any]]:
    async def clean_up() -> None:
        # No thread yet: no handler has used the ORM, and a hop to a thread costs more than most messages.
        if orm_thread in SyncToAsync.context_to_thread_executor:
            await sync_to_async(close_old_connections)()

    @wraps(handler)
    async def run(*args: Any, **kwargs: Any) -> Any:
        # The ORM of all async handlers runs in one thread, as asgiref does it, but not in asgiref's
        # common one: that belongs to the views, and a forked child waits for it for ever.
        token = SyncToAsync.thread_sensitive_context.set(orm_thread)
        try:
            await clean_up()
            try:
                result = await handler(*args, **kwargs)
            except Exception:
                await clean_up()
                raise
            await clean_up()  # not after a cancellation: the process may be ending, without threads
            return result
        finally:
            SyncToAsync.thread_sensitive_context.reset(token)

    return run
