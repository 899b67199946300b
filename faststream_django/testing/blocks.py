"""A block of a test: entered by ``with`` or ``async with``, or put above a test or a TestCase class."""

from __future__ import annotations

import asyncio
import os
import unittest
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, suppress
from copy import copy
from functools import wraps
from inspect import iscoroutinefunction, signature
from typing import Any, ClassVar, Generic, TypeVar, cast

from asgiref.sync import sync_to_async
from django.core.exceptions import SynchronousOnlyOperation

__all__ = ["Block"]

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])


class Block(ABC, Generic[T]):
    """Opens something for the time of a block; the same object may be used again, also inside itself."""

    name: ClassVar[str] = ""
    """The parameter of a decorated test, or the attribute of a decorated TestCase, for what is opened."""
    not_in_event_loop: ClassVar[str]
    """What a plain ``with`` would do wrong in async code, and what to write."""

    def __init__(self) -> None:
        self._exits: list[ExitStack] = []

    @abstractmethod
    def open(self) -> AbstractContextManager[T]:
        """Return a new context manager; called where the ORM runs."""

    def __enter__(self) -> T:
        with suppress(RuntimeError):
            asyncio.get_running_loop()
            if not os.environ.get("DJANGO_ALLOW_ASYNC_UNSAFE"):
                raise SynchronousOnlyOperation(self.not_in_event_loop)
        return self._enter()

    def __exit__(self, *exc_info: object) -> None:
        self._exits.pop().close()

    async def __aenter__(self) -> T:
        # Where the ORM runs: a transaction belongs to the connection of that thread.
        return await sync_to_async(self._enter)()

    async def __aexit__(self, *exc_info: object) -> None:
        await sync_to_async(self.__exit__)()

    def __call__(self, decorated: F) -> F:
        """Decorate a test, sync or async, or a TestCase class, each test of which gets its own block."""
        if isinstance(decorated, type):
            return cast("F", self._decorate_class(decorated))
        return cast("F", self._decorate_function(decorated))

    def _enter(self) -> T:
        stack = ExitStack()
        opened = stack.enter_context(self.open())
        self._exits.append(stack)
        return opened

    def _fresh(self) -> Block[T]:
        block = copy(self)
        block._exits = []  # noqa: SLF001
        return block

    def _decorate_class(self, cls: type) -> type:
        if not issubclass(cls, unittest.TestCase):
            raise TypeError(
                f"{type(self).__name__}() decorates functions and unittest's TestCase classes, and "
                f"{cls.__name__} is no TestCase. Decorate its tests, or use pytest's fixture or marker."
            )
        set_up: Callable[[unittest.TestCase], None] = cls.setUp

        @wraps(set_up)
        def decorated_set_up(case: unittest.TestCase) -> None:
            block = self._fresh()
            opened = block._enter()  # noqa: SLF001
            case.addCleanup(block.__exit__)
            if self.name:
                setattr(case, self.name, opened)
            set_up(case)

        cls.setUp = decorated_set_up  # type: ignore[method-assign, assignment]
        return cls

    def _decorate_function(self, function: Callable[..., Any]) -> Callable[..., Any]:
        given = signature(function)
        is_wanted = self.name in given.parameters

        def arguments(opened: T, named: dict[str, Any]) -> dict[str, Any]:
            return {**named, self.name: opened} if is_wanted else named

        @wraps(function)
        def run(*args: Any, **named: Any) -> Any:
            with self._fresh() as opened:
                return function(*args, **arguments(opened, named))

        @wraps(function)
        async def arun(*args: Any, **named: Any) -> Any:
            async with self._fresh() as opened:
                return await function(*args, **arguments(opened, named))

        decorated: Any = arun if iscoroutinefunction(function) else run
        # pytest takes parameters for fixtures, and this one is given here.
        rest = [each for name, each in given.parameters.items() if name != self.name]
        decorated.__signature__ = given.replace(parameters=rest)
        return cast("Callable[..., Any]", decorated)
