import logging

from pamqp.commands import Basic


def put(server, queue, body=b"x", **properties):
    return server.publish("", queue, Basic.Properties(**properties), body)


def bodies(server, queue):
    return [message.body for message in server.drain(queue)]


def rabbit_broker(**options):
    from faststream.rabbit import RabbitBroker

    return RabbitBroker("memory://", logger=logging.getLogger("tests"), **options)


def dead_letter_queue(server, **arguments):
    server.declare_exchange("dlx", "fanout")
    server.bind(server.declare_queue("dead"), "dlx")
    server.declare_queue("q", arguments={"x-dead-letter-exchange": "dlx", **arguments})
