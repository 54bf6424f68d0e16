"""A peer of a channel that keeps what it receives."""

from raycp.protocol.frames import Message


class Recorder:
    """``messages`` in order; ``closed`` when the connection has ended."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.closed = False

    def received(self, message: Message) -> None:
        self.messages.append(message)

    def lost(self) -> None:
        self.closed = True
