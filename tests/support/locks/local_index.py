"""A package index in a folder, and wheels that are made for it."""

import base64
import hashlib
import shutil
import zipfile
from collections.abc import Iterable
from pathlib import Path

from packaging.utils import canonicalize_name, parse_wheel_filename
from packaging.version import Version


class LocalIndex:
    """Wheels under `files/`, and below `simple/` a page for each package, as pip reads them (PEP 503)."""

    def __init__(self, folder: Path) -> None:
        self._files = folder.absolute() / "files"
        self._pages = folder.absolute() / "simple"
        self._files.mkdir(parents=True)
        self._pages.mkdir()

    @property
    def url(self) -> str:
        """What pip's `--index-url` takes."""
        return self._pages.as_uri()

    def add(self, wheel: Path) -> None:
        """Offer a wheel, which is moved into the index."""
        name = parse_wheel_filename(wheel.name)[0]
        shutil.move(wheel, self._files / wheel.name)
        page = self._pages / name / "index.html"
        page.parent.mkdir(exist_ok=True)
        with page.open("a") as file:
            file.write(f'<a href="../../files/{wheel.name}">{wheel.name}</a><br>\n')

    def add_empty(self, name: str, version: str, requires: Iterable[str] = (), extras: Iterable[str] = ()) -> str:
        """Offer a wheel that holds metadata only; return its SHA-256 in hex."""
        return self.add_modules(name, version, {}, requires, extras)

    def add_modules(
        self,
        name: str,
        version: str,
        modules: dict[str, bytes],
        requires: Iterable[str] = (),
        extras: Iterable[str] = (),
    ) -> str:
        """Offer a wheel that holds modules, by their path; return its SHA-256 in hex."""
        stem = f"{canonicalize_name(name).replace('-', '_')}-{Version(version)}"
        wheel = self._files.parent / f"{stem}-py3-none-any.whl"
        lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
        lines += [f"Provides-Extra: {extra}" for extra in extras]
        lines += [f"Requires-Dist: {requirement}" for requirement in requires]
        contents = modules | {
            f"{stem}.dist-info/METADATA": "\n".join(lines).encode() + b"\n",
            f"{stem}.dist-info/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        }
        record = "".join(f"{path},sha256={_digest(data)},{len(data)}\n" for path, data in contents.items())
        with zipfile.ZipFile(wheel, "w") as archive:
            for path, data in contents.items():
                archive.writestr(path, data)
            archive.writestr(f"{stem}.dist-info/RECORD", f"{record}{stem}.dist-info/RECORD,,\n")
        sha256 = hashlib.sha256(wheel.read_bytes()).hexdigest()
        self.add(wheel)
        return sha256


def _digest(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()


def newer(version: str) -> str:
    """Return the least newer release, which every dependent takes that doesn't pin the version itself."""
    return f"{Version(version).base_version}.1"
