"""Masking of secrets in text that leaves the process: log lines, stored errors, printed settings."""

import json
import re
from collections.abc import Iterable, Iterator
from typing import Final
from urllib.parse import quote, unquote, urlsplit

MASK: Final = "***"
# A shorter secret may be an ordinary word ("postgres", "dev"): masking it would spoil every line and hide nothing.
SHORTEST_SECRET_CHARACTERS: Final = 8
# A message may quote JSON that was refused, and itself be quoted in the JSON of a list.
ESCAPED_TIMES: Final = 2

_PATTERNS: Final = (
    # Google's API keys. The format, and that clients log URLs with ?key=, were read in the sources of Google's client
    # library
    ("aiza", re.compile(r"AIza[0-9A-Za-z_-]{35}"), MASK),
    # AWS access key ids
    ("akia", re.compile(r"\bAKIA[0-9A-Z]{16}\b"), MASK),
    ("asia", re.compile(r"\bASIA[0-9A-Z]{16}\b"), MASK),
    # the signature of a presigned URL, and the same names as headers or dictionary entries
    (
        "x-amz-",
        re.compile(r"(?i)(X-Amz-(?:Signature|Credential|Security-Token)['\"]?\s*[=:,]\s*b?['\"]?)[^&\s'\",)}]+"),
        rf"\1{MASK}",
    ),
    # headers: the whole rest of the value is masked, since a signature has several words
    ("authorization", re.compile(r"(?i)((?:proxy-)?authorization['\"]?\s*[=:,]\s*b?['\"]?)[^'\"\r\n]+"), rf"\1{MASK}"),
    ("api-key", re.compile(r"(?i)(x-(?:goog-)?api-key['\"]?\s*[=:,]\s*b?['\"]?)[^\s'\",)}]+"), rf"\1{MASK}"),
    # in URLs only: elsewhere ` key=` is how a log line names an object's key
    ("=", re.compile(r"(?i)([?&](?:key|api_key|access_token|password|sslpassword)=)[^&\s'\"]+"), rf"\1{MASK}"),
    # passwords in URLs
    ("://", re.compile(r"(?i)\b([a-z][a-z0-9+.-]*://[^\s/:@'\"]*):[^\s@'\"]+@"), rf"\1:{MASK}@"),
)
"""A text in lower case that every match contains, the pattern, and what replaces it.

Nearly no text has a secret, and looking for the first costs a tenth of looking for the pattern. Each value of a log
line is looked through.
"""


class SecretMask:
    """Replaces secrets in a text: texts in the known forms of keys, and the given secrets wherever they occur."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        """Store the secrets to mask, without those that are too short to differ from ordinary words."""
        given = {one for secret in secrets for one in (secret, unquote(secret)) if _is_long_enough(one)}
        forms = {form for secret in given for form in _forms(secret)}
        self._literals = sorted(filter(_is_long_enough, forms), key=len, reverse=True)  # one may be a part of another
        self._needed = {needed for needed, _, _ in _PATTERNS} | {_unchanged_part(secret) for secret in given}

    def __call__(self, text: str) -> str:
        """Return `text` with each secret replaced by three asterisks."""
        for secret in self._literals:
            if secret in text:
                text = text.replace(secret, MASK)
        lowered = text.lower()
        for needed, pattern, replacement in _PATTERNS:
            if needed in lowered:
                text = pattern.sub(replacement, text)
        return text

    def may_concern(self, text: str) -> bool:
        """Return whether a text may contain a secret, however often it is escaped there. Most texts contain none."""
        lowered = text.lower()
        for needed in self._needed:  # noqa: SIM110 - a generator would take twice the time
            if needed in lowered:
                return True
        return False


def _is_long_enough(secret: str) -> bool:
    return len(secret) >= SHORTEST_SECRET_CHARACTERS


def _unchanged_part(secret: str) -> str:
    """Return the longest part of a secret that no way of escaping changes, in lower case.

    It is empty, and so is a part of every text, if the secret has neither letters of ASCII nor digits.
    """
    return max(re.split(r"[^0-9A-Za-z]+", secret), key=len).lower()


def _forms(secret: str) -> set[str]:
    """Return a secret as it stands in texts and in URLs, and in JSON and Python's notation of these."""
    forms = {secret, quote(secret, safe="")}
    for _ in range(ESCAPED_TIMES):
        forms |= {escaped for form in forms for escaped in _escaped(form)}
    return forms


def _escaped(text: str) -> Iterator[str]:
    yield json.dumps(text)[1:-1]
    yield json.dumps(text, ensure_ascii=False)[1:-1]
    yield repr(text)[1:-1]
    yield repr(text.encode(errors="surrogateescape"))[2:-1]


def url_password(url: str) -> str | None:
    """Return the decoded password of a URL; None if it has none, or if the password equals the user name."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return None
    if not parts.password or parts.password == parts.username:
        return None
    return unquote(parts.password)
