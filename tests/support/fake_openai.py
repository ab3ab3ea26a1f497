"""A fake OpenAI-compatible images API to test against: a real HTTP server, with answers by script."""

import base64
import io
import json
import threading
from dataclasses import dataclass
from email.parser import BytesParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from PIL import Image

MODEL = "gpt-image-1"
USAGE = {"input_tokens": 400, "output_tokens": 1000, "total_tokens": 1400}


@dataclass(frozen=True)
class Request:
    """One call: its path, its fields, and its pictures as they came."""

    path: str
    fields: dict
    pictures: list[bytes]
    headers: dict


def failure(status, code=None, message="no", headers=None):
    return status, {"error": {"code": code, "message": message, "type": "error"}}, headers or {}


def drawn(size, *, usage=None):
    width, height = map(int, size.split("x"))
    data = io.BytesIO()
    Image.linear_gradient("L").resize((width, height)).convert("RGB").save(data, "PNG")
    return 200, {"data": [{"b64_json": base64.b64encode(data.getvalue()).decode()}], "usage": usage or USAGE}, {}


class FakeOpenAI(ThreadingHTTPServer):
    """A server on loopback. It is a context manager, and serves in a thread of its own."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.calls: list[Request] = []
        self.answers: list[tuple] = []
        self.files: dict[str, bytes] = {}

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"

    def script(self, *answers):
        """Let the next calls be answered with (status, body, headers); a body of bytes is sent as it is."""
        self.answers += answers

    def handle_error(self, request, client_address):
        """Say nothing of clients that hang up."""

    def __enter__(self):
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.shutdown()
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FakeOpenAI

    def log_message(self, *_):
        """Log nothing."""

    def do_GET(self):
        if self.path in self.server.files:
            self._send(200, self.server.files[self.path], {"Content-Type": "image/png"})
            return
        self._send(*((200, {"id": MODEL}, {}) if self.path == f"/v1/models/{MODEL}" else failure(404)))

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        fields, pictures = self._read(body)
        self.server.calls.append(Request(self.path, fields, pictures, dict(self.headers)))
        self._send(*(self.server.answers.pop(0) if self.server.answers else drawn(fields["size"])))

    def _read(self, body):
        kind = self.headers["content-type"]
        if kind == "application/json":
            return json.loads(body), []
        message = BytesParser().parsebytes(f"Content-Type: {kind}\r\n\r\n".encode() + body)
        fields, pictures = {}, []
        for part in message.get_payload():
            data = part.get_payload(decode=True)
            if part.get_filename() is None:
                fields[part.get_param("name", header="content-disposition")] = data.decode()
            else:
                assert part.get_param("name", header="content-disposition") == "image[]"
                pictures.append(data)
        return fields, pictures

    def _send(self, status, body, headers):
        body = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", "Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)
