"""What operators do with batches: submit an album, look, cancel, and try again what failed."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID, uuid4

from models.connections import Connection
from models.history.actions import record_action
from models.queue import batches
from models.queue.batches import Batch
from models.queue.job_names import job_names, key_of
from workers.operations.batch_lists import batch_not_found
from workers.operations.errors import NotFoundError, translated
from workers.operations.ids import whole_id
from workers.operations.models import require_known_models_of
from workers.process.runtime import Runtime


async def submit_album(
    runtime: Runtime,
    album_id: str,
    tier: str | None,
    *,
    pipeline_id: str | None = None,
    redo: bool = False,
    run_at: datetime | timedelta | None = None,
) -> Batch:
    """Submit the pictures of an album, paid by its user, and wake workers; return the batch, which may have no jobs.

    The arguments are those of `models.queue.batches.submit_album`.

    Raises:
        InvalidInputError: the pipeline breaks a rule or names an unknown model, or a picture can't be read.
        NotFoundError: the album or the pipeline doesn't exist.
        NotYoursError: a picture or the pipeline is another user's and not public.
        PaymentRefusedError: the user has too few tokens.
    """
    owner = await runtime.database.run(lambda connection: batches.album_owner(connection, album_id))
    if owner is None:
        raise NotFoundError(f"album {album_id} not found; check the id")
    if pipeline_id is not None:
        await require_known_models_of(runtime, pipeline_id)
    key = f"album enhance {uuid4()}"  # so that repeating a commit whose answer got lost returns the same batch
    with translated():
        batch_id = await runtime.database.commit(
            "submit_album",
            lambda connection: batches.submit_album(
                *(connection, owner, album_id, tier),
                pipeline_id=pipeline_id,
                redo=redo,
                idempotency_key=key,
                run_at=run_at,
            ),
        )
    await runtime.wake()
    return await get_batch(runtime, batch_id)


async def find_batch(runtime: Runtime, given: str) -> Batch:
    """Return a batch by its id, or by the beginning of its id.

    Raises:
        AmbiguousIdError: several ids begin so.
        NotFoundError: there is no such batch.
    """
    whole = await whole_id(runtime, "batch", given)
    try:
        return await get_batch(runtime, UUID(whole))
    except ValueError as error:
        raise batch_not_found(given) from error


async def get_batch(runtime: Runtime, batch_id: UUID) -> Batch:
    """Return a batch.

    Raises:
        NotFoundError: there is no such batch.
    """
    found = await runtime.database.run(lambda connection: batches.read_batch(connection, batch_id))
    if found is None:
        raise batch_not_found(str(batch_id))
    return found


async def list_batches(runtime: Runtime, user_id: str | None, *, limit: int) -> list[Batch]:
    """Return the newest batches, of one user or of all."""
    return await runtime.database.run(lambda connection: batches.newest_batches(connection, user_id, limit))


async def count_batches(runtime: Runtime, user_id: str | None) -> int:
    """Count the batches of one user, or all."""
    return await runtime.database.run(lambda connection: batches.count_batches(connection, user_id))


async def jobs_of_batch(runtime: Runtime, batch_id: UUID) -> Sequence[str]:
    """Return the names of a batch's jobs, each an id or TABLE/ID, in the order of the album."""

    async def read(connection: Connection) -> Sequence[str]:
        ids = await batches.jobs_of_batch(connection, batch_id)
        return list((await job_names(connection, [key_of("enhance", one) for one in ids])).values())

    return await runtime.database.run(read)


async def cancel_batch(runtime: Runtime, batch_id: UUID, *, actor: str, reason: str | None = None) -> int:
    """Cancel the unfinished jobs of a batch; return how many were cancelled. A second call cancels none.

    Raises:
        NotFoundError: there is no such batch.
    """

    async def cancel(connection: Connection) -> int:
        async with connection.transaction():
            cancelled = await batches.cancel_batch(connection, batch_id)
            if cancelled:
                await record_action(
                    connection,
                    actor=actor,
                    action="batch_cancel",
                    target=str(batch_id),
                    before=None,
                    after={"cancelled": cancelled},
                    reason=reason,
                )
            return cancelled

    with translated():
        return await runtime.database.commit("cancel_batch", cancel)


async def retry_batch(runtime: Runtime, batch_id: UUID, *, actor: str, reason: str | None = None) -> Batch:
    """Submit a batch's jobs that ended without success again, as a new batch, and wake workers; return the new batch.

    All of them are submitted and charged, or none. Pictures that are done or under way again are left out, so a second
    call returns a batch without jobs.

    Raises:
        NotFoundError: there is no such batch.
        NotYoursError: the user may not enhance a picture any more.
        PaymentRefusedError: the user has too few tokens.
    """
    new_id = uuid4()  # chosen here, so that repeating a commit whose answer got lost returns the same batch

    async def retry(connection: Connection) -> None:
        async with connection.transaction():
            await batches.retry_batch(connection, batch_id, new_id)
            await record_action(
                connection,
                actor=actor,
                action="batch_retry",
                target=str(batch_id),
                before=None,
                after={"batchId": str(new_id)},
                reason=reason,
            )

    with translated():
        await runtime.database.commit("retry_batch", retry)
    await runtime.wake()
    return await get_batch(runtime, new_id)
