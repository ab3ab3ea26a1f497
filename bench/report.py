"""Run the benchmarks that docs/performance.md compares, and write their table and plot into it.

    .venv/bin/python -m bench.report [--only throughput,entry] [--quick] [--table-only]

Each benchmark's figures are kept in build/bench as JSON, so that one can be repeated alone; --table-only writes the
table and the plot again from what is there. A run of all takes about half an hour on two idle cores, --quick a third of
it, with one alternation instead of five.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Mapping
from typing import Any

from bench.figures import note
from bench.ground import ROOT
from bench.peers.commands import PEERS

KEPT = ROOT / "build/bench"
DOCUMENT = ROOT / "docs/performance.md"
PLOT = ROOT / "docs/throughput.svg"
BEGIN, END = "<!-- figures: begin -->", "<!-- figures: end -->"
QUICK = {
    "throughput": ("--rounds", "1", "--jobs", "5000", "--peer-jobs", "2000"),
    "job_types": ("--rounds", "1", "--jobs", "1000"),
    "entry": ("--rounds", "1"),
    "idle_latency": ("--rounds", "20"),
    "pictures": ("--rounds", "1", "--pictures", "16", "--gemini-rounds", "1", "--gemini-pictures", "32"),
}
"""The benchmarks in the order of the table, and their options for --quick."""

NAMES = {"raw": "raw asyncpg", "darkroom": "Darkroom", "dramatiq+orm": "dramatiq + ORM"}
Found = Mapping[str, Any]


def run(name: str, *, is_quick: bool) -> None:
    """Run one benchmark, and keep its figures."""
    began_s = time.monotonic()
    command = [sys.executable, "-m", f"bench.{name}", "--json", *(QUICK[name] if is_quick else ())]
    printed = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True, text=True).stdout
    figures = json.loads(printed.splitlines()[-1])
    figures["took_s"] = round(time.monotonic() - began_s)
    KEPT.mkdir(parents=True, exist_ok=True)
    (KEPT / f"{name}.json").write_text(json.dumps(figures, indent=1))
    note(f"{name} took {figures['took_s']} s")


def kept() -> dict[str, Found]:
    return {path.stem: json.loads(path.read_text()) for path in KEPT.glob("*.json")}


def systems_of(throughput: Found) -> list[str]:
    return [name for name in ("raw", "darkroom", *PEERS) if name in throughput]


def drains(found: Found) -> list[str]:
    lines = [
        "| drain | jobs/s | to raw | CPU a job, us | PostgreSQL | Redis | workers |",
        "|---|---|---|---|---|---|---|",
    ]
    for name in systems_of(found):
        cpu = found[f"{name}_cpu_us"]
        to_raw = f"{found[f'{name}_to_raw']:.2f}" if "raw" in found else ""
        lines.append(
            f"| {NAMES.get(name, name)} | {found[name]:,.0f} | {to_raw} | {found[f'{name}_cpu_us_per_job']:,.0f} "
            f"| {cpu['postgres']:,.0f} | {cpu['redis']:,.0f} | {cpu['workers']:,.0f} |"
        )
    return lines


def job_types(found: Found) -> list[str]:
    lines = [
        "| through gate and storage | raw, jobs/s | Darkroom, jobs/s | to raw | CPU a job, us |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| {name} | {found[f'{name}_raw']:,.0f} | {found[f'{name}_darkroom']:,.0f} "
        f"| {found[f'{name}_darkroom_to_raw']:.2f} | {found[f'{name}_darkroom_cpu_us_per_job']:,.0f} |"
        for name in ("enhance", "generate", "modify")
    ]
    return lines


def singles(found: Mapping[str, Found]) -> list[str]:
    lines = ["| figure | | command |", "|---|---|---|"]
    if entry := found.get("entry"):
        lines += [
            (
                f"| submitted one by one, 8 connections | {entry['one_by_one_per_s']:,} a second "
                f"(bare INSERT {entry['bare_one_by_one_per_s']:,}) | `python -m bench.entry` |"
            ),
            (
                f"| {entry['jobs_at_once']:,} in one statement | {entry['at_once_s']:.2f} s "
                f"(bare {entry['bare_at_once_s']:.2f} s) | same |"
            ),
        ]
    if idle := found.get("idle_latency"):
        ratios = ", ".join(f"{idle[f'{count}_at_once_to_one_by_one']:.2f}" for count in (1, 2, 8))
        lines += [
            (
                f"| INSERT to PROCESSING, idle | p50 {idle['to_processing_p50_ms']:.1f} ms, "
                f"p99 {idle['to_processing_p99_ms']:.1f} ms (two bare commits p50 "
                f"{idle['bare_commits_p50_ms']:.1f} ms, p99 {idle['bare_commits_p99_ms']:.1f} ms) "
                "| `python -m bench.idle_latency` |"
            ),
            (
                f"| the same to COMPLETED, no-op stages | p50 {idle['to_completed_p50_ms']:.1f} ms, "
                f"p99 {idle['to_completed_p99_ms']:.1f} ms | same |"
            ),
            f"| 1, 2 and 8 jobs at once, against one by one | {ratios} of the time | same |",
            f"| a fleet of 2 workers and a scheduler, idle | {idle['idle_percent_of_a_core']:.1f} % of a core | same |",
        ]
    return lines if len(lines) > 2 else []


def pictures(found: Found) -> list[str]:
    lines = [
        "| 12-megapixel photographs | a minute | CPU s a picture | workers | pixel children | PostgreSQL |",
        "|---|---|---|---|---|---|",
    ]
    for name, words in (
        ("darkroom", "Darkroom, local engine"),
        ("celery_pillow", "Celery + Pillow, measures and treats"),
        ("celery_resize_only", "Celery + Pillow, resizes only"),
        ("darkroom_gemini", "Darkroom, Gemini of 8 s a call"),
        ("celery_gemini", "Celery with 64 threads, the same Gemini"),
    ):
        if f"{name}_per_minute" in found:
            cpu = found[f"{name}_cpu_s"]
            apart = f"{cpu['children']:.2f}" if "children" in cpu else ""
            lines.append(
                f"| {words} | {found[f'{name}_per_minute']:,.0f} | {found[f'{name}_cpu_s_per_picture']:.2f} "
                f"| {cpu['workers']:.2f} | {apart} | {cpu['postgres']:.3f} |"
            )
    return lines


def taken(found: Mapping[str, Found]) -> str:
    """Return a line about the machine, the versions and how long each benchmark took."""
    one = next(iter(found.values()))["machine"]
    versions = {name: version for each in found.values() for name, version in each.get("versions", {}).items()}
    loads = ", ".join(f"{name} {each['machine']['load']:g}" for name, each in sorted(found.items()))
    times = ", ".join(f"{name} {each['took_s']} s" for name, each in sorted(found.items()))
    rounds = ", ".join(f"{name} {each['rounds']}" for name, each in sorted(found.items()))
    named = f"Versions: {', '.join(f'{n} {v}' for n, v in sorted(versions.items()))}. " if versions else ""
    return (
        f"Taken {one['at'][:10]} on {one['cores']} cores of {one['processor']}, Python {one['python']}, PostgreSQL and "
        f"Redis embedded on the same machine. {named}"
        f"Alternations: {rounds}. Load of the machine at the end: {loads}. Duration: {times}."
    )


def written(found: Mapping[str, Found]) -> str:
    parts = [taken(found)]
    if throughput := found.get("throughput"):
        parts += ["![Jobs a second and CPU a job of each system](throughput.svg)", "\n".join(drains(throughput))]
    if types := found.get("job_types"):
        parts.append("\n".join(job_types(types)))
    if lines := singles(found):
        parts.append("\n".join(lines))
    if measured := found.get("pictures"):
        parts.append("\n".join(pictures(measured)))
    return "\n\n".join(parts)


def plot(found: Found) -> str:
    """Return an SVG with two bars a system: jobs a second, and CPU microseconds a job."""
    systems = systems_of(found)
    width, row, left, half = 760, 34, 130, 230
    most_rate = max(found[name] for name in systems)
    most_cpu = max(found[f"{name}_cpu_us_per_job"] for name in systems)
    height = row * len(systems) + 44
    lines = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
            'font-family="sans-serif" font-size="13">'
        ),
        f'<rect width="{width}" height="{height}" fill="white"/>',
        f'<text x="{left}" y="20">jobs a second</text>',
        f'<text x="{left + half + 70}" y="20">CPU of all processes, us a job</text>',
    ]
    for place, name in enumerate(systems):
        y = 32 + place * row
        colour = {"darkroom": "#c0392b", "raw": "#555555"}.get(name, "#7f8fa6")
        lines.append(f'<text x="{left - 8}" y="{y + 17}" text-anchor="end">{NAMES.get(name, name)}</text>')
        for x, value, most in (
            (left, found[name], most_rate),
            (left + half + 70, found[f"{name}_cpu_us_per_job"], most_cpu),
        ):
            bar = max(1, round(half * value / most))
            lines.append(f'<rect x="{x}" y="{y}" width="{bar}" height="24" fill="{colour}"/>')
            lines.append(f'<text x="{x + bar + 5}" y="{y + 17}">{value:,.0f}</text>')
    return "\n".join([*lines, "</svg>"]) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(QUICK), help="which benchmarks are run")
    parser.add_argument("--quick", action="store_true", help="one alternation of fewer jobs")
    parser.add_argument("--table-only", action="store_true", help="run nothing; write what was kept")
    arguments = parser.parse_args()
    for name in [] if arguments.table_only else arguments.only.split(","):
        run(name, is_quick=arguments.quick)
    found = kept()
    text = DOCUMENT.read_text()
    before, after = text.split(BEGIN)[0], text.split(END)[1]
    DOCUMENT.write_text(f"{before}{BEGIN}\n{written(found)}\n{END}{after}")
    if "throughput" in found:
        PLOT.write_text(plot(found["throughput"]))
    note(f"wrote {DOCUMENT.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
