from xml.etree import ElementTree as ET

from bench import entry, idle_latency, job_types, pictures, report, throughput
from bench.drains import Drain
from bench.peers.commands import PEERS

SYSTEMS = ("raw", "darkroom", *PEERS)
MEASURED = {module.__name__.removeprefix("bench.") for module in (entry, idle_latency, job_types, pictures, throughput)}


def figures():
    drains = {
        system: [Drain(100.0 * place, {"postgres": 500.0, "redis": 5.0, "workers": 200.0})] * 3
        for place, system in enumerate(SYSTEMS, 1)
    }
    return throughput.figures_of(drains) | {"took_s": 9}


def test_every_measured_system_has_a_row_with_its_rate_and_its_cpu():
    rows = [line.split("|") for line in report.written({"throughput": figures()}).splitlines() if line.startswith("| ")]

    assert [row[2].strip() for row in rows[1:]] == [str(100 * place) for place in range(1, len(SYSTEMS) + 1)]
    assert {row[4].strip() for row in rows[1:]} == {"705"}


def test_ratios_are_of_the_same_round():
    assert figures()["darkroom_to_raw"] == 2.0
    assert figures()["darkroom_cpu_to_celery"] == 1.0


def test_the_plot_shows_two_bars_for_each_system():
    bars = ET.fromstring(report.plot(figures())).findall("{http://www.w3.org/2000/svg}rect")  # noqa: S314 - our own

    assert len(bars) == 1 + 2 * len(SYSTEMS)


def test_the_report_runs_every_benchmark_that_compares():
    assert set(report.QUICK) == MEASURED


def test_the_document_has_a_place_for_the_tables():
    text = report.DOCUMENT.read_text()

    assert (text.count(report.BEGIN), text.count(report.END)) == (1, 1)
