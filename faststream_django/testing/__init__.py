"""The test kit: catch what would be published, without a broker."""

from faststream_django.testing.capturing import capture_messages, real_brokers
from faststream_django.testing.messages import CapturedMessage, CapturedMessages

__all__ = ["CapturedMessage", "CapturedMessages", "capture_messages", "real_brokers"]
