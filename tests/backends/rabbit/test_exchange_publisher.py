"""The order of the messages for one exchange, whatever happens to its channels."""

import asyncio

import pamqp.frame
from pamqp.commands import Basic, Channel

from faststream_django.backends.base import NotSent, Publication
from faststream_django.backends.rabbit import exchange_publisher
from faststream_django.backends.rabbit.exchange_publisher import ExchangePublisher
from faststream_django.backends.rabbit.fast_channel import FastChannel
from faststream_django.backends.rabbit.wire import Wire
from faststream_django.messages import Message
from tests.wires import DriverChannel, Transport


class Opened:
    """A channel with both ends of its wire; the test says what the broker answers."""

    def __init__(self, on_answer):
        self.wire = Wire()
        self.wire._transport = self.transport = Transport()
        self.driver = DriverChannel()
        self.channel = FastChannel(self.driver, on_answer, {}, self.wire, 131_072)

    @property
    def written(self):
        return self.transport.message_ids

    def answer(self, frame):
        self.wire.take(1, 1, pamqp.frame.marshal(frame, 1))

    def confirm(self):
        self.answer(Basic.Ack(len(self.written), multiple=True))


class Channels:
    def __init__(self, failures=0):
        self.opened = []
        self.failures = failures

    async def open(self, on_answer):
        if self.failures:
            self.failures -= 1
            raise NotSent("the connection is busy")
        self.opened.append(Opened(on_answer))
        return self.opened[-1].channel


def post(publisher, *message_ids, verdicts=None):
    verdicts = [] if verdicts is None else verdicts
    for message_id in message_ids:
        publication = Publication(Message.encode(b"x", "orders", message_id=message_id), "default")
        publication.on_settled = lambda each, verdict: verdicts.append(
            (each.message.message_id, type(verdict))
        )
        publisher.pending[publication] = None
    publications = tuple(publisher.pending)
    publisher.flush()
    return publications


async def rounds(count=5):
    for _ in range(count):
        await asyncio.sleep(0)


def test_first_message_on_a_channel_travels_alone():
    async def main():
        channels = Channels()
        publisher = ExchangePublisher(channels.open)
        post(publisher, "a", "b", "c")
        await rounds()
        (channel,) = channels.opened
        alone = channel.written
        channel.confirm()
        return alone, channel.written

    assert asyncio.run(main()) == (["a"], ["a", "b", "c"])


def test_channel_that_cannot_be_opened_is_tried_again_and_the_order_stays(monkeypatch):
    monkeypatch.setattr(exchange_publisher, "RETRY_PAUSE", 0.001)

    async def main():
        channels = Channels(failures=2)
        publisher = ExchangePublisher(channels.open)
        post(publisher, "a", "b")
        async with asyncio.timeout(10):
            while not channels.opened:  # noqa: ASYNC110 - the loop's own timers
                await asyncio.sleep(0)
        post(publisher, "c")
        await rounds()
        channels.opened[0].confirm()
        return channels.opened[0].written

    assert asyncio.run(main()) == ["a", "b", "c"]


def test_closed_channel_is_replaced_and_the_next_message_travels_alone_again():
    async def main():
        channels = Channels()
        publisher = ExchangePublisher(channels.open)
        post(publisher, "a")
        await rounds()
        channels.opened[0].driver.is_closed = True
        post(publisher, "b", "c")
        await rounds()
        return channels.opened[1].written

    assert asyncio.run(main()) == ["b"]


def test_suspect_channel_is_closed_once_nobody_waits_on_it(monkeypatch):
    monkeypatch.setattr(exchange_publisher, "FRESH_CHANNEL_INTERVAL", 0.0)

    async def main():
        channels = Channels()
        publisher = ExchangePublisher(channels.open)
        post(publisher, "a")
        await rounds()
        (old,) = channels.opened
        old.confirm()
        post(publisher, "b", "c", "d", "e")
        for tag in (2, 3, 4):
            old.answer(Basic.Nack(tag))
        post(publisher, "f")
        await rounds()
        states = [old.driver.is_closed, publisher.is_idle]
        old.confirm()
        await rounds()
        return states, old.driver.is_closed, old.written, channels.opened[1].written

    assert asyncio.run(main()) == ([False, False], True, ["a", "b", "c", "d", "e"], ["f"])


def test_messages_that_wait_are_not_sent_when_the_connection_ends():
    async def main():
        channels, verdicts = Channels(), []
        publisher = ExchangePublisher(channels.open)
        post(publisher, "a", "b", verdicts=verdicts)
        publisher.lose("reset")  # while the channel is being opened
        await rounds()
        return verdicts, channels.opened, publisher.is_idle

    assert asyncio.run(main()) == ([("a", NotSent), ("b", NotSent)], [], True)


def test_retry_with_an_unanswered_id_holds_up_no_other_message():
    async def main():
        channels = Channels()
        publisher = ExchangePublisher(channels.open)
        post(publisher, "a")
        await rounds()
        (channel,) = channels.opened
        channel.confirm()
        given_up = post(publisher, "b")
        publisher.withdraw(given_up[0])
        post(publisher, "c", "b", "d", "b", "e")
        before = channel.written
        channel.answer(Basic.Ack(2))
        return before, channel.written

    before, after = asyncio.run(main())

    assert before == ["a", "b", "c", "d", "e"]
    assert after == [*before, "b"]


def test_messages_go_on_when_the_first_on_a_channel_is_given_up():
    async def main():
        channels = Channels()
        publisher = ExchangePublisher(channels.open)
        first, second, third = post(publisher, "a", "b", "c")
        await rounds()
        publisher.withdraw(first)
        publisher.withdraw(second)  # in the same round: it is not sent any more
        await rounds()
        return channels.opened[0].written, third.maybe_sent, second.maybe_sent

    assert asyncio.run(main()) == (["a", "c"], True, False)


def test_message_that_stepped_aside_gets_the_new_channel_when_its_own_is_closed():
    async def main():
        channels = Channels()
        publisher = ExchangePublisher(channels.open)
        post(publisher, "a")
        await rounds()
        channels.opened[0].confirm()
        post(publisher, "b", "b", "c")
        idle = publisher.is_idle
        channels.opened[0].answer(Channel.Close(404, "NOT_FOUND", 60, 40))
        await rounds()
        channels.opened[1].confirm()
        return idle, channels.opened[1].written

    assert asyncio.run(main()) == (False, ["b"])


def test_line_without_a_channel_is_closed_at_once():
    async def main():
        publisher = ExchangePublisher(Channels().open)
        await publisher.close()
        return publisher.is_idle

    assert asyncio.run(main())
