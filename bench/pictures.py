"""Photographs of 12 megapixels, end to end: pictures a minute, CPU a picture, and where it goes.

- By the local engine, at default settings, to a result of 2048 px; by Celery with Pillow in its task, which measures
  and treats in its own way; and by the same without measuring or treating anything. All write JPEGs of the same size
  with the same quality. What each does stands in bench/peers/pillow_app.py.
- By a fake Gemini that answers each of a picture's two calls after 8 s; and by Celery with 64 threads.

The photographs are eight real ones of a Debian package (bench/photographs.tsv), which are downloaded and brought to 12
megapixels; each upload differs. Goal: at least 1.3 times the pictures of Pillow in Celery.

    .venv/bin/python -m bench.pictures [--json] [--rounds 5] [--pictures 192] [--gemini-rounds 2] [--where]

With --where the functions of the local engine that take most CPU are printed instead, measured in one process.
"""

import cProfile
import hashlib
import io
import pstats
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import psutil
from PIL import Image

from bench.cpu import Servers
from bench.drains import ENHANCEMENTS, Drain, Measurement, Table, darkroom, emptied
from bench.figures import Figures, machine, median, note, options, show
from bench.ground import JOBS, ROOT, Ground, ground, run
from bench.peer_workers import peer, peer_versions
from bench.peers.commands import pillow
from bench.photographs import fetch
from pipelines.imaging.header import DecodeLimits
from pipelines.options import PipelineOptions
from pipelines.prompts import corrections
from pipelines.providers.local.reading import analysis_of
from pipelines.providers.local.work import enhanced, findings_of
from pipelines.storage.backends import open_storage
from workers.process.supervisor import WorkerProcesses

NAMES = ("bridge", "sunset", "dragonfly", "seeding", "kleiber", "infinite_sea", "wine", "fossa")
PIXELS = 12_000_000
SIDE_PX = 2048
CACHE = ROOT / "build/photographs"
GEMINI_S = 8
GEMINI_THREADS = 64
MOST_SHOWN = 25

IN_2K = Table(ENHANCEMENTS.name, JOBS.replace("'TIER_1K', 2", "'TIER_2K', 5"), ENHANCEMENTS.is_done, ENHANCEMENTS.more)
assert IN_2K.insert != JOBS


class Workers(WorkerProcesses):
    """The workers that ship, without anything replaced."""


def uploads(count: int) -> Iterator[bytes]:
    """Yield JPEGs of 12 megapixels, each different by a comment that holds its number."""
    paths = fetch(CACHE, names=NAMES)
    pictures = []
    for path in paths.values():
        with Image.open(path) as opened:
            scale = (PIXELS / (opened.width * opened.height)) ** 0.5
            size = (round(opened.width * scale), round(opened.height * scale))
            pictures.append(opened.convert("RGB").resize(size, Image.Resampling.LANCZOS))
    for number in range(count):
        file = io.BytesIO()
        pictures[number % len(pictures)].save(file, "JPEG", quality=92, comment=f"upload {number}".encode())
        yield file.getvalue()


async def store_originals(place: Ground, folder: Path, count: int) -> None:
    """Store the uploads under the keys of the users' pictures, and as files for the peers."""
    storage = open_storage(place.services.storage_url)
    for path in (folder / f"{number}.jpg" for number in range(1, count + 1)):
        number = int(path.stem)
        data = path.read_bytes()
        of_job = number % 100 + 1
        key = f"users/u{of_job}/originals/i{of_job}.jpg"
        await storage.put(key, data, "image/jpeg", hashlib.sha256(data).hexdigest())


def children_s(workers: list[int]) -> float:
    """Return the CPU seconds of the pixel children of workers."""
    trees = [psutil.Process(pid).children(recursive=True) for pid in workers]
    found = [one for tree in trees for one in tree if any(part.endswith("imaging/child.py") for part in one.cmdline())]
    return sum(one.cpu_times().user + one.cpu_times().system for one in found)


