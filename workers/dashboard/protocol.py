"""The connections of the dashboard: uvicorn's, with limits on how slow and how many they may be."""

import asyncio
from typing import Any, Final, Literal

import h11
from typing_extensions import override
from uvicorn.protocols.http.h11_impl import H11Protocol

from workers.dashboard.guard import SECURITY_HEADERS

REQUEST_S: Final = 30.0
"""Seconds from a request's first byte within which it must be complete, and from a connection to its first byte."""

MOST_CONNECTIONS: Final = 500
"""Connections at once, streams included; others are closed as they come."""

MOST_HEAD_BYTES: Final = 32_768
"""Most bytes of a request's first line and headers."""


class PatientProtocol(H11Protocol):
    """A connection that is closed if a request takes too long to arrive: one that drips would stay forever."""

    _deadline: asyncio.TimerHandle | None = None
    _awaited: Literal["a request", "its rest"] | None = None

    @override
    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        if len(self.connections) > MOST_CONNECTIONS:
            transport.abort()
        else:
            self._look()

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self._await(None)
        super().connection_lost(exc)

    @override
    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._look()

    @override
    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._look()

    def _look(self) -> None:
        """Set the deadline for what the connection waits for now.

        The rest of a body that was answered before it was complete is still read, and dropped: a client that is cut off
        while it sends doesn't read the answer.
        """
        state = self.conn.their_state
        if state is h11.SEND_BODY or (state is h11.IDLE and self.conn.trailing_data[0]):
            self._await("its rest")
        else:
            is_idle = self.cycle is None or self.cycle.response_complete
            self._await("a request" if is_idle else None)

    def _await(self, awaited: Literal["a request", "its rest"] | None) -> None:
        if awaited == self._awaited:
            return
        self._awaited = awaited
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline = self.loop.call_later(REQUEST_S, self.transport.abort) if awaited else None

    @override
    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP request, with the headers of every answer."""
        if self.conn.our_state not in {h11.IDLE, h11.SEND_RESPONSE}:  # an answer has begun: it can only be cut off
            self.transport.close()
            return
        headers = [(name.encode(), value.encode()) for name, value in SECURITY_HEADERS.items()]
        headers += [(b"content-type", b"text/plain; charset=utf-8"), (b"connection", b"close")]
        for event in (
            h11.Response(status_code=400, headers=headers, reason=b"Bad Request"),
            h11.Data(data=msg.encode()),
            h11.EndOfMessage(),
        ):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()
