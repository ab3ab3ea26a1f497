"""The composition root makes every part of a process, and other code gets the parts as arguments."""

import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MAKERS = {
    "workers/process/compose.py": {"create_async_engine"},
    "workers/process/runtime.py": {"Database", "open_storage"},
    "workers/process/tools.py": {"PixelPool", "open_providers", "LocalProvider", "Gate"},
    "workers/process/wake_up.py": {"RedisWakeUps", "RabbitWakeUps"},
}
"""The files in workers that make something which is opened and closed, and what each of them makes."""


def made(path: Path) -> set[str]:
    calls = (node.func for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call))
    return {call.attr if isinstance(call, ast.Attribute) else getattr(call, "id", "") for call in calls}


def test_every_part_is_made_in_the_composition_root_alone():
    parts = set().union(*MAKERS.values())
    makers = {
        str(path.relative_to(ROOT)): found for path in (ROOT / "workers").rglob("*.py") if (found := made(path) & parts)
    }

    assert makers == MAKERS


def test_broker_of_every_process_comes_from_the_composition_root():
    uses = [
        str(path.relative_to(ROOT))
        for path in (ROOT / "workers").rglob("*.py")
        if "wake_up.make_broker(" in path.read_text() or "wake_up import make_broker" in path.read_text()
    ]

    assert uses == ["workers/process/compose.py"]
