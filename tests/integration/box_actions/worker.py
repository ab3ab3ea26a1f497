"""A worker that knows the table box_actions; an entry point for dramatiq, as `workers.main` is."""

from tests.integration.box_actions import actions


def main() -> None:
    assert actions.BOX_ACTIONS  # registered by the import, before what reads the registry is imported
    from workers.process import worker  # noqa: PLC0415 - as above

    worker.main()
