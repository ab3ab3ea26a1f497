"""Tokens by which a dashboard knows that a form came from one of its own pages.

A token is a signature over what only this browser has: its session or, where there is none, a random value in a signed
cookie. So it needs no table, and no other browser's token can be used.
"""

import base64
import hashlib
import hmac
import secrets
from dataclasses import dataclass
from typing import Final

from itsdangerous import BadSignature, TimestampSigner

COOKIE: Final = "darkroom_csrf"
COOKIE_S: Final = 12 * 3600
"""How long, in seconds, such a cookie counts, and with it a form that was opened before signing in."""

FIELD: Final = "csrf_token"
HEADER: Final = "x-csrf-token"


@dataclass(frozen=True, slots=True)
class Nonce:
    """The random value of a browser without a session, and the cookie that it needs; None if it has a good one."""

    value: str
    cookie: str | None


class CsrfTokens:
    """Makes and compares the tokens of one installation."""

    def __init__(self, secret_key: str) -> None:
        """Store the key that dashboards of one database share."""
        self._signer = TimestampSigner(secret_key, salt="darkroom.csrf-cookie")
        self._key = hmac.digest(secret_key.encode(), b"darkroom.csrf-token", hashlib.sha256)

    def nonce(self, cookie: str | None) -> Nonce:
        """Return the value of a browser's cookie, or a new one; a cookie in the second half of its time is renewed."""
        try:
            value, at = self._signer.unsign(cookie or "", max_age=COOKIE_S, return_timestamp=True)
            text = value.decode("ascii")
        except (BadSignature, UnicodeDecodeError):
            fresh = secrets.token_urlsafe(16)
            return Nonce(fresh, self._signer.sign(fresh).decode())
        age_s = self._signer.get_timestamp() - at.timestamp()
        return Nonce(text, self._signer.sign(text).decode() if age_s > COOKIE_S / 2 else None)

    def of_session(self, token_hash: bytes) -> str:
        """Return the token of a session."""
        return self._token(b"session", token_hash)

    def of_nonce(self, nonce: str, name: str) -> str:
        """Return the token of a browser without a session, for who it acts as; the name is empty for nobody."""
        return self._token(b"nonce", f"{nonce} {name}".encode())

    def _token(self, kind: bytes, what: bytes) -> str:
        signature = hmac.digest(self._key, kind + b" " + what, hashlib.sha256)
        return base64.urlsafe_b64encode(signature).rstrip(b"=").decode()


def agree(given: str, token: str) -> bool:
    """Return whether a token that was sent is the expected one, in the same time for every wrong one."""
    return hmac.compare_digest(given.encode(errors="surrogatepass"), token.encode())
