"""Lines for a terminal: tables, and texts that do nothing to it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

__all__ = ["as_table", "cut", "printable"]


def as_table(rows: Iterable[Sequence[str]], headings: Sequence[str]) -> Iterator[str]:
    """Yield the lines of a table, a screen at a time, each column as wide as what it has held so far."""
    widths = [len(heading) for heading in headings]
    lines: list[Sequence[str]] = [headings]
    for row in rows:
        lines.append(row)
        if len(lines) >= 100:
            yield from _aligned(lines, widths)
            lines = []
    yield from _aligned(lines, widths)


def printable(text: str) -> str:
    """Return a text that does nothing to a terminal."""
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else f"\\x{ord(each):02x}" for each in text)


def cut(text: str, length: int) -> str:
    """Return a text of at most this length, with a sign where something is missing."""
    return text if len(text) <= length else f"{text[: length - 1]}…"


def _aligned(lines: Iterable[Sequence[str]], widths: list[int]) -> Iterator[str]:
    lines = list(lines)
    for line in lines:
        widths[:] = [max(width, len(cell)) for width, cell in zip(widths, line, strict=True)]
    for line in lines:
        yield "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
