import itertools

names = itertools.count()

ROUTER = """
import threading
from faststream.rabbit import RabbitRouter

router = RabbitRouter()
seen = []
arrived = threading.Semaphore(0)
"""


def queues(routers):
    return [subscriber.queue.name for router in routers for subscriber in router.subscribers]
