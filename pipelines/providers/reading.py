"""Tolerant parsing of providers' answers: a field that can't be read is dropped and logged, unless it is the picture.

An answer is paid for as soon as it comes. Proxies, gateways and compatible servers change an answer's form: a list
around the body, a number in place of a text, null in place of an object. None of this may lose the picture.
"""

import base64
import binascii
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final

from config.logger import EventLogger

log = EventLogger(__name__)

MOST_UNITS: Final = 10_000_000
"""The largest number of units of one call that is accepted.

A larger one is an error, and would use up a day's budget.
"""

MOST_MARKS: Final = 200_000
"""An answer may have so many braces, brackets, commas and colons; real ones have some hundreds. Hostile 100 MB could
have 100 million, and reading them would hold up all jobs of the process for a minute."""

_MOST_DOCUMENTS: Final = 10_000
"""Of one body: a stream has an object for each event."""

_MOST_ESCAPES: Final = 1_000_000
_ESCAPED_FRACTION: Final = 1 / 16
"""Of base64 a 32nd is escaped by writers that escape its slashes and line breaks."""

_MOST_RECODED_BYTES: Final = 40_000_000
"""JSON is UTF-8 (RFC 8259). Reading other encodings takes 0.1 s for a megabyte in which nothing is a character."""

_MOST_NOTED: Final = 20
_BASE64: Final = bytes.maketrans(b"-_", b"+/")
_DATA_URI: Final = re.compile(r"\s*data:[^,]{0,200},", re.IGNORECASE)

STATUS_BY_NAME: Final[dict[str, int]] = {
    **dict.fromkeys(("invalid_argument", "failed_precondition", "out_of_range", "invalid_request_error"), 400),
    **dict.fromkeys(("image_generation_user_error", "moderation_blocked", "content_policy_violation"), 400),
    **dict.fromkeys(("unauthenticated", "invalid_api_key", "authentication_error"), 401),
    **dict.fromkeys(("permission_denied", "permission_error"), 403),
    **dict.fromkeys(("not_found", "not_found_error", "model_not_found"), 404),
    **dict.fromkeys(("aborted", "already_exists"), 409),
    **dict.fromkeys(("resource_exhausted", "rate_limit_exceeded", "rate_limit_error", "too_many_requests"), 429),
    **dict.fromkeys(("insufficient_quota", "billing_hard_limit_reached"), 429),
    "cancelled": 499,
    **dict.fromkeys(("internal", "unknown", "data_loss", "server_error", "api_error", "internal_error"), 500),
    **dict.fromkeys(("unavailable", "overloaded", "overloaded_error", "service_unavailable"), 503),
    **dict.fromkeys(("deadline_exceeded", "timeout"), 504),
}
"""HTTP status of errors by name: google.rpc.Code and the codes and types of OpenAI's reference, read 2026-11."""


class Reader:
    """Reads values of one answer, and remembers the names of those that can't be read."""

    def __init__(self) -> None:
        """Create a reader for one answer."""
        self.ignored: list[str] = []

    def text(self, value: Any, name: str) -> str | None:
        """Return a text; None if the value is missing or something else."""
        if value is None or isinstance(value, str):
            return value
        self.note(name)
        return None

    def units(self, value: Any, name: str) -> int | None:
        """Return a whole number of units, even if it is written as text; None if the value isn't a plausible number."""
        if value is None:
            return None
        if isinstance(value, str) and value.strip().isdecimal() and len(value) < len(str(MOST_UNITS)) + 2:
            value = int(value)
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MOST_UNITS:
            return value
        self.note(name)
        return None

    def mapping(self, value: Any, name: str) -> Mapping[str, Any]:
        """Return an object; an empty one if the value is missing or something else."""
        if isinstance(value, Mapping):
            return value
        if value is not None:
            self.note(name)
        return {}

    def mappings(self, value: Any, name: str) -> list[Mapping[str, Any]]:
        """Return the objects of a list, without its other elements; a single object counts as a list of one."""
        if isinstance(value, Mapping):
            self.note(name)
            return [value]
        if not isinstance(value, list):
            if value is not None:
                self.note(name)
            return []
        found = [one for one in value if isinstance(one, Mapping)]
        if len(found) < len(value):
            self.note(f"{name}[]")
        return found

    def note(self, name: str) -> None:
        """Remember the name of a field that can't be read, for `report`."""
        if name not in self.ignored and len(self.ignored) < _MOST_NOTED:
            self.ignored.append(name)

    def report(self, provider: str) -> None:
        """Log the fields that couldn't be read, if there are any."""
        if self.ignored:
            log.warning("answer_fields_ignored", provider=provider, fields=self.ignored)


