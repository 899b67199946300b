"""FastStream's subscribers in Django apps: ``<app>/subscribers.py`` with FastStream's own routers.

A worker runs them on RabbitMQ; on the embedded broker the process that publishes runs them itself.
"""

from faststream_django.worker.discovery import broker_router
from faststream_django.worker.retrying import retry
from faststream_django.worker.transactions import transaction

__all__ = ["broker_router", "retry", "transaction"]
