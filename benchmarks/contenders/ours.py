"""faststream_django, by the verbs that its users call."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from functools import partial
from typing import Any

from benchmarks.contenders.base import BlockingContender, Publish, in_tasks
from benchmarks.django_site import configure
from benchmarks.sample import Sample, durations, measure
from faststream_django import apublish, brokers, publish, publish_many, publish_on_commit
from faststream_django.publishing import PublishOptions


class Ours(BlockingContender):
    def open(self) -> None:
        self.options: PublishOptions = {}
        configure(self.url)
        if self.workload.is_encoded:
            self.options["content_type"] = "application/json"
        self._runner = asyncio.Runner()
        super().open()

    def round(self) -> Sample:
        if self.workload.way != "tasks":
            return super().round()
        return measure(
            lambda: self._runner.run(in_tasks(partial(apublish, queue=self.queue), self.workload)),
            self.workload.total,
        )

    def publisher(self) -> Publish:
        return partial(publish, queue=self.queue, **self.options)

    def publish_many(self, _publish: Publish, messages: Iterable[Any]) -> None:
        publish_many(messages, self.queue, **self.options)

    def publish_on_commit(self, _publish: Publish, message: Any) -> None:
        publish_on_commit(message, self.queue, robust=False)

    def close(self) -> None:
        super().close()
        self._runner.close()
        brokers.stop()


class PublishMany(Ours):
    """The messages of a relay in one call, without a database."""

    def round(self) -> Sample:
        publish_all = partial(publish_many, queue=self.queue)
        return measure(
            lambda: durations(lambda: publish_all(self.workload.messages()), self.workload.calls),
            self.workload.total,
        )
