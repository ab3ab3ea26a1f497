"""Long texts in the JSON of answers, mostly pictures in base64: found, cut out, and decoded in steps of bounded length.

The interpreter's lock is held during a single call of a C function, so each call gets a piece of a text only.
"""

import binascii
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from typing_extensions import override

LONG_BYTES: Final = 16_384
"""From this many bytes on a text of an answer is cut out of its JSON."""

MOST_BESIDE_BYTES: Final = 300_000
"""The most bytes of an answer's JSON beside its long texts: objects, numbers and short texts.

The slowest of such bodies, of nothing but empty objects and lists, takes 50 ms to parse. Real answers have 30 kB.
"""

_MOST_START_BYTES: Final = 131_072
_PIECE_BYTES: Final = 262_144

_INSIDE: Final = re.compile(rb'(?:[^"\\]++|\\[^u]|\\u[0-9a-fA-F]{4})*+')
"""Matches the inside of a JSON text up to its quote, or up to an escape that isn't complete."""

_PLACE: Final = "e-00000000000001"
"""The end of the number that stands for a long text. No encoder writes such an exponent."""


@dataclass(frozen=True, slots=True)
class LongText:
    """A text of LONG_BYTES or more, as it stands in a body between two quotes, with its JSON escapes."""

    body: bytes = field(repr=False)
    first: int
    end: int

    @property
    def start(self) -> str:
        """The text, or its beginning with an ellipsis if it is very long; empty if its escapes aren't JSON's."""
        end = _end_of_piece(self.body, self.first, min(self.end, self.first + _MOST_START_BYTES))
        try:
            return _unescaped(self.body[self.first : end]) + ("" if end == self.end else "…")
        except ValueError:
            return ""

    def pieces(self) -> Iterator[str]:
        """Yield the whole text in pieces.

        Raises:
            ValueError: its escapes aren't JSON's.
        """
        at = self.first
        while at < self.end:
            end = _end_of_piece(self.body, at, min(self.end, at + _PIECE_BYTES))
            if end == at:
                raise ValueError("an escape that isn't JSON's")
            yield _unescaped(self.body[at:end])
            at = end

    @override
    def __str__(self) -> str:
        return f"a text of {self.end - self.first:,} bytes"


def without_long_texts(body: bytes) -> tuple[str, list[LongText]] | None:
    """Return the JSON of a body in UTF-8 with a number in place of each long text, and the long texts.

    `text_of_number` finds the text for a number. The result is None if too much is left beside them.
    """
    parts: list[bytes] = []
    texts: list[LongText] = []
    kept, at, beside = 0, 0, 0
    while (quote_at := body.find(b'"', at)) >= 0 and beside + quote_at - kept <= MOST_BESIDE_BYTES:
        end = _end_of_text(body, quote_at + 1)
        at = end + 1
        if end - quote_at > LONG_BYTES and end < len(body):
            parts += (body[kept:quote_at], f"{len(texts)}{_PLACE}".encode())
            beside += quote_at - kept
            texts.append(LongText(body, quote_at + 1, end))
            kept = at
    if beside + len(body) - kept > MOST_BESIDE_BYTES:
        return None
    parts.append(body[kept:])
    return b"".join(parts).decode(errors="replace"), texts


def text_of_number(number: str, texts: list[LongText]) -> "LongText | float":
    """Return the long text for which a JSON number with a fraction or exponent stands, or the number's value."""
    place = number.removesuffix(_PLACE)
    if place != number and place.isdecimal() and int(place) < len(texts):
        return texts[int(place)]
    return float(number)


def _end_of_text(body: bytes, first: int) -> int:
    """Return the place of the quote that ends a JSON text; the body's length if there is none."""
    at = body.find(b'"', first)
    end = at if at >= 0 else len(body)
    if body.find(b"\\", first, end) < 0:
        return end
    at = first
    while (end := _end_of_piece(body, at, at + _PIECE_BYTES)) > at:
        at = end
    return at if body[at : at + 1] == b'"' else len(body)


def _end_of_piece(body: bytes, first: int, most: int) -> int:
    """Return a place, at most `most`, where the inside of a JSON text ends or can be cut: at no escape or character."""
    end = most = min(most, len(body))
    if body.find(b"\\", first, most) >= 0 or body.find(b'"', first, most) >= 0:  # otherwise no pattern is needed
        found = _INSIDE.match(body, first, most)
        end = found.end() if found else first
    if end < len(body) and end == most:
        for back in range(4):  # a character in UTF-8 has up to four bytes
            if end - back > first and body[end - back] & 0xC0 != 0x80:  # noqa: PLR2004 - 10xxxxxx is no first byte
                return end - back
    return end


