"""What a channel that consumes makes of the frames that arrive, and when it writes which."""

import asyncio
from types import SimpleNamespace

import pamqp.frame
from pamqp import commands
from pamqp.body import ContentBody
from pamqp.commands import Basic
from pamqp.header import ContentHeader

from faststream_django.backends.rabbit.consuming_channel import WiredConsumingChannel
from faststream_django.backends.rabbit.consuming_delivery import Outcome
from faststream_django.backends.rabbit.protocol import BODY, HEADER, METHOD

NUMBER = 3


class FakeWire:
    def __init__(self):
        self.receivers = {}
        self.written = []

    def write(self, data):
        self.written.append(data)
        return True


class Scene:
    """A channel on which one subscription is consumed, without a broker."""

    def __init__(self):
        loop = asyncio.get_running_loop()
        self.aiormq = SimpleNamespace(number=NUMBER, closing=loop.create_future())
        self.wire = FakeWire()
        self.delivered = []
        planned = SimpleNamespace(subscriptions=[], is_prefetch_shared=False)
        self.channel = WiredConsumingChannel(self.aiormq, planned, self.delivered.append, wire=self.wire)
        self.subscription = SimpleNamespace(tag="tag", queue=SimpleNamespace(name="q"), acks_first=False)
        self.channel._subscriptions["tag"] = self.subscription

    def arrive(self, *parts, tag=1, properties=None, size=None):
        """Have a message arrive, its body in these parts; return what was taken."""
        size = sum(map(len, parts)) if size is None else size
        header = ContentHeader(body_size=size, properties=properties or Basic.Properties(message_id="id"))
        frames = [(METHOD, Basic.Deliver("tag", tag, False, "exchange", "key.of.it")), (HEADER, header)]
        frames += [(BODY, ContentBody(part)) for part in parts]
        return [self.take(kind, frame) for kind, frame in frames]

    def take(self, kind, frame):
        data = frame if isinstance(frame, bytes) else pamqp.frame.marshal(frame, NUMBER)
        return self.channel.take(kind, data)


def scenario(function):
    """Run a test that is a coroutine function, with a scene."""

    async def run():
        await function(Scene())

    def test():
        asyncio.run(run())

    test.__name__ = function.__name__
    return test


def incoming(scene):
    [delivery] = scene.delivered
    return delivery.incoming()


@scenario
async def test_message_is_put_together_from_its_frames(scene):
    taken = scene.arrive(b"first ", b"second", properties=Basic.Properties(content_type="text/plain"))

    message = incoming(scene)
    assert taken == [True] * 4
    assert (message.body, message.content_type) == (b"first second", "text/plain")
    assert (message.exchange, message.routing_key, message.delivery_tag) == ("exchange", "key.of.it", 1)
    assert message.redelivered is False


@scenario
async def test_message_without_a_body_is_complete_with_its_header(scene):
    scene.arrive()

    assert incoming(scene).body == b""


@scenario
async def test_frames_of_other_methods_are_left_to_aiormq(scene):
    assert not scene.take(METHOD, Basic.ConsumeOk("tag"))
    assert not scene.take(BODY, ContentBody(b"of a basic.get"))


@scenario
async def test_what_is_settled_together_is_written_together(scene):
    for tag in (1, 2, 3):
        scene.arrive(b"x", tag=tag)
    for delivery, outcome in zip(scene.delivered, Outcome, strict=True):
        delivery.settle(outcome)
    await asyncio.sleep(0)

    [data] = scene.wire.written
    expected = [Basic.Ack(1), Basic.Nack(2, False, False), Basic.Nack(3, False, True)]
    assert data == b"".join(pamqp.frame.marshal(frame, NUMBER) for frame in expected)


@scenario
async def test_message_is_settled_once(scene):
    scene.arrive(b"x")
    [delivery] = scene.delivered

    await delivery.incoming().ack()
    delivery.settle(Outcome.REQUEUE)
    await asyncio.sleep(0)

    assert scene.wire.written == [pamqp.frame.marshal(Basic.Ack(1), NUMBER)]


@scenario
async def test_nothing_is_written_after_the_broker_has_closed_the_channel(scene):
    """RabbitMQ would take it for a frame on a channel that was never opened, and close the connection."""
    scene.arrive(b"x", tag=1)
    scene.arrive(b"x", tag=2)
    scene.delivered[0].settle(Outcome.ACK)

    is_taken = scene.take(METHOD, commands.Channel.Close(406, "PRECONDITION_FAILED", 0, 0))
    scene.delivered[1].settle(Outcome.ACK)
    await asyncio.sleep(0)

    assert not is_taken
    assert scene.wire.written == []
    assert scene.channel.ended.result() == "406 PRECONDITION_FAILED"


@scenario
async def test_channel_that_the_broker_cancels_has_ended(scene):
    is_taken = scene.take(METHOD, Basic.Cancel("tag"))

    assert not is_taken  # aiormq answers it
    assert scene.channel.ended.done()


@scenario
async def test_what_arrives_while_the_channel_closes_does_not_reach_aiormq(scene):
    scene.channel._end("closed")

    assert scene.arrive(b"x") == [True] * 3
    assert scene.delivered == []
    scene.aiormq.closing.set_result(None)
    await asyncio.sleep(0)
    assert scene.wire.receivers == {}


@scenario
async def test_acknowledging_several_at_once_settles_each(scene):
    for tag in (1, 2, 3):
        scene.arrive(b"x", tag=tag)

    await scene.delivered[1].incoming().ack(multiple=True)
    await asyncio.sleep(0)

    assert [delivery.outcome for delivery in scene.delivered] == [Outcome.ACK, Outcome.ACK, None]
