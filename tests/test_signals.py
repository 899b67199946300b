from django.dispatch import Signal

from faststream_django import Message, signals
from faststream_django.exceptions import MessageUnroutable
from faststream_django.publishing.announcements import announce
from faststream_django.signals import message_failed, message_published


def test_there_are_four_signals():
    names = {"message_published", "message_failed", "message_deferred", "outbox_message_dead"}

    assert set(signals.__all__) == names
    assert len({id(getattr(signals, name)) for name in names}) == 4
    assert all(isinstance(getattr(signals, name), Signal) for name in names)


def test_receivers_connect_to_messages_as_to_models():
    """The sender is the class: sender=Message works, and a receiver for another class is not called."""
    received = []

    def receive(sender, message, broker, **kwargs):
        received.append((sender, message, broker, kwargs.get("error")))

    def never(**kwargs):
        raise AssertionError

    message, error = Message.encode("x", "orders"), MessageUnroutable("lost")
    for signal in (message_published, message_failed):
        signal.connect(receive, sender=Message)
        signal.connect(never, sender=Signal)
    announce(message, "default")
    announce(message, "default", error)
    for signal in (message_published, message_failed):
        signal.disconnect(receive, sender=Message)
        signal.disconnect(never, sender=Signal)

    assert received == [(Message, message, "default", None), (Message, message, "default", error)]
