"""How FastStream calls handlers: ``def`` ones, with all that they depend on, in one thread of ours."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Reversible, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import wraps
from typing import TYPE_CHECKING, Any

from fast_depends.core import CallModel, build_call_model
from fast_depends.utils import is_async_gen_callable, is_coroutine_callable, is_gen_callable
from faststream._internal.di import FastDependsConfig
from faststream._internal.di.config import BuiltDependant, _unwrap_message_to_fast_depends_decorator
from faststream._internal.utils import apply_types

from faststream_django.worker.dependencies import InThread, OnLoop
from faststream_django.worker.options import handler_options
from faststream_django.worker.source import note_subscriber
from faststream_django.worker.threads import HandlerThreads

if TYPE_CHECKING:
    from fast_depends.dependencies import Dependant
    from faststream._internal.basic_types import Decorator
    from faststream.rabbit import RabbitBroker, RabbitMessage

    from faststream_django.worker.options import Scope

__all__ = ["call_in_threads"]


def call_in_threads(broker: RabbitBroker, threads: HandlerThreads) -> None:
    """Have a broker call its handlers, and what they depend on, as `HandlerInjection` does."""
    given = broker.config.fd_config
    broker.config.fd_config = HandlerInjection(
        use_fastdepends=given.use_fastdepends,
        provider=given.provider,
        serializer=given.serializer,
        context=given.context,
        call_decorators=given.call_decorators,
        threads=threads,
    )


@dataclass(kw_only=True, slots=True)
class HandlerInjection(FastDependsConfig):
    """FastStream's dependency injection, but for the threads in which things run.

    A ``def`` handler is called in one of `threads`, within its scopes, and there its dependencies are
    solved before; what of them is ``async def`` is awaited by the task of the message meanwhile. An
    async handler is called on the loop, as are its async dependencies; each ``def`` in a thread.
    """

    threads: HandlerThreads

    def build_call(
        self,
        call: Callable[..., Any],
        *,
        dependencies: Sequence[Dependant] = (),
        call_decorators: Reversible[Decorator] = (),
    ) -> BuiltDependant:
        # As FastStream's own, whose model it builds too: the schema and the checks of annotations read it.
        scopes = handler_options(call).scopes
        for decorate in reversed((*call_decorators, *self.call_decorators)):
            call = decorate(call)
        is_async = is_coroutine_callable(call)
        model = build_call_model(
            call if is_async else _plain(call),
            is_sync=False,
            extra_dependencies=dependencies,
            dependency_provider=self.provider,
            serializer_cls=self._serializer,
        )
        if not is_async:
            handle = self._in_thread(model, scopes)
        elif scopes:
            raise TypeError(
                f"{model.call_name}() has a decorator of faststream_django that needs a def handler, "
                "and is wrapped in an async one."
            )
        else:
            handle = self._on_loop(model)
        return BuiltDependant(original_call=call, wrapped_call=handle, dependent=model)

    def _in_thread(self, model: CallModel, scopes: Sequence[Scope]) -> Callable[..., Awaitable[Any]]:
        solved = InThread(model.dependency_provider).adapt(model)
        call, context, is_injected = solved.call, self.context, self.use_fastdepends

        def handle(message: RabbitMessage, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            with ExitStack() as stack:
                for scope in scopes:
                    stack.enter_context(scope(message))
                if not is_injected:
                    return call(*args, **kwargs)
                kwargs["context__"] = context
                return solved.solve(*args, stack=stack, cache_dependencies={}, **kwargs)
            raise RuntimeError(f"A dependency of {model.call_name}() has swallowed an error.")

        arguments = _unwrap_message_to_fast_depends_decorator(_arguments, model)

        async def consume(message: RabbitMessage) -> Any:
            args, kwargs = await arguments(message)
            if scopes:
                note_subscriber(context.get_local("handler_"))
            return await self.threads.run(handle, message, args, kwargs)

        return consume

    def _on_loop(self, model: CallModel) -> Callable[..., Awaitable[Any]]:
        call = model.call
        if self.use_fastdepends:
            solved = OnLoop(model.dependency_provider, self.threads).adapt(model)
            call = apply_types(None, context__=self.context)(func=call, model=solved)
        return self.threads.orm_thread.around(_unwrap_message_to_fast_depends_decorator(call, model))


async def _arguments(*args: Any, **kwargs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Take what FastStream makes of a message's body: the arguments of its handler."""
    return args, kwargs


def _plain(call: Callable[..., Any]) -> Callable[..., Any]:
    """Hide from fast_depends that a handler is a generator, as FastStream's own wrapper of it does."""
    if not is_gen_callable(call) and not is_async_gen_callable(call):
        return call

    @wraps(call)
    def handler(*args: Any, **kwargs: Any) -> Any:
        return call(*args, **kwargs)

    return handler
