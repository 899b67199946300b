"""Where an error came from, as its traceback tells."""

from __future__ import annotations

from collections.abc import Iterator
from types import CodeType, FrameType

__all__ = ["codes", "is_of", "place"]


def codes(error: BaseException) -> list[CodeType]:
    """Return the functions that the error came through, the innermost last."""
    return [frame.f_code for frame, _ in _frames(error)]


def is_of(error: BaseException, module: str, *, below: tuple[str, ...] = ()) -> bool:
    """Tell whether the error was raised in this module or package, or in what it called in those `below`."""
    for name in reversed([_module(frame) for frame, _ in _frames(error)]):
        if name == module or name.startswith(f"{module}."):
            return True
        if name.partition(".")[0] not in below:
            return False
    return False


def place(error: BaseException, package: str) -> str:
    """Return where the error was raised, such as "shop.stock:12 in reserve", or an empty text.

    That is the innermost line of this package, since one in a library says little; without one, the last.
    """
    frames = list(_frames(error))
    own = [each for each in frames if _module(each[0]).partition(".")[0] == package]
    for frame, line in reversed(own or frames):
        return f"{_module(frame)}:{line} in {frame.f_code.co_name}"
    return ""


def _frames(error: BaseException) -> Iterator[tuple[FrameType, int]]:
    traceback = error.__traceback__
    while traceback is not None:
        yield traceback.tb_frame, traceback.tb_lineno
        traceback = traceback.tb_next


def _module(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", ""))
