"""What a job asks of an HTTP endpoint, and what the endpoint answers, as stage CALLING finds it."""

from collections.abc import Mapping
from typing import Any, Self

from config.values import value


@value
class EndpointRequest:
    """The request of a job: the endpoint's URL, which may hold a key, and a body of JSON's own types."""

    url: str
    body: Any


@value
class EndpointAnswer:
    """The output of stage CALLING: the endpoint's answer, any JSON, and its HTTP status (200 to 299).

    `answer` is None for JSON's null, and for an answer with status 204 or 205, which has no content.
    """

    answer: Any
    http_status: int

    def to_json(self) -> dict[str, Any]:
        """Return the answer as JSON; its keys are the facts that a job table's `result` may name."""
        return {"answer": self.answer, "http_status": self.http_status}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Build the answer from the JSON of `to_json`."""
        return cls(value["answer"], int(value["http_status"]))
