"""A worker process with the faults of a chaos run; an entry point for dramatiq, as `workers.main` is."""

from tests.chaos import registering, seams


def main():
    registering.register()
    from workers.process import worker  # noqa: PLC0415 - it reads the registries

    seams.install()
    worker.main()
