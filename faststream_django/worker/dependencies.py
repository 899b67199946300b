"""Dependencies of handlers, made callable from where they are solved: a thread, or the event loop."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    asynccontextmanager,
    contextmanager,
)
from copy import copy
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

from fast_depends.dependencies import Provider
from fast_depends.utils import is_async_gen_callable, is_coroutine_callable, is_gen_callable
from faststream._internal.context import Context
from faststream.params.no_cast import NoCastField

from faststream_django.worker.database import transaction_left_open
from faststream_django.worker.errands import await_in_task

if TYPE_CHECKING:
    from fast_depends.core import CallModel
    from fast_depends.library import CustomField

    from faststream_django.worker.threads import HandlerThreads

__all__ = ["InThread", "OnLoop"]

Call = Callable[..., Any]


class Adapting(Provider):
    """Provides what another provider has, overrides too, with other calls in it."""

    def __init__(self, provider: Provider) -> None:
        super().__init__()
        self._provider = provider
        self._adapted: dict[Any, tuple[CallModel, CallModel]] = {}

    def get_dependant(self, key: Any) -> CallModel:
        model = self._provider.get_dependant(key)
        known = self._adapted.get(key)
        if known is None or known[0] is not model:
            known = self._adapted[key] = (model, self.adapt(model))
        return known[1]

    def adapt(self, model: CallModel) -> CallModel:
        """Return a model that is solved alike."""
        adapted = copy(model)
        adapted.dependency_provider = self
        adapted.call = self._call(model.call)
        adapted.custom_fields = {name: self._field(each) for name, each in model.custom_fields.items()}
        return adapted

    def _field(self, custom: CustomField) -> CustomField:
        adapted = SimpleNamespace(
            field=custom.field,
            use=self._use(custom, custom.use),
            use_field=self._use(custom, custom.use_field),
        )
        return cast("CustomField", adapted)  # all that fast_depends asks of it when it solves a model

    @abstractmethod
    def _call(self, call: Call) -> Call: ...

    @abstractmethod
    def _use(self, custom: CustomField, use: Call) -> Call: ...


class InThread(Adapting):
    """For a thread: what is async runs in the task that waits for the thread."""

    def _call(self, call: Call) -> Call:
        if is_coroutine_callable(call):
            return partial(await_in_task, call)
        return _entered_in_task(call) if is_async_gen_callable(call) else call

    def _use(self, custom: CustomField, use: Call) -> Call:  # noqa: ARG002
        return self._call(use)


class OnLoop(Adapting):
    """For the event loop: what is not async runs in a thread."""

    def __init__(self, provider: Provider, threads: HandlerThreads) -> None:
        super().__init__(provider)
        self._threads = threads

    def _call(self, call: Call) -> Call:
        if is_coroutine_callable(call) or is_async_gen_callable(call):
            return call
        if is_gen_callable(call):
            return _entered_in_threads(call, self._threads)

        async def run(*args: Any, **kwargs: Any) -> Any:
            return await self._threads.run(partial(call, *args, **kwargs))

        return run

    def _use(self, custom: CustomField, use: Call) -> Call:
        if isinstance(custom, NoCastField) or (isinstance(custom, Context) and custom.initial is None):
            return _at_once(use)  # FastStream's own, which takes a value from where it is
        return self._call(use)


def _at_once(use: Call) -> Call:
    async def run(*args: Any, **kwargs: Any) -> Any:
        return use(*args, **kwargs)

    return run


def _entered_in_task(call: Call) -> Call:
    make = asynccontextmanager(call)

    def generate(*args: Any, **kwargs: Any) -> Iterator[Any]:
        with _InTask(make(*args, **kwargs)) as value:
            yield value

    return generate


def _entered_in_threads(call: Call, threads: HandlerThreads) -> Call:
    make = contextmanager(call)

    async def generate(*args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        async with _InThreads(make(*args, **kwargs), threads) as value:
            yield value

    return generate


class _InTask:
    """An async context manager, entered from a thread."""

    def __init__(self, manager: AbstractAsyncContextManager[Any]) -> None:
        self._manager = manager

    def __enter__(self) -> Any:
        return await_in_task(self._manager.__aenter__)

    def __exit__(self, *raised: Any) -> bool | None:  # noqa: PYI036
        return cast("bool | None", await_in_task(self._manager.__aexit__, *raised))


class _InThreads:
    """A context manager, entered from the event loop: in one thread, and left maybe in another one."""

    def __init__(self, manager: AbstractContextManager[Any], threads: HandlerThreads) -> None:
        self._manager = manager
        self._threads = threads

    async def __aenter__(self) -> Any:
        return await self._threads.run(self._enter)

    async def __aexit__(self, *raised: Any) -> bool | None:  # noqa: PYI036
        return await self._threads.run(partial(self._manager.__exit__, *raised))

    def _enter(self) -> Any:
        value = self._manager.__enter__()
        error = transaction_left_open()
        if error is not None:
            # It ends here: another thread would end a transaction of its own.
            self._manager.__exit__(type(error), error, error.__traceback__)
            raise error
        return value
