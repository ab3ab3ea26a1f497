"""A fake Gemini that accepts every call and never answers, and records when the caller closes the connection."""

import asyncio
import time
from dataclasses import dataclass, field

from tests.support.patience import HANGS_AFTER_S


@dataclass(eq=False)
class HangingCall:
    """One call: its body, and, on the clock of `time.monotonic`, when it had come and when its caller hung up."""

    body: bytes
    came_s: float = field(default_factory=time.monotonic)
    hung_up_s: float | None = None


class HangingGemini:
    """A server on loopback, in the event loop of the test that opens it as a context manager."""

    def __init__(self):
        self.calls: list[HangingCall] = []
        self.heard = asyncio.Condition()
        self._server: asyncio.Server | None = None

    @property
    def url(self) -> str:
        assert self._server is not None
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def call_of(self, word: str, *, hung_up: bool = False) -> HangingCall:
        """Wait for the last call whose body has `word` and, if asked, until its caller closes the connection."""

        def found():
            calls = [call for call in self.calls if word.encode() in call.body]
            return calls[-1] if calls and (calls[-1].hung_up_s or not hung_up) else None

        async with asyncio.timeout(HANGS_AFTER_S), self.heard:
            return await self.heard.wait_for(found)

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._hang, "127.0.0.1", 0, backlog=512)
        return self

    async def __aexit__(self, *_):
        assert self._server is not None
        self._server.close()

    async def _hang(self, reader, writer):
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            size = next(int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
            call = HangingCall(await reader.readexactly(size))
            async with self.heard:
                self.calls.append(call)
                self.heard.notify_all()
            await reader.read()  # ends with the connection
            async with self.heard:
                call.hung_up_s = time.monotonic()
                self.heard.notify_all()
        except (OSError, asyncio.IncompleteReadError):
            return
        finally:
            writer.close()
