"""Which storage a URL means: the literal registry of backends."""

from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote, urlsplit

from pipelines.storage.file import FileStorage
from pipelines.storage.storage import Storage


def _open_file(storage_url: str, public_url: str | None) -> Storage:
    parts = urlsplit(storage_url)
    root = Path(unquote(parts.path))
    if parts.netloc not in {"", "localhost"} or not parts.path.startswith("/") or "\0" in str(root):
        raise ValueError("STORAGE_URL with file: needs an absolute path, as in file:///var/lib/darkroom/objects")
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"STORAGE_URL names {root}, which can't be made a folder: {error.strerror}") from error
    return FileStorage(root, public_url)


BACKENDS: dict[str, Callable[[str, str | None], Storage]] = {
    "file": _open_file,
}
"""Scheme of STORAGE_URL -> how to open it."""


def open_storage(storage_url: str, public_url: str | None = None) -> Storage:
    """Open the storage that a URL names; `file:` makes its root folder, nothing else is touched.

    Args:
        storage_url: such as `file:///path`.
        public_url: prefix of the URLs written to rows; None leaves it to the backend.

    Raises:
        ValueError: the scheme has no backend, the URL isn't whole, or its
            folder can't be made; the message leaves out what could be a secret.
    """
    scheme = urlsplit(storage_url).scheme
    if scheme not in BACKENDS:
        raise ValueError(f"STORAGE_URL starts with {scheme[:20]!r}; known are {', '.join(sorted(BACKENDS))}")
    return BACKENDS[scheme](storage_url, public_url)
