"""The connection of one alias: it is kept, limits what is in flight, and says what became of each message."""

from faststream_django.connection.connection import Connection
from faststream_django.connection.sender import Sender

__all__ = ["Connection", "Sender"]
