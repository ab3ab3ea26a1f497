"""The fake Gemini, in the form that the contract suite uses."""

from tests.support.fake_gemini.server import FakeGemini

FAULTS = {
    "throttled": "429",
    "unavailable": "503",
    "timed out": "504",
    "refused by policy": "image safety",
    "rejected": "400",
    "key refused": "401",
    "no such model": "404",
    "cut off": "half",
    "no picture": "html",
}


class FakeServer(FakeGemini):
    @property
    def settings(self):
        return {"gemini_api_key": "a-gemini-key-that-appears-nowhere", "gemini_base_url": self.url}

    @property
    def sent(self):
        return len(self.calls)

    def fail_with(self, failure):
        self.script(FAULTS[failure])
