"""The fake images API, in the form that the contract suite uses."""

from tests.support.fake_openai import FakeOpenAI, failure

ANSWERS = {
    "throttled": failure(429, "rate_limit_exceeded", headers={"Retry-After": "7"}),
    "unavailable": failure(503),
    "timed out": failure(504),
    "refused by policy": failure(400, "moderation_blocked"),
    "rejected": failure(400, "invalid_value"),
    "key refused": failure(401, "invalid_api_key"),
    "no such model": failure(404, "model_not_found"),
    "cut off": (200, b'{"data": [{"b6', {"Content-Length": "5000", "Connection": "close"}),
    "no picture": (200, b"<html>", {}),
}


class FakeServer(FakeOpenAI):
    @property
    def settings(self):
        return {"openai_api_key": "an-openai-key-that-appears-nowhere", "openai_base_url": self.url}

    @property
    def sent(self):
        return len(self.calls)

    def fail_with(self, failure):
        self.script(ANSWERS[failure])
