"""Print the Debian packages of the servers that are missing, one a line."""

from .mariadb import MariaDBServer
from .postgresql import PostgreSQLCluster
from .rabbitmq import RabbitMQNode
from .redis import RedisServer

if not RabbitMQNode.is_installed():
    print("rabbitmq-server")
if not PostgreSQLCluster.is_installed():
    print("postgresql")
if not MariaDBServer.is_installed():
    print("mariadb-server")
if not RedisServer.is_installed():
    print("redis-server")
