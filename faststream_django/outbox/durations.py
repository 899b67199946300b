"""Lengths of time as people write and read them: 30s, 5m, 1h, 7d."""

from __future__ import annotations

import re

__all__ = ["parse_duration", "spoken"]

_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_MOST = 100 * 365 * 86_400.0


def parse_duration(text: str) -> float:
    """Return the seconds; raise ValueError that says how to write a duration."""
    match = re.fullmatch(r"(\d{1,10}(?:\.\d{1,3})?)([smhd])", text.strip(), re.ASCII)
    if match is None:
        raise ValueError(f"{text!r} is no duration: write a number and s, m, h or d, as in 30s, 5m, 1h or 7d")
    seconds = float(match[1]) * _SECONDS[match[2]]
    if seconds > _MOST:
        raise ValueError(f"{text!r} is more than a hundred years")
    return seconds


def spoken(seconds: float) -> str:
    """Return a length of time with two significant units at most: "4 s", "3 min", "2 h 5 min", "9 d"."""
    rest = max(0, int(seconds))
    days, rest = divmod(rest, 86_400)
    hours, rest = divmod(rest, 3600)
    minutes, rest = divmod(rest, 60)
    if days:
        return f"{days:,} d" if days > 6 or not hours else f"{days} d {hours} h"
    if hours:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    return f"{minutes} min" if minutes else f"{rest} s"
