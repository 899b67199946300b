"""Private servers for the tests: started by them, on loopback, gone with them."""

from .cluster import RabbitMQCluster
from .ledger import Account, Ledger
from .mariadb import MariaDBServer
from .ports import MuteServer, free_port, unused_port
from .postgresql import PostgreSQLCluster
from .processes import MissingService, OwnedProcess
from .proxy import FaultProxy
from .rabbitmq import ClientConnection, RabbitMQNode, StoredMessage
from .redis import RedisServer

__all__ = [
    "Account",
    "ClientConnection",
    "FaultProxy",
    "Ledger",
    "MariaDBServer",
    "MissingService",
    "MuteServer",
    "OwnedProcess",
    "PostgreSQLCluster",
    "RabbitMQCluster",
    "RabbitMQNode",
    "RedisServer",
    "StoredMessage",
    "free_port",
    "unused_port",
]
