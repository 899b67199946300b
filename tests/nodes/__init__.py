"""Private servers for the tests: started by them, on loopback, gone with them."""

from .ports import MuteServer, free_port, unused_port
from .postgresql import PostgreSQLCluster
from .processes import MissingService, OwnedProcess
from .rabbitmq import ClientConnection, RabbitMQNode, StoredMessage

__all__ = [
    "ClientConnection",
    "MissingService",
    "MuteServer",
    "OwnedProcess",
    "PostgreSQLCluster",
    "RabbitMQNode",
    "StoredMessage",
    "free_port",
    "unused_port",
]
