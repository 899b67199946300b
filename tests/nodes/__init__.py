"""Private servers for the tests: started by them, on loopback, gone with them."""

from .ports import MuteServer, free_port, unused_port
from .postgresql import PostgreSQLCluster
from .processes import MissingService, OwnedProcess
from .proxy import FaultProxy
from .rabbitmq import ClientConnection, RabbitMQNode, StoredMessage
from .redis import RedisServer

__all__ = [
    "ClientConnection",
    "FaultProxy",
    "MissingService",
    "MuteServer",
    "OwnedProcess",
    "PostgreSQLCluster",
    "RabbitMQNode",
    "RedisServer",
    "StoredMessage",
    "free_port",
    "unused_port",
]