def documents_of(body: bytes) -> list[Mapping[str, Any]]:
    """Return the JSON objects in a body: a single one, those in a list, or those of a sequence of events.

    The result is empty for a body without any, such as an HTML page or half an answer, and for one that `_is_hostile`.
    Bytes that aren't UTF-8 are replaced, and line breaks inside of a text are accepted.
    """
    if _is_hostile(body):
        return []
    text = body.decode(json.detect_encoding(body), errors="replace").lstrip("\ufeff")
    decoder, at = json.JSONDecoder(strict=False, parse_int=_whole_number), 0
    values: list[Any] = []
    while len(values) < _MOST_DOCUMENTS and (start := _START.match(text, at)) is not None:
        try:
            value, at = decoder.raw_decode(text, start.end())
        except (ValueError, RecursionError):
            break
        values.append(value)
    found: list[Mapping[str, Any]] = []
    values.reverse()
    while values:
        value = values.pop()
        if isinstance(value, Mapping):
            found.append(value)
        elif isinstance(value, list):
            values += reversed(value)
    return found


def _is_hostile(body: bytes) -> bool:
    """Return whether a body would take long to read: event loops also renew claims, and stand still meanwhile."""
    if len(body) > _MOST_RECODED_BYTES and not json.detect_encoding(body).startswith("utf-8"):
        return True
    marks = sum(map(body.count, (b"{", b"[", b",", b":")))
    return marks > MOST_MARKS or body.count(b"\\") > _MOST_ESCAPES + _ESCAPED_FRACTION * len(body)


_START: Final = re.compile(
    r"(?:\s++|,|\bdata:|(?:\b(?:event|id|retry))?:[^\n]*\n|\)\]\}'[^\n]*\n)*+(?=[\[{\"\d-]|true|false|null)"
)
"""Matches what may precede a JSON value: fields and comments of server-sent events, and Google's prefix `)]}'`.

It is possessive, since to go back it would keep something for each of millions of lines."""

_MOST_DIGITS: Final = 300


def _whole_number(text: str) -> float:
    """Return the value of a JSON number. Python refuses integers with thousands of digits, and no count has as many."""
    return int(text) if len(text) <= _MOST_DIGITS else float("inf")


def mappings_in(value: Any) -> Iterator[Mapping[str, Any]]:
    """Yield every object in a JSON value, in order, at any depth."""
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, Mapping):
            yield one
            waiting += reversed(list(one.values()))
        elif isinstance(one, list):
            waiting += reversed(one)


def picture_bytes(text: str) -> bytes:
    """Decode base64 in any form: standard or URL alphabet, padded or not, with line breaks, or in a data URI.

    Other whitespace, quotes, line breaks that were escaped twice, and percent-encoding are removed only if the text
    can't be decoded otherwise.

    Raises:
        ValueError: the text isn't base64, or is empty. Python's own decoder would drop unknown characters.
    """
    head = _DATA_URI.match(text)
    written = text[head.end() if head else 0 :].encode(errors="replace")
    try:
        return _decoded(written)
    except ValueError:
        return _decoded(_bare(written))


_SPACES: Final = [one.encode() for one in map(chr, range(0x80, 0x10000)) if one.isspace() or one in "\u200b\ufeff"]
_ESCAPED_BREAKS: Final = (b"\\n", b"\\r", b"\\t")


def _bare(written: bytes) -> bytes:
    """Return a text without what was put between its letters, by steps in C: it may have 100 MB of anything."""
    # Percent-encoding is quoted-printable with another sign
    bare = binascii.a2b_qp(written.replace(b"=", b"=3D").replace(b"%", b"="))
    for one in _ESCAPED_BREAKS if bare.isascii() else (*_ESCAPED_BREAKS, *_SPACES):
        bare = bare.replace(one, b"")
    return bare.translate(None, b" \t\r\n\v\f\x1c\x1d\x1e\x1f\"'")


def _decoded(text: bytes) -> bytes:
    plain = text.translate(_BASE64, b" \t\r\n").rstrip(b"=")
    if not plain:
        raise ValueError("no base64")
    try:
        return base64.b64decode(plain + b"=" * (-len(plain) % 4), validate=True)
    except binascii.Error as error:
        raise ValueError("no base64") from error


