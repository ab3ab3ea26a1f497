"""The command demo: everything at once on sample photographs."""

from workers.cli.failures import CommandError


def demo() -> int:
    """Run everything at once on sample photographs."""
    raise CommandError("the demo isn't part of this version yet; try `darkroom enhance PATH`")
