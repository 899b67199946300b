"""The figures as a table: for a terminal and for Markdown."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Iterable, Iterator
from importlib.metadata import version
from itertools import groupby

from benchmarks.bar import Verdict
from benchmarks.contenders import ENTRANTS
from benchmarks.contest import Row, Rows
from benchmarks.scenario import Scenario

__all__ = ["circumstances", "markdown", "rival", "table"]

_LIBRARIES = (
    "Django", "faststream", "aio-pika", "aiormq", "pika", "kombu", "celery", "dramatiq", "AMQPStorm",
)  # fmt: skip
_LIBRARIES_OF_OUTBOXES = (
    "psycopg", "faststream-outbox", "SQLAlchemy", "asyncpg", "django-celery-outbox", "django-outbox-pattern",
    "stomp.py",
)  # fmt: skip
_HEADER = ("median", "lowest - highest", "against the best peer", "CPU/message", "connections")
_BEGIN, _END = "<!-- figures: begin, written by make bench -->", "<!-- figures: end -->"


def circumstances(servers: str, rounds: int, *, with_database: bool) -> str:
    """Say what was measured where."""
    names = _LIBRARIES + (_LIBRARIES_OF_OUTBOXES if with_database else ())
    libraries = ", ".join(f"{name} {version(name)}" for name in names)
    return (
        f"{os.cpu_count()} cores, {platform.system()}, {platform.python_implementation()} "
        f"{platform.python_version()}; on the same machine {servers}; "
        f"{libraries}. Median of {rounds} rounds after a warm-up; confirmed, persistent, mandatory, "
        "a durable queue, where nothing else is said; bodies of 100 bytes, of 300 where there is a database "
        "or a worker."
    )


def rival(rows: Rows) -> Row | None:
    """Return whom to beat among the rows of one workload: the best that is neither ours nor the limit."""
    against = rows[0].scenario.against
    peers = [
        row
        for row in rows
        if (row.contender == against if against else ENTRANTS[row.contender].kind == "peer")
    ]
    if not peers:
        return None
    choose = max if rows[0].scenario.unit.is_higher_better else min
    return choose(peers, key=lambda row: row.median)


def table(rows: Rows, verdicts: Iterable[Verdict]) -> str:
    lines = []
    for scenario, cells in _by_scenario(rows):
        lines.append(f"\n{scenario.title} ({_unit(scenario)})")
        width = max(28, *(len(name) for name, *_ in cells)) if len(cells) > 1 else 40
        lines.append(f"  {'':<{width}}" + _aligned(*_HEADER))
        lines += [f"  {name:<{width}}{_aligned(*rest)}" for name, *rest in cells]
    lines.append("\nBars")
    lines += [
        f"  {verdict.word:<9}{verdict.title:<66}{verdict.figure:>19}  wanted {verdict.wanted}"
        for verdict in verdicts
    ]
    return "\n".join(lines)


def markdown(rows: Rows, verdicts: Iterable[Verdict], where: str, written: str) -> str:
    """Return `written`, the present text of the file, with the figures between its marks replaced."""
    ours = tuple(entrant.title for entrant in ENTRANTS.values() if entrant.kind == "ours")
    lines = [_BEGIN, "", where, ""]
    lines.append(_markdown_row("scenario", "contender", *_HEADER))
    lines.append(_markdown_row("---", "---", *(["---:"] * len(_HEADER))))
    for scenario, cells in _by_scenario(rows):
        title = f"{scenario.title} ({_unit(scenario)})"
        for name, *rest in cells:
            shown = f"**{name}**" if name.startswith(ours) else name
            lines.append(_markdown_row(title, shown, *rest))
            title = ""
    lines += ["", _markdown_row("bar", "wanted", "measured", "")]
    lines.append(_markdown_row("---", "---:", "---:", "---"))
    for verdict in verdicts:
        lines.append(_markdown_row(verdict.title, verdict.wanted, verdict.figure, verdict.word))
    lines += ["", _END]
    before, _, old = written.partition(_BEGIN)
    _, _, after = old.partition(_END)
    return before + "\n".join(lines) + (after or "\n")


def _by_scenario(rows: Rows) -> Iterator[tuple[Scenario, list[tuple[str, ...]]]]:
    for scenario, group in groupby(rows, key=lambda row: row.scenario):
        cells = []
        for _, same in groupby(group, key=lambda row: row.workload.label):
            contest = list(same)
            peer = rival(contest)
            cells += [_cells(row, peer) for row in contest]
        yield scenario, cells


def _cells(row: Row, peer: Row | None) -> tuple[str, ...]:
    title = ENTRANTS[row.contender].title
    name = f"{title}, {row.workload.label}" if row.workload.label else title
    return (
        name,
        _number(row.median),
        f"{_number(min(row.figures))} - {_number(max(row.figures))}",
        f"{row.median / peer.median:.2f} x" if peer else "",
        f"{row.cpu_per_message * 1e6:,.0f} us",
        _connections(row) + _memory(row) + _slow(row),
    )


def _connections(row: Row) -> str:
    if row.connections is None:
        return ""
    if row.connections >= row.workload.total:
        return "1 a message"
    return str(row.connections) if row.connections else "the same"


def _memory(row: Row) -> str:
    grown = [sample.last_bytes - sample.first_bytes for sample in row.samples if sample.last_bytes]
    return f"{statistics.median(grown) / 1e6:+.1f} MB" if grown else ""


def _slow(row: Row) -> str:
    return f", 95 %: {row.slow_seconds * 1e3:.1f} ms" if row.scenario.shows_slow else ""


def _unit(scenario: Scenario) -> str:
    return f"{scenario.unit.name}, {'more' if scenario.unit.is_higher_better else 'less'} is better"


def _number(figure: float) -> str:
    return f"{figure:,.0f}" if figure >= 100 else f"{figure:.3g}"


def _aligned(median: str, spread: str, ratio: str, cpu: str, connections: str) -> str:
    return f"{median:>10}{spread:>22}{ratio:>23}{cpu:>13}  {connections:>11}"


def _markdown_row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"