def what_came(body: bytes) -> str:
    """Return words that describe a body which contains no answer of the provider."""
    start = body[:512].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if not start:
        return "an empty body"
    if start.startswith((b"<!doctype", b"<html", b"<head", b"<body", b"<?xml", b"<")):
        return "a page (HTML) and no answer of its own"
    return "something that is no answer of its own"


@dataclass(frozen=True, slots=True)
class SaidError:
    """An error as a provider reports it; every text may be empty.

    `code`, `status` and `kind` name it (429, RESOURCE_EXHAUSTED, rate_limit_error); `details` are google.rpc's, and
    `wait` is the wait that the error asks for in a field of its own; None if it has no such field.
    """

    message: str = ""
    code: str = ""
    status: str = ""
    kind: str = ""
    param: str = ""
    details: Sequence[Mapping[str, Any]] = field(default=())
    wait: Any = None

    def detail(self, name: str) -> Mapping[str, Any]:
        """Return the detail of a type such as `RetryInfo`; empty if there is none."""
        for detail in self.details:
            if str(detail.get("@type", "")).endswith(f"google.rpc.{name}"):
                return detail
        return {}

    @property
    def retry_delay(self) -> Any:
        """The delay of the error's RetryInfo, by either name that proto JSON allows, or of its own field, or None."""
        info = self.detail("RetryInfo")
        return _first(info, _DELAY_NAMES) if _first(info, _DELAY_NAMES) is not None else self.wait

    @property
    def http_status(self) -> int | None:
        """The status that the error itself gives, by number or by name; None if it gives neither."""
        for word in (self.code, self.status, self.kind):
            if len(word) == _STATUS_DIGITS and word.isdecimal() and HTTPStatus.BAD_REQUEST <= int(word) < _NO_STATUS:
                return int(word)
        names = (word.lower() for word in (self.status, self.code, self.kind))
        return next((STATUS_BY_NAME[name] for name in names if name in STATUS_BY_NAME), None)


_STATUS_DIGITS: Final = 3
_NO_STATUS: Final = 600
_ANSWER_NAMES: Final = frozenset({"candidates", "promptFeedback", "prompt_feedback", "data"})
_MESSAGE_NAMES: Final = ("message", "error_description", "detail", "msg", "error")
_DELAY_NAMES: Final = ("retryDelay", "retry_delay")
_WAIT_NAMES: Final = (*_DELAY_NAMES, "retryAfter", "retry_after", "retry_after_seconds")


def error_in(documents: Sequence[Mapping[str, Any]]) -> SaidError | None:
    """Return the error that an answer without a picture contains, in whatever form; None if it contains none.

    An object with an empty field for the answer contains an error if it names one.
    """
    for document in documents:
        told = document.get("error") or document.get("errors")
        if isinstance(told, list):
            told = next((one for one in told if one), None)
        if isinstance(told, Mapping) and isinstance(told.get("error"), Mapping):
            told = told["error"]
        if told and not isinstance(told, bool):
            return _said(told if isinstance(told, Mapping) else {"message": told}, document)
        if any(document.get(name) for name in _MESSAGE_NAMES):
            said, answer_names = _said(document, document), _ANSWER_NAMES & document.keys()
            if not answer_names or (said.http_status and not any(document[name] for name in answer_names)):
                return said
    for inside in mappings_in(list(documents)):
        told = inside.get("error")
        if isinstance(told, Mapping) and _first(told, ("message", "code", "status", "type")):
            return _said(told, inside)
    return None


def _said(told: Mapping[str, Any], document: Mapping[str, Any]) -> SaidError:
    message = next((told[name] for name in _MESSAGE_NAMES if told.get(name)), "")
    details = told.get("details")
    if isinstance(details, Mapping):
        details = [details]
    return SaidError(
        message=message if isinstance(message, str) else json.dumps(message, default=str),
        code=_word(told.get("code")) or _word(document.get("code")),
        status=_word(told.get("status")) or _word(document.get("status")),
        kind=_word(told.get("type")),
        param=_word(told.get("param")),
        details=[one for one in details if isinstance(one, Mapping)] if isinstance(details, list) else [],
        wait=_first({**document, **told}, _WAIT_NAMES),
    )


def _first(value: Mapping[str, Any], names: Sequence[str]) -> Any:
    return next((value[name] for name in names if value.get(name) is not None), None)


def _word(value: Any) -> str:
    return str(value) if isinstance(value, str | int) and not isinstance(value, bool) else ""
