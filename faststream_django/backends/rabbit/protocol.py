"""The numbers of AMQP 0-9-1 that are used: frames, methods, and the flags of the properties."""

from __future__ import annotations

__all__ = [
    "ACK",
    "APP_ID",
    "BASIC",
    "BODY",
    "CANCEL",
    "CHANNEL_CLOSE",
    "CLUSTER_ID",
    "CONNECTION_BLOCKED",
    "CONNECTION_CLOSE",
    "CONNECTION_UNBLOCKED",
    "CONTENT_ENCODING",
    "CONTENT_TYPE",
    "CORRELATION_ID",
    "DELIVER",
    "DELIVERY_MODE",
    "EXPIRATION",
    "FRAME_END",
    "FRAME_TYPES",
    "HEADER",
    "HEADERS",
    "HEARTBEAT",
    "MESSAGE_ID",
    "MESSAGE_TYPE",
    "METHOD",
    "NACK",
    "PRIORITY",
    "PUBLISH",
    "REPLIES",
    "REPLY_TO",
    "RETURN",
    "TIMESTAMP",
    "TX_COMMIT",
    "USER_ID",
]

METHOD, HEADER, BODY, HEARTBEAT = FRAME_TYPES = (1, 2, 3, 8)
FRAME_END = 0xCE

# The class and the number of basic.publish, as they are packed.
BASIC, PUBLISH = 60, 40

# Methods that are recognised when they arrive.
CANCEL, RETURN, DELIVER, ACK, NACK = (BASIC, 30), (BASIC, 50), (BASIC, 60), (BASIC, 80), (BASIC, 120)
CHANNEL_CLOSE = (20, 40)
TX_COMMIT = (90, 20)
CONNECTION_CLOSE, CONNECTION_BLOCKED, CONNECTION_UNBLOCKED = (10, 50), (10, 60), (10, 61)

# The queue that a channel consumes the replies to its own messages from:
# https://www.rabbitmq.com/docs/direct-reply-to
REPLIES = "amq.rabbitmq.reply-to"

# The flags of the basic properties, in the order in which their values follow.
CONTENT_TYPE = 0x8000
CONTENT_ENCODING = 0x4000
HEADERS = 0x2000
DELIVERY_MODE = 0x1000
PRIORITY = 0x0800
CORRELATION_ID = 0x0400
REPLY_TO = 0x0200
EXPIRATION = 0x0100
MESSAGE_ID = 0x0080
TIMESTAMP = 0x0040
MESSAGE_TYPE = 0x0020
USER_ID = 0x0010
APP_ID = 0x0008
CLUSTER_ID = 0x0004
