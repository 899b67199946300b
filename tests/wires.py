"""The two ends of a wire that has no connection: the socket, and aiormq's channel."""

import pamqp.frame
from pamqp.header import ContentHeader


class Transport:
    """A socket: keeps what is written."""

    def __init__(self):
        self.written = []

    def write(self, data):
        self.written.append(data)

    def is_closing(self):
        return False

    @property
    def message_ids(self):
        """Those of the messages that were written, in their order."""
        data, found = b"".join(self.written), []
        while data:
            size, _, frame = pamqp.frame.unmarshal(data)
            data = data[size:]
            if isinstance(frame, ContentHeader):
                found.append(frame.properties.message_id)
        return found


class DriverChannel:
    """aiormq's channel: knows its number and whether it is closed."""

    number = 1

    def __init__(self):
        self.is_closed = False

    async def close(self):
        self.is_closed = True
