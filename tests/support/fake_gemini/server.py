"""The fake server: /v1 and /v1beta, a thread per connection, with faults by script or by chance."""

import contextlib
import json
import random
import re
import socket
import struct
import threading
import time
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from PIL import Image

from tests.support.fake_gemini import answers

PATH = re.compile(r"/(v1|v1beta)/models/([A-Za-z0-9._-]+):generateContent")
RETRY_AFTER_S = 2.0
MODELS = ("gemini-nano-banana-2.1", "gemini-3.5-flash")


def error(code, status, message, *details):
    body = {"error": {"code": code, "message": message, "status": status, "details": list(details)}}
    return code, json.dumps(body).encode(), "application/json"


def answered(*parts, reason="STOP", usage=None, **more):
    body = {
        "candidates": [{"content": {"role": "model", "parts": list(parts)}, "finishReason": reason, "index": 0}],
        "usageMetadata": usage or answers.usage(prompt=288, image=1120),
        "modelVersion": "fake",
        **more,
    }
    return 200, json.dumps(body).encode(), "application/json"


def _429(*details):
    return error(429, "RESOURCE_EXHAUSTED", "You exceeded your current quota", *details)


def _retry_info(seconds):
    return {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": f"{seconds:g}s"}


def _error_info(reason):
    return {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": reason}


def _continued():
    body = {"candidates": [{"content": {"role": "model"}, "finishReason": "CONTINUATION", "continuationToken": "more"}]}
    return 200, json.dumps(body).encode(), "application/json"


def whole(request):
    parts, usage = answers.answer_to(request)
    return answered(*parts, usage=usage)


def _thoughts_first(reply):
    """Put a draft before the parts of an answer."""
    code, body, kind = reply
    value = json.loads(body)
    draft = answers.inline_part(Image.new("RGB", (64, 64), "red"), "PNG", thought=True)
    value["candidates"][0]["content"]["parts"][:0] = [{"text": "I think", "thought": True}, draft]
    return code, json.dumps(value).encode(), kind


FAULTS = {
    "429": lambda _: _429(_retry_info(RETRY_AFTER_S)),
    "429 bare": lambda _: _429(),
    "500": lambda _: error(500, "INTERNAL", "An internal error has occurred."),
    "503": lambda _: error(503, "UNAVAILABLE", "The model is overloaded."),
    "504": lambda _: error(504, "DEADLINE_EXCEEDED", "Deadline expired."),
    "400": lambda _: error(400, "INVALID_ARGUMENT", "Bad field"),
    "401": lambda _: error(400, "INVALID_ARGUMENT", "API key not valid.", _error_info("API_KEY_INVALID")),
    "403": lambda _: error(403, "PERMISSION_DENIED", "Your API key was reported as leaked."),
    "404": lambda _: error(404, "NOT_FOUND", "model is not found for API version v1beta"),
    "reset": None,
    "timeout": None,
    "half": None,
    "html": lambda _: (200, b"<html><body>502 Bad Gateway</body></html>", "text/html"),
    "text only": lambda _: answered({"text": "I can't draw today."}),
    "thoughts": None,
    "no picture": lambda _: answered(reason="NO_IMAGE"),
    "image safety": lambda _: answered(reason="IMAGE_SAFETY"),
    "413": lambda _: error(413, "FAILED_PRECONDITION", "Request payload size exceeds the limit"),
    "max tokens": lambda _: answered({"text": '{"mainSub'}, reason="MAX_TOKENS"),
    "continuation": lambda _: _continued(),
    "recitation": lambda _: answered(reason="IMAGE_RECITATION"),
    "new reason": lambda _: answered(reason="BRAND_NEW_REASON"),
    "blocked": lambda _: (200, b'{"promptFeedback":{"blockReason":"PROHIBITED_CONTENT"}}', "application/json"),
}
"""By name -> the answer; None where it is what the connection does, or the answer itself with something before it."""

CHANCE = ("429", "500", "503", "reset", "timeout", "half", "html", "text only", "thoughts", "no picture")
"""What fails by chance, each as likely as the others."""


@dataclass(frozen=True)
class Call:
    """One call: when it came, for which model, what it was for, and the fault that it met."""

    at_s: float
    version: str
    model: str
    purpose: str
    fault: str | None
    request: dict
    headers: dict


class FakeGemini(ThreadingHTTPServer):
    """A server on loopback. It is a context manager, and serves in a thread of its own."""

    daemon_threads = True
    request_queue_size = 256

    def __init__(self, *, port=0, failures=0.0, delay_s=0.0, timeout_s=1.2, seed=1):
        super().__init__(("127.0.0.1", port), _Handler)
        self.failures, self.delay_s, self.timeout_s = failures, delay_s, timeout_s
        self.calls: list[Call] = []
        self.answer = None
        self.most_in_flight = self._in_flight = 0
        self._scripted: list[str] = []
        self._random = random.Random(seed)
        self._lock = threading.Lock()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"

    def script(self, *faults):
        """Let the next calls meet these faults, one each; "ok" is none."""
        self._scripted += faults

    def count(self, purpose):
        return sum(call.purpose == purpose for call in self.calls)

    def early_s(self):
        """Return how long after a 429 each call came that came before its RetryInfo was over; longest first."""
        throttled = [call.at_s + self.delay_s for call in self.calls if call.fault == "429"]  # when it was answered
        waits = [call.at_s - at_s for call in self.calls for at_s in throttled]
        return sorted((wait for wait in waits if 0 < wait < RETRY_AFTER_S), reverse=True)

    def meet(self, version, model, request, headers):
        """Record a call, and return the fault that it is answered with."""
        purpose = "analyze" if request.get("generationConfig", {}).get("responseMimeType") else "generate"
        with self._lock:
            fault = self._scripted.pop(0) if self._scripted else None
            if fault is None and self._random.random() < self.failures:
                fault = self._random.choice(CHANCE)
            fault = None if fault == "ok" else fault
            call = Call(time.monotonic(), version, model, purpose, fault, request, headers)
            self.calls.append(call)
        return fault

    @contextlib.contextmanager
    def in_flight(self):
        with self._lock:
            self._in_flight += 1
            self.most_in_flight = max(self.most_in_flight, self._in_flight)
        try:
            yield
        finally:
            with self._lock:
                self._in_flight -= 1

    def handle_error(self, request, client_address):
        """Say nothing of clients that hang up: they are part of the tests."""

    def __enter__(self):
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.shutdown()
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FakeGemini

    def log_message(self, *_):
        """Log nothing."""

    def do_GET(self):
        name = self.path.partition("/models/")[2]
        if not self.headers.get("x-goog-api-key"):
            self._send(*error(403, "PERMISSION_DENIED", "no key"))
        elif name and name not in MODELS:
            self._send(*error(404, "NOT_FOUND", f"models/{name} is not found"))
        else:
            listed = {"models": [{"name": f"models/{model}"} for model in MODELS]}
            self._send(200, json.dumps({"name": f"models/{name}"} if name else listed).encode())

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        path = PATH.fullmatch(self.path.partition("?")[0])
        if path is None or not self.headers.get("x-goog-api-key"):
            self._send(*error(404 if path is None else 403, "NOT_FOUND", "no such method or no key"))
            return
        try:
            request = answers.camel(json.loads(body))
        except ValueError:
            self._send(*error(400, "INVALID_ARGUMENT", "Invalid JSON payload received."))
            return
        with self.server.in_flight():
            fault = self.server.meet(path[1], path[2], request, dict(self.headers))
            reply = self._reply(fault, request)
        match fault:
            case "reset":
                linger = struct.pack("ii", 1, 0)
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                self.close_connection = True
                self.connection.close()
            case "timeout":
                self.close_connection = True
            case "half":
                self._send(*reply, sent=len(reply[1]) // 2)
                self.close_connection = True
            case _:
                self._send(*reply)

    def _reply(self, fault, request):
        time.sleep(self.server.delay_s)
        if fault == "timeout":  # the real one takes minutes; a test's patience is over sooner, and the connection ends
            time.sleep(self.server.timeout_s)
        try:
            answer = FAULTS.get(fault) or self.server.answer or whole
            return _thoughts_first(answer(request)) if fault == "thoughts" else answer(request)
        except answers.BadRequestError as refused:
            return error(400, "INVALID_ARGUMENT", str(refused))

    def _send(self, code, body, kind="application/json", headers=None, *, sent=None):
        self.send_response(code)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body[:sent])
