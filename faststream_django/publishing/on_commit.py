"""Messages that wait for a transaction to commit."""

from __future__ import annotations

from collections.abc import Callable

from django.db import transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.transaction import TransactionManagementError

from faststream_django.publishing.outgoing import Outgoing

__all__ = ["Pending", "Send", "defer"]

Send = Callable[[list[Outgoing], bool], None]
"""What sends messages after the commit; with whether a failure is logged instead of raised."""


class Pending:
    """An on_commit callback: messages in the order of their calls that share one fate."""

    def __init__(self, robust: bool, send: Send) -> None:  # noqa: FBT001
        self.robust = robust
        self.outgoing: list[Outgoing] = []
        self.is_sent = False
        self.send = send
        self.__qualname__ = "publish_on_commit"  # Django 5.2 logs it when a robust callback raises

    def __call__(self) -> None:
        self.is_sent = True
        self.send(self.outgoing, self.robust)


def defer(
    outgoing: Outgoing,
    using: str | None,
    *,
    robust: bool,
    send: Send,
) -> bool:
    """Have `outgoing` sent when the current transaction commits; return False if there is none.

    Raise TransactionManagementError where Django cannot tell when a transaction ends.
    """
    connection = transaction.get_connection(using)
    if connection.in_atomic_block:
        _pending(connection, robust=robust, send=send).outgoing.append(outgoing)
        return True
    if not connection.get_autocommit():
        raise TransactionManagementError(
            f"publish_on_commit() cannot tell when a transaction of database {connection.alias!r} commits, "
            "because autocommit is off and there is no atomic block. Wrap the work in "
            "transaction.atomic(), or call publish() after your own commit()."
        )
    return False


def _pending(connection: BaseDatabaseWrapper, *, robust: bool, send: Send) -> Pending:
    """Return the last callback of the transaction if it is ours and has the same fate, else a new one.

    Django has no hook for "the last callback", and one callback for each message would mean one round
    trip for each message. In the transaction of a TestCase the callbacks are not merged, because tests
    count them.
    """
    if connection.run_on_commit and not _in_testcase(connection):
        savepoints, callback, *_ = connection.run_on_commit[-1]
        if (
            isinstance(callback, Pending)
            and callback.robust == robust
            and callback.send == send
            and savepoints == set(connection.savepoint_ids)
        ):
            return callback
    pending = Pending(robust, send)
    transaction.on_commit(pending, using=connection.alias, robust=robust)
    return pending


def _in_testcase(connection: BaseDatabaseWrapper) -> bool:
    return any(getattr(block, "_from_testcase", False) for block in connection.atomic_blocks)
