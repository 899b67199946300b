"""The worker of faststream_django: `python -m django faststream_worker`."""

from __future__ import annotations

from faststream.rabbit import RabbitRouter

from benchmarks.consuming.assignment import assignment
from benchmarks.consuming.handlers import handler

router = RabbitRouter()
router.subscriber(assignment().queue)(handler())
