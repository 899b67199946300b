"""Waits until a transaction waits for another one."""

import time

from django.db import connection

SOON = 30.0
PAUSE = 0.15  # InnoDB shows the same picture to who asks again within 0.1 s

_BLOCKED = {
    "postgresql": "SELECT count(*) FROM pg_locks WHERE NOT granted",
    "mysql": "SELECT count(*) FROM information_schema.innodb_trx WHERE trx_state = 'LOCK WAIT'",
}


def wait_until_blocked(count=1):
    """Wait until so many transactions wait. SQLite does not tell: there they may not have begun to."""
    sql = _BLOCKED.get(connection.vendor)
    deadline = time.monotonic() + SOON
    while sql and _ask(sql) < count:
        assert time.monotonic() < deadline, "no transaction waits"
        time.sleep(PAUSE)


def _ask(sql):
    with connection.cursor() as cursor:
        cursor.execute(sql)
        return cursor.fetchone()[0]
