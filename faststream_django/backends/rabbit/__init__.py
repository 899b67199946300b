"""RabbitMQ over AMQP 0-9-1."""

from faststream_django.backends.rabbit.backend import RabbitBackend

__all__ = ["RabbitBackend"]
