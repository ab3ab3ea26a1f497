"""`python -m tests.support.fake_gemini --port PORT [--failures 0.3] [--fault NAME ...]`: serves until interrupted."""

import argparse
import contextlib

from tests.support.fake_gemini.server import FAULTS, FakeGemini


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.support.fake_gemini")
    parser.add_argument("--port", type=int, default=8090)
    parser.add_argument("--failures", type=float, default=0.0, help="share of calls that fail, 0 to 1")
    parser.add_argument("--delay-s", type=float, default=0.0, help="seconds until a picture is ready")
    parser.add_argument("--fault", action="append", choices=sorted(FAULTS), default=[], help="faults of the next calls")
    arguments = parser.parse_args()
    server = FakeGemini(port=arguments.port, failures=arguments.failures, delay_s=arguments.delay_s)
    server.script(*arguments.fault)
    print(f"GEMINI_BASE_URL={server.url} GEMINI_API_KEY=any", flush=True)  # noqa: T201 - for whoever starts it
    with contextlib.suppress(KeyboardInterrupt):
        server.serve_forever()


main()
