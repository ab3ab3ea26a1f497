"""A fake Gemini over HTTP that is slow, fails, and counts: `python -m tests.chaos.provider --count FILE --seed N`.

Pictures are made once for each size and colour, because the test is about which calls are made. Every call and every
answer that was sent completely is a line of the count file, which no other program writes.
"""

import argparse
import asyncio
import functools
import json
import random
import socket
import struct
import sys
import time
from pathlib import Path

from PIL import Image

from tests.support.fake_gemini import answers
from tests.support.fake_gemini.server import FAULTS, MODELS

COLOURS = 16
THROTTLED_S = 1.0

MEDIAN_S = {"analyze": 0.3, "generate": 1.2}

CHANCES = {"500": 0.02, "503": 0.02, "429": 0.003, "reset": 0.01, "half": 0.005, "text only": 0.005, "hang": 0.005}
"""How often a call meets a fault; all others are answered."""


@functools.cache
def picture(ratio, side_px, colour):
    """Return a whole answer with a picture."""
    across, down = map(int, (ratio or "1:1").split(":"))
    scale = side_px / max(across, down)
    size = max(1, round(across * scale)), max(1, round(down * scale))
    tint = Image.new("RGB", size, (colour * 255 // COLOURS, 90, 160))
    made = Image.blend(Image.linear_gradient("L").resize(size).convert("RGB"), tint, 0.5)
    parts = [{"text": "Here it is."}, answers.inline_part(made)]
    return json.dumps(reply(parts, answers.usage(prompt=288, image=1120))).encode()


MODELS_ANSWER = json.dumps({"models": [{"name": f"models/{name}"} for name in MODELS]}).encode()
ANALYSIS = [{"text": json.dumps(answers.ANALYSIS)}]


def reply(parts, usage):
    return {
        "candidates": [{"content": {"role": "model", "parts": parts}, "finishReason": "STOP", "index": 0}],
        "usageMetadata": usage,
        "modelVersion": "chaos",
    }


async def _send(writer, code, body, kind="application/json", *, sent=None):
    head = f"HTTP/1.1 {code} x\r\ncontent-type: {kind}\r\ncontent-length: {len(body)}\r\n\r\n"
    writer.write(head.encode() + body[:sent])
    await writer.drain()


class Provider:
    def __init__(self, count_path, seed, *, slowest_s, hang_s):
        self._count = count_path.open("a", buffering=1)
        self._random = random.Random(seed)
        self._slowest_s, self._hang_s = slowest_s, hang_s

    async def serve(self, port):
        """Answer whoever connects, until cancelled."""
        server = await asyncio.start_server(self._converse, "127.0.0.1", port)
        async with server:
            sys.stdout.write("ready\n")
            sys.stdout.flush()
            await server.serve_forever()

    def _note(self, event, purpose):
        self._count.write(json.dumps({"at": time.time(), "event": event, "purpose": purpose}) + "\n")

    async def _converse(self, reader, writer):
        try:
            while True:
                body = await self._request(reader)
                if body:
                    await self._answer(json.loads(body), writer)
                else:  # a worker that starts asks which models there are
                    await _send(writer, 200, MODELS_ANSWER)
        except (OSError, EOFError, ValueError):
            pass  # who hangs up is part of the test
        finally:
            writer.close()

    async def _request(self, reader):
        head = await reader.readuntil(b"\r\n\r\n")
        lines = head.decode("latin-1").lower().split("\r\n")
        length = next((int(line.partition(":")[2]) for line in lines if line.startswith("content-length:")), 0)
        return await reader.readexactly(length)

    async def _answer(self, request, writer):
        config = request.get("generationConfig", {})
        purpose = "analyze" if config.get("responseMimeType") else "generate"
        fault = self._fault()
        self._note(fault or "called", purpose)
        await asyncio.sleep(self._delay_s(purpose, fault))
        code, body, kind = self._reply(purpose, fault, config.get("imageConfig", {}), request)
        if fault == "hang":
            raise EOFError
        if fault == "reset":
            linger = struct.pack("ii", 1, 0)
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            raise EOFError
        await _send(writer, code, body, kind, sent=len(body) // 2 if fault == "half" else None)
        if fault == "half":
            raise EOFError
        if fault is None and not writer.is_closing():
            self._note("picture" if purpose == "generate" else "analysis", purpose)

    def _fault(self):
        ball = self._random.random()
        for name, chance in CHANCES.items():
            if ball < chance:
                return name
            ball -= chance
        return None

    def _delay_s(self, purpose, fault):
        if fault == "hang":
            return self._hang_s
        return min(self._slowest_s, MEDIAN_S[purpose] * self._random.lognormvariate(0, 0.8))

    def _reply(self, purpose, fault, image, request):
        if fault == "429":
            retry = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": f"{THROTTLED_S:g}s"}
            error = {"code": 429, "message": "quota", "status": "RESOURCE_EXHAUSTED", "details": [retry]}
            return 429, json.dumps({"error": error}).encode(), "application/json"
        if fault in {"500", "503", "text only"}:
            return FAULTS[fault](request)
        if purpose == "analyze":
            return 200, json.dumps(reply(ANALYSIS, answers.usage(prompt=288, text=180))).encode(), "application/json"
        side_px = answers.SIDES_PX[image.get("imageSize")]
        return (
            200,
            picture(image.get("aspectRatio"), side_px, self._random.randrange(COLOURS)),
            "application/json",
        )


def main():
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.provider")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--count", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--slowest-s", type=float, default=8.0)
    parser.add_argument("--hang-s", type=float, default=20.0)
    given = parser.parse_args()
    provider = Provider(given.count, given.seed, slowest_s=given.slowest_s, hang_s=given.hang_s)
    asyncio.run(provider.serve(given.port))


if __name__ == "__main__":
    main()
