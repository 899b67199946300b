"""django-outbox-pattern: a table of the ORM, sent over STOMP. It asks for no receipts."""

from __future__ import annotations

from typing import Any, ClassVar

from benchmarks.contenders.backlog import BacklogContender, Watch
from benchmarks.contenders.base import Guarantees
from benchmarks.django_site import configure, make_tables

_FILLED_AT_ONCE = 1000


class OutboxPattern(BacklogContender):
    """Persistent, and otherwise with its defaults but for larger chunks; all rows in one transaction."""

    guarantees: ClassVar[Guarantees] = Guarantees(is_confirmed=False, is_mandatory=False)
    settings: ClassVar[dict[str, Any]] = {"DEFAULT_PUBLISHED_CHUNK_SIZE": 2000}

    def open(self) -> None:
        stomp = {"DEFAULT_STOMP_HOST_AND_PORTS": [("127.0.0.1", self.addresses.stomp_port)]}
        configure(
            self.url,
            database=self.addresses.database,
            apps=["django_outbox_pattern"],
            more={"DJANGO_OUTBOX_PATTERN": {**stomp, **self.settings}},
        )
        make_tables()

        from django_outbox_pattern.factories import factory_producer

        self._producer = factory_producer()

    def fill(self, count: int) -> None:
        from django_outbox_pattern.headers import get_message_headers
        from django_outbox_pattern.models import Published

        Published.objects.all().delete()  # what the last round left as done
        rows = [
            Published(
                destination=f"/amq/queue/{self.queue}",
                body=self.workload.message,
                headers={"persistent": "true"},
            )
            for _ in range(count)
        ]
        for row in rows:
            row.headers = get_message_headers(row)  # as its save() does
        Published.objects.bulk_create(rows, _FILLED_AT_ONCE)

    def relay(self) -> Watch:
        """Run what its command runs in a loop; it sleeps a second when it is done."""
        from django_outbox_pattern.choices import StatusChoice

        watch = Watch()
        watch.until_empty(
            self.addresses.database,
            f"SELECT 1 FROM published WHERE status = {StatusChoice.SCHEDULE.value}",  # noqa: S608
            lambda: None,
        )
        self._producer.publish_message_from_database()
        return watch

    def close(self) -> None:
        from django.db import connections

        self._producer.stop()
        connections.close_all()