@contextmanager
def slow_gemini() -> Iterator[str]:
    """Run the fake server in a process of its own, whose CPU isn't counted; yield its URL."""
    command = [sys.executable, "-m", "bench.slow_gemini", str(GEMINI_S)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        assert server.stdin is not None
        yield server.stdout.readline().strip()
        server.stdin.close()


async def checked(place: Ground, folder: Path, name: str, count: int, *, ours: bool) -> None:
    """Check that each picture was made, at its size."""
    if ours:
        connection = await place.connect()
        right = await connection.fetchval(
            "SELECT count(*) FROM public.image_enhancement_jobs WHERE starts_with(id, $1) "
            'AND greatest("enhancedWidth", "enhancedHeight") = $2',
            name,
            SIDE_PX,
        )
        await connection.close()
    else:
        made = [folder / f"{name}{number}.jpg" for number in range(1, count + 1)]
        right = sum(max(Image.open(path).size) == SIDE_PX for path in made)
    assert right == count, f"{right} of {count} pictures have a long side of {SIDE_PX} px"


async def measured(
    place: Ground, folder: Path, system: str, name: str, count: int, variables: Mapping[str, str]
) -> Drain:
    measurement = Measurement(place, await Servers.of(place))
    await emptied(place)
    if system.startswith("darkroom"):
        drain = await darkroom(
            measurement, name, count, folder, table=IN_2K, kind=Workers, environment=variables, parts=children_s
        )
    else:
        one = pillow("threads", GEMINI_THREADS) if "gemini" in system else pillow("prefork", 2)
        drain = await peer(measurement, one, name, count, folder, {"ORIGINALS": str(folder), **variables})
    await checked(place, folder, name, count, ours=system.startswith("darkroom"))
    if system == "darkroom_gemini":
        connection = await place.connect()
        calls = await connection.fetchval(
            "SELECT count(*) FROM darkroom.provider_calls WHERE provider = 'gemini' AND starts_with(job_id, $1)", name
        )
        await connection.close()
        assert calls >= 2 * count, f"{calls} calls for {count} pictures"
    return drain


async def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--pictures", type=int, default=192, help="pictures of each drain")
    parser.add_argument("--gemini-pictures", type=int, default=96, help="pictures of each drain with the fake Gemini")
    parser.add_argument("--gemini-rounds", type=int, default=2, help="alternations with the fake Gemini; 0 for none")
    parser.add_argument("--where", action="store_true", help="print which functions take most CPU")
    arguments = parser.parse_args()
    if arguments.where:
        where(arguments.pictures)
        return
    drains: dict[str, list[Drain]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        most = max(arguments.pictures, arguments.gemini_pictures if arguments.gemini_rounds else 0)
        for number, data in enumerate(uploads(most), 1):
            (folder / f"{number}.jpg").write_bytes(data)
        async with ground() as place:
            await store_originals(place, folder, most)
            local = {"PROVIDER": "local"}
            kinds = [
                ("darkroom", arguments.pictures, local),
                ("celery_pillow", arguments.pictures, {"WORK": "enhanced"}),
                ("celery_resize_only", arguments.pictures, {"WORK": "resized"}),
            ]
            with slow_gemini() as url:
                at = {"GEMINI_BASE_URL": url, "GEMINI_API_KEY": "a-key"}
                remote = [
                    ("darkroom_gemini", arguments.gemini_pictures, at | {"PROVIDER": "gemini"}),
                    ("celery_gemini", arguments.gemini_pictures, at | {"WORK": "generated"}),
                ]
                for number in range(max(arguments.rounds, arguments.gemini_rounds)):
                    local_ones = kinds if number < arguments.rounds else []
                    for system, count, variables in [
                        *local_ones,
                        *(remote if number < arguments.gemini_rounds else []),
                    ]:
                        drain = await measured(place, folder, system, f"{system}{number}x", count, variables)
                        drains.setdefault(system, []).append(drain)
                        note(f"{number + 1}. {system:20} {60 * drain.jobs_per_s:6.0f} a minute  {drain.cpu_us}")
    show(figures_of(drains) | {"rounds": arguments.rounds, "pictures": arguments.pictures}, is_json=arguments.json)


def figures_of(drains: dict[str, list[Drain]]) -> Figures:
    figures: Figures = {"benchmark": "pictures"}
    for system, each in drains.items():
        figures[f"{system}_per_minute"] = median([60 * drain.jobs_per_s for drain in each])
        figures[f"{system}_cpu_s_per_picture"] = median([drain.cpu_us_per_job / 1e6 for drain in each])
        figures[f"{system}_cpu_s"] = {
            name: median([drain.cpu_us[name] / 1e6 for drain in each]) for name in each[0].cpu_us
        }
    for ours, theirs in (
        ("darkroom", "celery_pillow"),
        ("darkroom", "celery_resize_only"),
        ("darkroom_gemini", "celery_gemini"),
    ):
        if theirs in drains:
            pairs = list(zip(drains[ours], drains[theirs], strict=True))
            figures[f"{ours}_to_{theirs}"] = median([one.jobs_per_s / other.jobs_per_s for one, other in pairs])
            figures[f"{ours}_cpu_to_{theirs}"] = median(
                [one.cpu_us_per_job / other.cpu_us_per_job for one, other in pairs]
            )
    return figures | {"machine": machine(), "versions": peer_versions()}


def where(count: int) -> None:
    """Print CPU milliseconds a picture of the functions of ours in which analysis and treatment spend most."""
    pictures = list(uploads(min(count, len(NAMES))))
    limits = DecodeLimits()
    findings_of(pictures[0], limits, SIDE_PX)
    profile = cProfile.Profile(time.process_time)
    profile.enable()
    for data in pictures:
        findings = findings_of(data, limits, SIDE_PX)
        if findings.plain is None:
            wanted = corrections(analysis_of(findings), PipelineOptions().prompt)
            enhanced(data, None, None, SIDE_PX, wanted, limits)
    profile.disable()
    found = pstats.Stats(profile).stats  # type: ignore[attr-defined]
    rows = [
        (1000 * total_s / len(pictures), f"{Path(file).parent.name}/{Path(file).name} {function}")
        for (file, _, function), (_, _, _, total_s, _) in found.items()
        if "/pipelines/" in file
    ]
    for spent_ms, function in sorted(rows, reverse=True)[:MOST_SHOWN]:
        print(f"{spent_ms:7.1f} ms  {function}")


if __name__ == "__main__":
    run(main)