_DECODER: Final = json.JSONDecoder(strict=False)


def _unescaped(raw: bytes) -> str:
    text = raw.decode(errors="replace")
    if "\\" not in text:
        return text
    unescaped: str = _DECODER.decode(f'"{text}"')
    return unescaped


_DATA_URI: Final = re.compile(r"\s*data:[^,]{0,200},", re.IGNORECASE)
_BASE64: Final = bytes.maketrans(b"-_", b"+/")
_ALPHABET: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/="

_FOREIGN_SPACES: Final = "\x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000\ufeff" + "".join(map(chr, range(0x2000, 0x200C)))
_RESERVED: Final = "+/=-_\\\"' \t\r\n\v\f"
_REPAIRS: Final = {
    b"%": [(code, one.encode()) for one in _RESERVED for code in (b"%%%02X" % ord(one), b"%%%02x" % ord(one))],
    b"\\": [(escape, b"") for escape in (b"\\n", b"\\r", b"\\t")],
    b"": [(one.encode(), b"") for one in _FOREIGN_SPACES],
}
"""What proxies write for characters of base64 and between them, and what each means, by the byte it begins with."""

_MOST_FOREIGN_FRACTION: Final = 0.5
_FEW_BYTES: Final = 1_000
"""A longer piece with a larger part of bytes that aren't base64's isn't repaired. Percent-encoding makes a third."""

_BETWEEN: Final = b" \t\r\n\v\f\x1c\x1d\x1e\x1f\"'"
_CUT: Final = re.compile(r"[%\\].?\Z", re.DOTALL)
"""An escape of `_REPAIRS` that the next piece may continue; the longest has three characters."""


def picture_bytes(text: str | LongText) -> bytes:
    """Decode base64 in any form: standard or URL alphabet, padded or not, with line breaks, or in a data URI.

    Also removed are other whitespace and quotes, line breaks that were escaped twice, and percent-encoding of
    characters that URLs reserve. The first piece that is something else ends the decoding.

    Raises:
        ValueError: the text isn't base64, or is empty. Python's own decoder would drop unknown characters.
    """
    pieces = text.pieces() if isinstance(text, LongText) else _pieces(text)
    decoded: list[bytes] = []
    waiting, is_padded = b"", False
    for piece in _with_whole_escapes(pieces):
        plain = _plain(piece)
        body = plain.rstrip(b"=")
        if is_padded and body:
            raise ValueError("no base64: more follows its padding")
        is_padded = is_padded or len(body) < len(plain)
        waiting += body
        cut = len(waiting) - len(waiting) % 4
        decoded.append(_decoded(waiting[:cut]))
        waiting = waiting[cut:]
    decoded.append(_decoded(waiting + b"=" * (-len(waiting) % 4)))
    if not any(decoded):
        raise ValueError("no base64")
    return b"".join(decoded)  # without the interpreter's lock


def _pieces(text: str) -> Iterator[str]:
    yield from (text[at : at + _PIECE_BYTES] for at in range(0, len(text), _PIECE_BYTES))


def _with_whole_escapes(pieces: Iterator[str]) -> Iterator[str]:
    """Yield the pieces without the beginning of a data URI, and cut so that no escape is divided."""
    rest, is_first = "", True
    for piece in pieces:
        whole = rest + piece
        if is_first and (head := _DATA_URI.match(whole)):
            whole = whole[head.end() :]
        is_first = False
        cut = _CUT.search(whole, max(0, len(whole) - 2))
        end = cut.start() if cut else len(whole)
        rest = whole[end:]
        yield whole[:end]
    if rest:
        yield rest


def _plain(piece: str) -> bytes:
    """Return the characters of base64 in a piece, in the standard alphabet.

    Raises:
        ValueError: there are others, which nothing puts between them.
    """
    written = piece.encode(errors="surrogatepass")
    plain = written.translate(_BASE64, b" \t\r\n")
    if foreign := plain.translate(None, _ALPHABET):
        if len(foreign) > max(_FEW_BYTES, _MOST_FOREIGN_FRACTION * len(written)):
            raise ValueError("no base64: mostly foreign characters")
        for first, repairs in _REPAIRS.items():
            for found, meant in repairs if first in written and not (first == b"" and written.isascii()) else ():
                written = written.replace(found, meant)
        plain = written.translate(_BASE64, _BETWEEN)
        if plain.translate(None, _ALPHABET):
            raise ValueError("no base64: foreign characters")
    return plain


def _decoded(plain: bytes) -> bytes:
    try:
        return binascii.a2b_base64(plain, strict_mode=True)
    except binascii.Error as error:
        raise ValueError("no base64") from error
