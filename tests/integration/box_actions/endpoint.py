"""An HTTP endpoint that a test scripts, and what it was asked."""

import asyncio
import json
from dataclasses import dataclass, field
from typing import Any

CUT = b""
"""An answer that closes the connection."""


def http(status: int = 200, body: Any = None, *headers: str) -> bytes:
    """Return an answer; a body that isn't bytes is sent as JSON."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"HTTP/1.1 {status} as asked", f"Content-Length: {len(content)}", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + content


@dataclass
class Asked:
    """A request that came."""

    line: str
    headers: dict[str, str]
    body: Any


@dataclass
class Endpoint:
    """It gives each request the next of `answers`, and waits for one if there is none.

    `cut_off` counts the requests whose caller went away meanwhile.
    """

    port: int = 0
    answers: list[bytes] = field(default_factory=list)
    requests: list[Asked] = field(default_factory=list)
    cut_off: int = 0
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    def url(self, path: str = "/actions?key=hidden") -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def answer(self, *answers: bytes) -> None:
        self.answers += answers
        self._changed.set()

    def release(self) -> None:
        """End the requests that still wait."""
        self.answer(*[CUT] * 9)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        line, *lines = head.split("\r\n")
        headers = {name.lower(): value for name, _, value in (one.partition(": ") for one in lines if one)}
        body = json.loads(await reader.readexactly(int(headers["content-length"])))
        self.requests.append(Asked(line, headers, body))
        gone = asyncio.ensure_future(reader.read(1))
        while not self.answers and not gone.done():
            self._changed.clear()
            changed = asyncio.ensure_future(self._changed.wait())
            await asyncio.wait([gone, changed], return_when=asyncio.FIRST_COMPLETED)
            changed.cancel()
        if gone.done():
            self.cut_off += 1
        else:
            writer.write(self.answers.pop(0))
        gone.cancel()
        writer.close()
