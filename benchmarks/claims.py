"""What the relay's reading of a batch costs when the table is full: python -m benchmarks.claims ENGINE."""

from __future__ import annotations

import argparse
import contextlib
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from faststream_django.outbox.relay.reading import Reader

BATCH, BATCHES, TRIES = 500, 20, 5
KEYS = 1_000
BODY = "x" * 300


def main() -> None:
    options = _options()
    os.environ["TEST_DATABASE"] = options.engine
    os.environ["DJANGO_SETTINGS_MODULE"] = "tests.settings"
    with tempfile.TemporaryDirectory() as folder, _server(options.engine, Path(folder)):
        from django.core.management import call_command

        call_command("migrate", verbosity=0)
        _measure(options)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("engine", choices=["postgresql", "mariadb", "sqlite"])
    parser.add_argument("--scheduled", type=int, default=1_000_000, help="rows that are due in years")
    parser.add_argument("--dead", type=int, default=5_000_000)
    parser.add_argument("--deleted", type=int, default=300_000, help="rows relayed under a held snapshot")
    return parser.parse_args()


@contextlib.contextmanager
def _server(engine: str, folder: Path) -> Iterator[None]:
    import django
    from django.conf import settings

    from tests.nodes import MariaDBServer, PostgreSQLCluster

    server: Any = None
    if engine == "postgresql":
        server = PostgreSQLCluster(int(settings.POSTGRESQL_PORT))
    elif engine == "mariadb":
        server = MariaDBServer(int(settings.MARIADB_PORT))
    else:
        settings.DATABASES["default"]["NAME"] = str(folder / "outbox.sqlite3")
    if server is not None:
        server.start()
    try:
        django.setup()
        yield
    finally:
        if server is not None:
            server.close()


def _measure(options: argparse.Namespace) -> None:
    from django.db import connection

    from faststream_django.outbox.models import State
    from tests.outbox.crowds import FAR, analyze, fill

    def scheduled() -> None:
        fill(connection, options.scheduled, State.WAITING, due=FAR)

    def dead() -> None:
        scheduled()
        fill(connection, options.dead, State.DEAD, due=0)

    bar = _say("empty table", _batches_of_new_table(lambda: None))
    front = f"{options.scheduled:,} scheduled rows in front"
    _say(f"{front}, statistics of an empty table", _batches_of_new_table(scheduled), bar)
    front += f", {options.dead:,} dead ones"
    _say(f"{front}, statistics of an empty table", _batches_of_new_table(dead), bar)
    if options.engine == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("VACUUM faststream_outbox")
    analyze(connection)
    _say(f"{front}, analysed", _batches(), bar)
    if options.engine != "sqlite":
        with _held_snapshot():
            _say(
                f"{front}, {options.deleted:,} rows deleted under a held snapshot",
                _batches(_relay(options.deleted)),
                bar,
            )
    print(_explained())
    _say("empty table, once more", _batches_of_new_table(lambda: None), bar)


def _batches_of_new_table(fill: Callable[[], None]) -> list[tuple[float, float]]:
    """Measure behind the rows that are filled in, with the statistics of an empty table."""
    from django.db import connection

    from tests.outbox.crowds import analyze

    with connection.cursor() as cursor:
        if connection.vendor == "sqlite":
            cursor.execute("DELETE FROM faststream_outbox")
        else:
            cursor.execute("TRUNCATE TABLE faststream_outbox")
        if connection.vendor == "postgresql":
            cursor.execute("ALTER TABLE faststream_outbox SET (autovacuum_enabled = off)")
    analyze(connection)
    fill()
    return _batches()


def _batches(reader: Reader | None = None) -> list[tuple[float, float]]:
    """Return the milliseconds of the claims of 20 batches: without keys, and with 1,000 keys."""
    reader = reader or _reader()
    return list(zip(list(_times(reader)), list(_times(reader, keys=KEYS)), strict=True))


def _reader() -> Reader:
    from faststream_django.outbox.relay.reading import Reader

    reader = Reader("default", "default", BATCH)
    reader.prepare()
    return reader


def _times(reader: Reader, keys: int = 0) -> Iterator[float]:
    """Insert rows, and claim and delete them in batches, as the relay does."""
    from django.db import connection

    from tests.outbox.crowds import fill

    fill(connection, BATCH * BATCHES, keys=keys, body=BODY)
    for _ in range(BATCHES):
        # The best of several: others use the machine too.
        yield 1000 * min(_timed(lambda: _claim(reader)) for _ in range(TRIES))
        _send(reader)


def _relay(count: int) -> Reader:
    from django.db import connection

    from tests.outbox.crowds import fill

    reader = _reader()
    for _ in range(count // (BATCH * BATCHES)):
        fill(connection, BATCH * BATCHES, body=BODY)
        for _ in range(BATCHES):
            _send(reader)
    return reader


def _send(reader: Reader) -> None:
    from faststream_django.outbox.sending import delete_rows

    delete_rows("default", [row.id for row in reader.read()])
    if reader.floor.sequence is not None:
        reader.floor.probe()


def _claim(reader: Reader) -> None:
    rows = reader.read()
    keys = {row.ordering_key for row in rows if row.ordering_key}
    if keys:
        reader.blocked(keys)
    if len(rows) != BATCH:
        raise RuntimeError(f"{len(rows)} rows came.")


def _timed(work: Callable[[], Any]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


@contextlib.contextmanager
def _held_snapshot() -> Iterator[None]:
    """Have a transaction look at the database as pg_dump and mariadb-dump do."""
    from django.db import connection

    holder = connection.copy()
    with contextlib.closing(holder), holder.cursor() as cursor:
        if holder.vendor == "mysql":
            cursor.execute("SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            cursor.execute("START TRANSACTION WITH CONSISTENT SNAPSHOT")
        else:
            cursor.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        cursor.execute("SELECT count(*) FROM faststream_outbox_lease")
        yield


def _say(
    what: str, times: list[tuple[float, float]], bar: tuple[float, float] | None = None
) -> tuple[float, float]:
    without, with_keys = (statistics.median(each) for each in zip(*times, strict=True))
    line = f"{what}: {without:.2f} ms without keys, {with_keys:.2f} ms with {KEYS:,} keys"
    if bar is not None:
        line += f" ({without / bar[0]:.2f} x, {with_keys / bar[1]:.2f} x)"
    print(line)
    sys.stdout.flush()
    return without, with_keys


def _explained() -> str:
    from django.db import connection
    from django.test.utils import CaptureQueriesContext

    from faststream_django.outbox.relay.reading import Reader
    from tests.outbox.crowds import fill

    fill(connection, BATCH, body=BODY)
    reader = Reader("default", "default", BATCH)
    reader.prepare()
    with CaptureQueriesContext(connection) as captured:
        reader.read()
    verbs = {"postgresql": "EXPLAIN (ANALYZE, BUFFERS)", "mysql": "EXPLAIN", "sqlite": "EXPLAIN QUERY PLAN"}
    with connection.cursor() as cursor:
        sql = captured[0]["sql"].replace("%", "%%")
        cursor.execute(f"{verbs[connection.vendor]} {sql}", [])
        return "\n".join(" | ".join(map(str, row)) for row in cursor.fetchall())


if __name__ == "__main__":
    main()
