"""Every benchmark can be imported, and answers --help if it takes options, so that no change breaks it unseen."""

import asyncio
import inspect
import pkgutil
import sys
from importlib import import_module

import pytest

import bench

OTHER_ENVIRONMENT = "bench.peers"
"""Its modules run in the environment of the systems that Darkroom is compared with."""

NEEDS_SKLEARN = {"bench.quality_fit", "bench.quality_fit_casts"}
"""These fit the local engine's figures, with a package that isn't installed for anything else."""

MODULES = [one.name for one in pkgutil.iter_modules(bench.__path__, "bench.") if one.name != OTHER_ENVIRONMENT]


@pytest.mark.parametrize("name", MODULES)
def test_benchmark_is_imported_and_answers_help(name, monkeypatch, capsys):
    if name in NEEDS_SKLEARN:
        pytest.importorskip("sklearn")
    monkeypatch.setattr(sys, "argv", [name])
    module = import_module(name)
    if ".parse_args()" not in inspect.getsource(module):
        return

    monkeypatch.setattr(sys, "argv", [name, "--help"])
    main = (lambda: asyncio.run(module.main())) if inspect.iscoroutinefunction(module.main) else module.main
    with pytest.raises(SystemExit) as ended:
        main()

    assert ended.value.code == 0
    assert "usage: " in capsys.readouterr().out
