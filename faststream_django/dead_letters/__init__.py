"""Dead letters: look at them, replay them, discard them, all through AMQP."""

from faststream_django.dead_letters.operating import replay

__all__ = ["replay"]
