-- What each table, column, view, sequence and type of schema darkroom is, for people who read the schema, as with \d+.
-- `db upgrade` writes what differs. The comments of functions and views are the lines above them in their own files.

COMMENT ON TABLE darkroom.alembic_version IS
    'The revisions to which this database was upgraded, one row for each branch; read by every process at its start.';
COMMENT ON COLUMN darkroom.alembic_version.version_num IS 'The newest applied revision of a branch.';

COMMENT ON TABLE darkroom.settings IS
    'Settings that `darkroom db upgrade` and operators recorded for triggers and claims: mode of money, prices, pauses, roles, and which objects were made.';
COMMENT ON COLUMN darkroom.settings.key IS 'Name of the setting, such as mode, prices, pauses, buying, granted_roles.';
COMMENT ON COLUMN darkroom.settings.value IS 'The value, in the form that belongs to its key.';
COMMENT ON COLUMN darkroom.settings.updated_at IS 'When it was last written.';

COMMENT ON TABLE darkroom.job_queue IS
    'One row for each unfinished job. The row is the fence: only a worker that locks it with the current lease_token may write for the job.';
COMMENT ON COLUMN darkroom.job_queue.id IS 'Id of the queue row.';
COMMENT ON COLUMN darkroom.job_queue.job_type IS 'The job''s type: enhance, blend, generate or modify.';
COMMENT ON COLUMN darkroom.job_queue.job_id IS 'The job''s id in its job table.';
COMMENT ON COLUMN darkroom.job_queue.user_id IS
    'The user who submitted the job: the id, and for applications other than pictures APPLICATION/ID.';
COMMENT ON COLUMN darkroom.job_queue.tier IS 'The job''s tier.';
COMMENT ON COLUMN darkroom.job_queue.queue IS 'The queue from which workers claim it.';
COMMENT ON COLUMN darkroom.job_queue.stage IS 'The stage that runs or comes next.';
COMMENT ON COLUMN darkroom.job_queue.payload IS
    'Arguments of the job that its row has no column for, such as a model for this attempt or an aspect.';
COMMENT ON COLUMN darkroom.job_queue.status IS
    'pending: waits for its turn; retrying: waits for scheduled_at; processing: claimed.';
COMMENT ON COLUMN darkroom.job_queue.ready IS
    'Whether a claim may take it; false while it is paused or waits for its producer.';
COMMENT ON COLUMN darkroom.job_queue.priority IS 'Reserved: no release reads it.';
COMMENT ON COLUMN darkroom.job_queue.position IS
    'Its start tag in millionths of a token; the lowest is claimed first, and of equal ones the one with the lowest id.';
COMMENT ON COLUMN darkroom.job_queue.units IS
    'Its cost divided by its user''s weight, in millionths of a token; undivided while held_by is tag.';
COMMENT ON COLUMN darkroom.job_queue.held_by IS
    'Why a pending job cannot be claimed, if no pause is the reason: tag (its position is to be settled) or cap (it waits for a free slot of its user''s).';
COMMENT ON COLUMN darkroom.job_queue.attempts IS
    'How many attempts have begun; an attempt that was released or snoozed is subtracted again.';
COMMENT ON COLUMN darkroom.job_queue.max_attempts IS 'How many attempts it may have: one, and its retries.';
COMMENT ON COLUMN darkroom.job_queue.last_error IS
    'Why the last attempt failed or waits, or why the database refuses the job.';
COMMENT ON COLUMN darkroom.job_queue.scheduled_at IS 'When it is due.';
COMMENT ON COLUMN darkroom.job_queue.run_at IS
    'The time before which its producer doesn''t want it to begin; NULL for at once.';
COMMENT ON COLUMN darkroom.job_queue.created_at IS 'When it entered the queue.';
COMMENT ON COLUMN darkroom.job_queue.started_at IS 'When its claim began; NULL while it has none.';
COMMENT ON COLUMN darkroom.job_queue.claimed_at IS
    'When it was claimed for the first time; NULL before, and where a worker of an earlier release claimed it.';
COMMENT ON COLUMN darkroom.job_queue.worker_id IS 'The worker process that holds it; NULL if none does.';
COMMENT ON COLUMN darkroom.job_queue.lease_token IS
    'Random for each claim; a write with another token changes nothing.';
COMMENT ON COLUMN darkroom.job_queue.deadline_at IS 'Deadline of the stage that runs; 30 s later the claim is rescued.';
COMMENT ON COLUMN darkroom.job_queue.batch_id IS 'The batch of which it is a job; NULL for other jobs.';
COMMENT ON COLUMN darkroom.job_queue.notified_at IS
    'When a change was last notified; changes of the stage are notified once a second at most.';
COMMENT ON COLUMN darkroom.job_queue.paused_by IS 'Name of the pause that holds it back; NULL if none does.';
COMMENT ON COLUMN darkroom.job_queue.refusals IS 'How often in a row the database refused to start it.';
COMMENT ON COLUMN darkroom.job_queue.refused_since IS
    'Since when the database refuses to start it; NULL if it does not.';
COMMENT ON COLUMN darkroom.job_queue.refused_state IS 'The SQLSTATE of the last refusal.';
COMMENT ON COLUMN darkroom.job_queue.suspect_of IS
    'The worker that died while it ran this job; until it has passed that stage, it runs alone in a process. NULL for other jobs.';
COMMENT ON COLUMN darkroom.job_queue.run_token IS
    'The lease_token of the previous claim; if workflowRunId holds it, that claim wrote it there.';

COMMENT ON TABLE darkroom.turns IS
    'Whose turn is when: for each queue and user the finish tag of the job that entered last. A row below virtual time says nothing any more.';
COMMENT ON COLUMN darkroom.turns.queue IS 'The queue.';
COMMENT ON COLUMN darkroom.turns.user_id IS 'The user, as job_queue has it.';
COMMENT ON COLUMN darkroom.turns.finish IS 'Start tag plus units of the user''s last job, in millionths of a token.';
COMMENT ON SEQUENCE darkroom.freed_slots_id_seq IS 'Gives rows of darkroom.freed_slots their id.';
COMMENT ON SEQUENCE darkroom.virtual_time_seq IS
    'Virtual time of queue default in millionths of a token: new users enter at it, and claims advance it.';
COMMENT ON SEQUENCE darkroom.head_start_seq IS
    'Up to where, in virtual time, head starts have been given to users with priority.';
COMMENT ON TABLE darkroom.freed_slots IS
    'Users who may have a free slot under their cap; the next claim looks, and deletes the row.';
COMMENT ON COLUMN darkroom.freed_slots.id IS 'Id of the row.';
COMMENT ON COLUMN darkroom.freed_slots.user_id IS 'The user, as job_queue has it.';

COMMENT ON TABLE darkroom.workers IS
    'One row for each worker process, with its lease. A worker whose lease has expired counts as dead, and its jobs are rescued.';
COMMENT ON COLUMN darkroom.workers.id IS 'Random at each start of a process.';
COMMENT ON COLUMN darkroom.workers.host IS 'Host name of the machine.';
COMMENT ON COLUMN darkroom.workers.pid IS 'Process id on that machine.';
COMMENT ON COLUMN darkroom.workers.queues IS 'The queues from which it claims.';
COMMENT ON COLUMN darkroom.workers.lanes IS 'How many jobs it runs at once.';
COMMENT ON COLUMN darkroom.workers.lease_expires_at IS 'When its jobs may be rescued; renewed every few seconds.';
COMMENT ON COLUMN darkroom.workers.started_at IS 'When it started.';
COMMENT ON COLUMN darkroom.workers.connect_s IS 'How long its last connection to PostgreSQL took, in seconds.';
COMMENT ON COLUMN darkroom.workers.revision IS
    'The newest revision that it knows; NULL for a process of a release before this column.';

COMMENT ON TABLE darkroom.job_money IS
    'What Darkroom charged for a job and refunded. By the primary key, each happens at most once.';
COMMENT ON COLUMN darkroom.job_money.job_type IS 'The job''s type: enhance, blend, generate or modify.';
COMMENT ON COLUMN darkroom.job_money.job_id IS 'The job''s id.';
COMMENT ON COLUMN darkroom.job_money.kind IS 'charge or refund.';
COMMENT ON COLUMN darkroom.job_money.amount IS 'Tokens, always more than 0.';
COMMENT ON COLUMN darkroom.job_money.at IS 'When it was charged or refunded.';

COMMENT ON TABLE darkroom.earlier_money IS
    'Charges and refunds of earlier jobs whose ids later jobs have, moved here from darkroom.job_money.';
COMMENT ON COLUMN darkroom.earlier_money.id IS 'Id of the row.';
COMMENT ON COLUMN darkroom.earlier_money.job_type IS 'The earlier job''s type, such as studio.modify.';
COMMENT ON COLUMN darkroom.earlier_money.job_id IS 'The id, which a later job has now.';
COMMENT ON COLUMN darkroom.earlier_money.kind IS 'charge or refund.';
COMMENT ON COLUMN darkroom.earlier_money.amount IS 'Tokens, always more than 0.';
COMMENT ON COLUMN darkroom.earlier_money.at IS 'When it was charged or refunded.';

COMMENT ON TABLE darkroom.token_entries IS
    'Every change of a balance that an application keeps itself: for each user, the sum of the amounts is the balance.';
COMMENT ON COLUMN darkroom.token_entries.id IS 'Id of the entry; a later one has a larger id.';
COMMENT ON COLUMN darkroom.token_entries.application IS
    'The application whose balance it is; of several that share a table of balances, the first that is described.';
COMMENT ON COLUMN darkroom.token_entries.user_id IS 'The user''s id.';
COMMENT ON COLUMN darkroom.token_entries.amount IS 'Tokens that were added; below 0 where they were taken.';
COMMENT ON COLUMN darkroom.token_entries.kind IS
    'opening: the balance that was found; charge and refund: of a job by Darkroom; other: by any other program.';
COMMENT ON COLUMN darkroom.token_entries.job_id IS 'The id of the job that was charged or refunded; else NULL.';
COMMENT ON COLUMN darkroom.token_entries.balance_after IS 'The balance after it.';
COMMENT ON COLUMN darkroom.token_entries.created_at IS 'When it was written.';

COMMENT ON TABLE darkroom.opening_balances IS
    'A user''s balance before the first ledger row that Darkroom can see: balance = opening balance + sum of the ledger.';
COMMENT ON COLUMN darkroom.opening_balances.user_id IS 'The user''s id.';
COMMENT ON COLUMN darkroom.opening_balances.balance IS 'Tokens that the ledger does not explain.';
COMMENT ON COLUMN darkroom.opening_balances.recorded_at IS 'When it was recorded.';

COMMENT ON TABLE darkroom.stage_runs IS 'The history of every job, append-only, in weekly partitions.';
COMMENT ON COLUMN darkroom.stage_runs.id IS 'Number of the row, in the order of insertion.';
COMMENT ON COLUMN darkroom.stage_runs.job_type IS 'The job''s type: enhance, blend, generate or modify.';
COMMENT ON COLUMN darkroom.stage_runs.job_id IS 'The job''s id.';
COMMENT ON COLUMN darkroom.stage_runs.event IS
    'claimed, started, finished, failed, released, rescued, fenced (a lost claim wrote nothing), retried, snoozed or handed_over (to the queue of the next stage).';
COMMENT ON COLUMN darkroom.stage_runs.stage IS 'The stage that the event concerns.';
COMMENT ON COLUMN darkroom.stage_runs.attempt IS 'Number of the attempt, from 1.';
COMMENT ON COLUMN darkroom.stage_runs.worker_id IS 'Id of the worker process.';
COMMENT ON COLUMN darkroom.stage_runs.at IS 'When the event happened.';
COMMENT ON COLUMN darkroom.stage_runs.duration_ms IS 'How long the stage took, in milliseconds.';
COMMENT ON COLUMN darkroom.stage_runs.input_hash IS 'Hash of what was asked for, as 64 hex digits.';
COMMENT ON COLUMN darkroom.stage_runs.output IS 'The stage''s output, or the payload of the claim.';
COMMENT ON COLUMN darkroom.stage_runs.error IS 'Why it failed, or why it waits.';

COMMENT ON TABLE darkroom.provider_calls IS
    'Every call to a provider: recorded before the call as an intent, and closed after it. A process that dies leaves its intent open, which counts as paid.';
COMMENT ON COLUMN darkroom.provider_calls.id IS 'Number of the row, in the order of insertion.';
COMMENT ON COLUMN darkroom.provider_calls.job_type IS 'The job''s type: enhance, blend, generate or modify.';
COMMENT ON COLUMN darkroom.provider_calls.job_id IS 'The job''s id.';
COMMENT ON COLUMN darkroom.provider_calls.user_id IS 'The id of the user who submitted the job.';
COMMENT ON COLUMN darkroom.provider_calls.attempt IS 'The job''s attempt.';
COMMENT ON COLUMN darkroom.provider_calls.provider IS 'The provider, such as gemini.';
COMMENT ON COLUMN darkroom.provider_calls.model IS 'The model; NULL where the provider has none.';
COMMENT ON COLUMN darkroom.provider_calls.purpose IS 'analyze or generate.';
COMMENT ON COLUMN darkroom.provider_calls.input_hash IS
    'Hash of what is asked for; equal for calls that ask for the same.';
COMMENT ON COLUMN darkroom.provider_calls.outcome IS 'open, answered, or the name of what went wrong.';
COMMENT ON COLUMN darkroom.provider_calls.may_be_paid IS 'Whether the provider may have charged for it.';
COMMENT ON COLUMN darkroom.provider_calls.started_at IS 'When the intent was written.';
COMMENT ON COLUMN darkroom.provider_calls.finished_at IS 'When the call ended; NULL while open.';
COMMENT ON COLUMN darkroom.provider_calls.latency_ms IS 'How long it took, in milliseconds.';
COMMENT ON COLUMN darkroom.provider_calls.prompt_units IS 'What was sent, in the provider''s own units.';
COMMENT ON COLUMN darkroom.provider_calls.output_units IS 'What came back, in the provider''s own units.';
COMMENT ON COLUMN darkroom.provider_calls.images IS 'How many pictures came back.';
COMMENT ON COLUMN darkroom.provider_calls.cost_usd IS
    'What it cost in USD, by the answer or else by the table of prices.';
COMMENT ON COLUMN darkroom.provider_calls.payer IS 'The payer whose budget it is counted in: user:ID, user:APPLICATION/ID for applications other than pictures, or anonymous.';
COMMENT ON COLUMN darkroom.provider_calls.quoted_usd IS 'What the gate counted before the call, in USD.';
COMMENT ON COLUMN darkroom.provider_calls.quoted_images IS 'How many pictures the gate counted before the call.';
COMMENT ON COLUMN darkroom.provider_calls.zone IS 'Time zone in which the provider''s day of quota begins.';
COMMENT ON COLUMN darkroom.provider_calls.was_sent IS
    'False if the request was never sent; then rates and budgets do not count it.';
COMMENT ON COLUMN darkroom.provider_calls.is_free IS 'Whether it was for a job of tier FREE.';
COMMENT ON COLUMN darkroom.provider_calls.problem IS
    'What came back instead of what was asked for, in words of Darkroom; NULL if the right answer came.';

COMMENT ON TABLE darkroom.artifacts IS
    'The picture that a job has bought and stored, recorded before the job is completed, so that a later attempt does not buy it again.';
COMMENT ON COLUMN darkroom.artifacts.job_type IS 'The job''s type: enhance, blend, generate or modify.';
COMMENT ON COLUMN darkroom.artifacts.job_id IS 'The job''s id.';
COMMENT ON COLUMN darkroom.artifacts.input_hash IS 'Hash of all that the picture depends on, as 64 hex digits.';
COMMENT ON COLUMN darkroom.artifacts.user_id IS 'The user who submitted the job, as job_queue has it.';
COMMENT ON COLUMN darkroom.artifacts.key IS 'The object''s key in the storage.';
COMMENT ON COLUMN darkroom.artifacts.sha256 IS 'SHA-256 of the object''s bytes, in hex.';
COMMENT ON COLUMN darkroom.artifacts.bytes IS 'Size of the object in bytes.';
COMMENT ON COLUMN darkroom.artifacts.width IS 'Width in pixels.';
COMMENT ON COLUMN darkroom.artifacts.height IS 'Height in pixels.';
COMMENT ON COLUMN darkroom.artifacts.model IS 'The model that made the picture.';
COMMENT ON COLUMN darkroom.artifacts.temperature IS 'The model''s temperature; NULL where there is none.';
COMMENT ON COLUMN darkroom.artifacts.treatments IS 'What was done to the picture, in words.';
COMMENT ON COLUMN darkroom.artifacts.created_at IS 'When it was recorded.';

COMMENT ON TABLE darkroom.submissions IS 'The job that was made for an idempotency key; deleted by retention.';
COMMENT ON COLUMN darkroom.submissions.user_id IS 'The user''s id; different users may use the same key.';
COMMENT ON COLUMN darkroom.submissions.idempotency_key IS 'The producer''s key.';
COMMENT ON COLUMN darkroom.submissions.job_type IS 'The type of the job that was made.';
COMMENT ON COLUMN darkroom.submissions.job_id IS 'The job that was made.';
COMMENT ON COLUMN darkroom.submissions.created_at IS 'When the job was submitted.';
COMMENT ON COLUMN darkroom.submissions.arguments IS
    'The arguments of the submission, private ones as hashes; the same key with other arguments is refused. NULL in rows of an earlier release.';

COMMENT ON TABLE darkroom.bells IS
    'Requests for wake-ups of an earlier release, whose workers still write them; nothing reads them.';
COMMENT ON COLUMN darkroom.bells.queue IS 'Name of the queue.';
COMMENT ON COLUMN darkroom.bells.armed IS 'Whether an idle worker asked to be woken.';

COMMENT ON TABLE darkroom.schedules IS
    'Until when a periodic task''s ticks exist. A scheduler locks the row while it creates ticks.';
COMMENT ON COLUMN darkroom.schedules.name IS 'Name of the periodic task.';
COMMENT ON COLUMN darkroom.schedules.planned_until IS
    'Ticks up to this time exist, or were skipped by the task''s rule for missed ticks.';

COMMENT ON TABLE darkroom.ticks IS
    'A tick of a periodic task. A scheduler locks the row while it works on it; each chunk of the effect commits together with its cursor.';
COMMENT ON COLUMN darkroom.ticks.task IS 'Name of the periodic task.';
COMMENT ON COLUMN darkroom.ticks.tick_at IS 'Time of the tick, which the task uses in place of the current time.';
COMMENT ON COLUMN darkroom.ticks.status IS 'pending, running, finished or failed.';
COMMENT ON COLUMN darkroom.ticks.cursor IS 'How far the task has come; the next chunk begins there.';
COMMENT ON COLUMN darkroom.ticks.counts IS 'How much was done, by name.';
COMMENT ON COLUMN darkroom.ticks.error IS 'Why the last chunk failed.';
COMMENT ON COLUMN darkroom.ticks.failures IS 'How often a chunk failed.';
COMMENT ON COLUMN darkroom.ticks.retry_at IS 'When it is tried again.';
COMMENT ON COLUMN darkroom.ticks.started_at IS 'When work on it began.';
COMMENT ON COLUMN darkroom.ticks.finished_at IS 'When it ended.';

COMMENT ON TABLE darkroom.job_ends IS
    'Ends of jobs that no roll-up has yet; the task roll-up-jobs deletes them as it rolls them up.';
COMMENT ON COLUMN darkroom.job_ends.at IS 'When the job ended.';
COMMENT ON COLUMN darkroom.job_ends.job_type IS 'The job''s type.';
COMMENT ON COLUMN darkroom.job_ends.tier IS 'The job''s tier.';
COMMENT ON COLUMN darkroom.job_ends.outcome IS 'Its terminal status, or DELETED if its row was deleted.';
COMMENT ON COLUMN darkroom.job_ends.wait_s IS
    'Seconds from its entry, or from its run_at, to its first claim, or to its end if nobody claimed it.';
COMMENT ON COLUMN darkroom.job_ends.run_s IS
    'Seconds from its first claim to its end, waits for retries included; NULL if nobody claimed it.';

COMMENT ON TABLE darkroom.job_minutes IS
    'Jobs that ended in a minute of the last two days, by type, tier and outcome.';
COMMENT ON COLUMN darkroom.job_minutes.minute IS 'Beginning of the minute in which they ended.';
COMMENT ON COLUMN darkroom.job_minutes.job_type IS 'The jobs'' type: enhance, blend, generate or modify.';
COMMENT ON COLUMN darkroom.job_minutes.tier IS 'The jobs'' tier.';
COMMENT ON COLUMN darkroom.job_minutes.outcome IS 'Their terminal status, or DELETED.';
COMMENT ON COLUMN darkroom.job_minutes.jobs IS 'How many there were.';
COMMENT ON COLUMN darkroom.job_minutes.wait_s IS 'Sum of their seconds from entry, or run_at, to the first claim.';
COMMENT ON COLUMN darkroom.job_minutes.run_s IS 'Sum of their seconds from the first claim to the end.';
COMMENT ON COLUMN darkroom.job_minutes.wait_counts IS
    'How many waits there were in each bucket (darkroom.bucket_of), without empty buckets at the end.';
COMMENT ON COLUMN darkroom.job_minutes.run_counts IS
    'The same of the times from the first claim to the end, for jobs that were claimed.';

COMMENT ON TABLE darkroom.job_hours IS
    'Jobs that ended in an hour before that, by type, tier and outcome.';
COMMENT ON COLUMN darkroom.job_hours.hour IS 'Beginning of the hour in which they ended.';
COMMENT ON COLUMN darkroom.job_hours.job_type IS 'The jobs'' type: enhance, blend, generate or modify.';
COMMENT ON COLUMN darkroom.job_hours.tier IS 'The jobs'' tier.';
COMMENT ON COLUMN darkroom.job_hours.outcome IS 'Their terminal status, or DELETED.';
COMMENT ON COLUMN darkroom.job_hours.jobs IS 'How many there were.';
COMMENT ON COLUMN darkroom.job_hours.wait_s IS 'Sum of their seconds from entry, or run_at, to the first claim.';
COMMENT ON COLUMN darkroom.job_hours.run_s IS 'Sum of their seconds from the first claim to the end.';
COMMENT ON COLUMN darkroom.job_hours.wait_counts IS
    'How many waits there were in each bucket (darkroom.bucket_of), without empty buckets at the end.';
COMMENT ON COLUMN darkroom.job_hours.run_counts IS
    'The same of the times from the first claim to the end, for jobs that were claimed.';

COMMENT ON TABLE darkroom.stage_minutes IS
    'Events of the history in a minute of the last two days, by stage.';
COMMENT ON COLUMN darkroom.stage_minutes.minute IS 'Beginning of the minute in which they happened.';
COMMENT ON COLUMN darkroom.stage_minutes.job_type IS 'The jobs'' type: enhance, blend, generate or modify.';
COMMENT ON COLUMN darkroom.stage_minutes.tier IS 'The jobs'' tier; empty for jobs whose row was deleted before.';
COMMENT ON COLUMN darkroom.stage_minutes.stage IS 'The stage that the events concern; empty for none.';
COMMENT ON COLUMN darkroom.stage_minutes.event IS 'The event, as in darkroom.stage_runs.';
COMMENT ON COLUMN darkroom.stage_minutes.events IS 'How many there were.';
COMMENT ON COLUMN darkroom.stage_minutes.seconds IS 'Sum of the durations of those that have one.';
COMMENT ON COLUMN darkroom.stage_minutes.counts IS
    'How many durations there were in each bucket (darkroom.bucket_of), without empty buckets at the end.';

COMMENT ON TABLE darkroom.stage_hours IS
    'Events of the history in an hour before that, by stage.';
COMMENT ON COLUMN darkroom.stage_hours.hour IS 'Beginning of the hour in which they happened.';
COMMENT ON COLUMN darkroom.stage_hours.job_type IS 'The jobs'' type: enhance, blend, generate or modify.';
COMMENT ON COLUMN darkroom.stage_hours.tier IS 'The jobs'' tier; empty for jobs whose row was deleted before.';
COMMENT ON COLUMN darkroom.stage_hours.stage IS 'The stage that the events concern; empty for none.';
COMMENT ON COLUMN darkroom.stage_hours.event IS 'The event, as in darkroom.stage_runs.';
COMMENT ON COLUMN darkroom.stage_hours.events IS 'How many there were.';
COMMENT ON COLUMN darkroom.stage_hours.seconds IS 'Sum of the durations of those that have one.';
COMMENT ON COLUMN darkroom.stage_hours.counts IS
    'How many durations there were in each bucket (darkroom.bucket_of), without empty buckets at the end.';

COMMENT ON TABLE darkroom.rollup_cursor IS
    'How far the history is in the roll-ups: one row.';
COMMENT ON COLUMN darkroom.rollup_cursor.source IS 'stage_runs.';
COMMENT ON COLUMN darkroom.rollup_cursor.last_id IS 'The highest id whose row is in the roll-ups.';
COMMENT ON COLUMN darkroom.rollup_cursor.safe_id IS 'Rows up to this id are committed, or never will be.';
COMMENT ON COLUMN darkroom.rollup_cursor.next_id IS 'The highest id that was given when writers were looked at.';
COMMENT ON COLUMN darkroom.rollup_cursor.writers IS
    'Virtual ids of the transactions that may have rows up to next_id and were open then.';

COMMENT ON TABLE darkroom.recent_stages IS
    'The seconds of the last some hundred finished runs of each stage; read by darkroom.stage_times.';
COMMENT ON COLUMN darkroom.recent_stages.job_type IS 'The jobs'' type: enhance, blend, generate or modify.';
COMMENT ON COLUMN darkroom.recent_stages.tier IS 'The jobs'' tier; empty for jobs whose row was deleted before.';
COMMENT ON COLUMN darkroom.recent_stages.stage IS 'The stage.';
COMMENT ON COLUMN darkroom.recent_stages.runs IS 'How many runs are counted; earlier ones count in part.';
COMMENT ON COLUMN darkroom.recent_stages.seconds IS 'Sum of their seconds.';
COMMENT ON COLUMN darkroom.recent_stages.counts IS 'How many there are in each bucket (darkroom.bucket_of).';
COMMENT ON COLUMN darkroom.recent_stages.updated_at IS 'When runs were added last.';

COMMENT ON TABLE darkroom.queue_counts IS
    'The jobs in the queues as a scheduler counted them last (darkroom.queue_counting says when).';
COMMENT ON COLUMN darkroom.queue_counts.queue IS 'The queue.';
COMMENT ON COLUMN darkroom.queue_counts.job_type IS 'The jobs'' type: enhance, blend, generate or modify.';
COMMENT ON COLUMN darkroom.queue_counts.tier IS 'The jobs'' tier.';
COMMENT ON COLUMN darkroom.queue_counts.stage IS 'The stage that runs or comes next.';
COMMENT ON COLUMN darkroom.queue_counts.status IS
    'waiting, running, retrying (until a time) or scheduled (until its producer''s time).';
COMMENT ON COLUMN darkroom.queue_counts.held_by IS
    'What keeps a job that could run from being claimed: paused, refused, suspect, cap or tag; empty for nothing.';
COMMENT ON COLUMN darkroom.queue_counts.jobs IS 'How many there are.';
COMMENT ON COLUMN darkroom.queue_counts.oldest_at IS 'Since when the oldest of them could have begun.';
COMMENT ON COLUMN darkroom.queue_counts.next_due_at IS 'When the first of those that wait for a time is due.';
COMMENT ON COLUMN darkroom.queue_counts.turns IS
    'Of jobs held by a cap: how many turns the user needs who has most of them for his cap.';

COMMENT ON TABLE darkroom.queue_counting IS
    'When the queues were counted last: one row, which a scheduler locks while it counts.';
COMMENT ON COLUMN darkroom.queue_counting.is_only IS 'True.';
COMMENT ON COLUMN darkroom.queue_counting.as_of IS 'When they were counted.';
COMMENT ON COLUMN darkroom.queue_counting.due_at IS 'When they are counted next; a long count waits longer.';
COMMENT ON COLUMN darkroom.queue_counting.took_s IS 'How many seconds the count took.';
COMMENT ON COLUMN darkroom.queue_counting.jobs IS 'How many jobs were counted.';

COMMENT ON TABLE darkroom.queue_minutes IS
    'How many jobs each queue had in a minute of the last two days.';
COMMENT ON COLUMN darkroom.queue_minutes.minute IS 'Beginning of the minute.';
COMMENT ON COLUMN darkroom.queue_minutes.queue IS 'The queue.';
COMMENT ON COLUMN darkroom.queue_minutes.status IS 'Their status, as in darkroom.queue_counts.';
COMMENT ON COLUMN darkroom.queue_minutes.jobs IS 'How many there were.';
COMMENT ON COLUMN darkroom.queue_minutes.oldest_wait_s IS 'For how many seconds the oldest of them had waited.';

COMMENT ON TABLE darkroom.queue_hours IS
    'How many jobs each queue had on average in an hour before that.';
COMMENT ON COLUMN darkroom.queue_hours.hour IS 'Beginning of the hour.';
COMMENT ON COLUMN darkroom.queue_hours.queue IS 'The queue.';
COMMENT ON COLUMN darkroom.queue_hours.status IS 'Their status, as in darkroom.queue_counts.';
COMMENT ON COLUMN darkroom.queue_hours.jobs IS 'How many there were.';
COMMENT ON COLUMN darkroom.queue_hours.oldest_wait_s IS 'For how many seconds the oldest of them had waited.';

COMMENT ON TABLE darkroom.batches IS 'Jobs that were submitted together, and how they ended.';
COMMENT ON COLUMN darkroom.batches.id IS 'Id of the batch.';
COMMENT ON COLUMN darkroom.batches.user_id IS 'The user''s id.';
COMMENT ON COLUMN darkroom.batches.label IS 'The name that the album had.';
COMMENT ON COLUMN darkroom.batches.created_at IS 'When the batch was made.';
COMMENT ON COLUMN darkroom.batches.album_id IS 'The album''s id.';
COMMENT ON COLUMN darkroom.batches.tier IS 'The tier of its jobs.';
COMMENT ON COLUMN darkroom.batches.job_ids IS 'Ids of its jobs, in the order of the album.';
COMMENT ON COLUMN darkroom.batches.retried_as IS 'The newest batch that tried its failed jobs again; NULL if none did.';
COMMENT ON COLUMN darkroom.batches.completed IS 'How many jobs ended COMPLETED; NULL until all are over.';
COMMENT ON COLUMN darkroom.batches.failed IS 'How many jobs ended FAILED.';
COMMENT ON COLUMN darkroom.batches.refunded IS 'How many jobs ended REFUNDED.';
COMMENT ON COLUMN darkroom.batches.cancelled IS 'How many jobs ended CANCELLED, or had no row any more.';
COMMENT ON COLUMN darkroom.batches.finished_at IS 'When its last job ended; NULL until this is noticed.';

COMMENT ON TABLE darkroom.album_batches IS 'The newest batch of each album; submissions of one album wait for its row.';
COMMENT ON COLUMN darkroom.album_batches.album_id IS 'The album''s id.';
COMMENT ON COLUMN darkroom.album_batches.batch_id IS 'Id of the batch.';
COMMENT ON COLUMN darkroom.album_batches.at IS 'When the batch was made.';

COMMENT ON TABLE darkroom.limits IS
    'Cells: numbers of rates, budgets and breakers of providers, each changed under its own row lock. Of several rows of a cell the one with the highest version holds.';
COMMENT ON COLUMN darkroom.limits.scope IS 'provider, provider_day or budget.';
COMMENT ON COLUMN darkroom.limits.name IS 'The provider, or the payer: all, user:ID, user:APPLICATION/ID or anonymous.';
COMMENT ON COLUMN darkroom.limits.window_start IS 'The day that is counted; epoch for numbers of no single day.';
COMMENT ON COLUMN darkroom.limits.used IS 'The counted number: calls, requests, or USD.';
COMMENT ON COLUMN darkroom.limits.state IS 'Further numbers of the cell, by name.';
COMMENT ON COLUMN darkroom.limits.updated_at IS 'When it was last changed.';
COMMENT ON COLUMN darkroom.limits.changes IS 'How often it has changed.';
COMMENT ON COLUMN darkroom.limits.version IS
    'Grows with every 32nd change, so that few dead rows are read before the newest one.';

COMMENT ON TABLE darkroom.operator_actions IS
    'Actions of operators: every command that changes something writes a row.';
COMMENT ON COLUMN darkroom.operator_actions.id IS 'Number of the row, in the order of insertion.';
COMMENT ON COLUMN darkroom.operator_actions.at IS 'When it was done.';
COMMENT ON COLUMN darkroom.operator_actions.actor IS 'Who did it: an operator of the dashboard, the operating system''s user, or a periodic task.';
COMMENT ON COLUMN darkroom.operator_actions.action IS 'What was done, such as job_cancel.';
COMMENT ON COLUMN darkroom.operator_actions.target IS 'The id or name of what was changed.';
COMMENT ON COLUMN darkroom.operator_actions.before IS 'State before the action.';
COMMENT ON COLUMN darkroom.operator_actions.after IS 'State after the action.';
COMMENT ON COLUMN darkroom.operator_actions.reason IS 'The reason that the operator gave.';

COMMENT ON TABLE darkroom.operators IS
    'People who may sign in to the dashboard: `darkroom operators add` makes them.';
COMMENT ON COLUMN darkroom.operators.name IS 'The name by which the person signs in, and under which actions are recorded.';
COMMENT ON COLUMN darkroom.operators.role IS 'viewer sees every page, operator may act, too.';
COMMENT ON COLUMN darkroom.operators.password_hash IS 'The password''s argon2id hash, with its parameters.';
COMMENT ON COLUMN darkroom.operators.created_at IS 'When the operator was added.';

COMMENT ON TABLE darkroom.sessions IS
    'Sessions of the dashboard; without its row a session is over. Sign-ins delete expired rows.';
COMMENT ON COLUMN darkroom.sessions.token_hash IS 'SHA-256 of the token that the browser sends in a cookie.';
COMMENT ON COLUMN darkroom.sessions.operator IS 'Who is signed in.';
COMMENT ON COLUMN darkroom.sessions.created_at IS 'When the operator signed in.';
COMMENT ON COLUMN darkroom.sessions.seen_at IS 'When the session was used, to the minute.';
COMMENT ON COLUMN darkroom.sessions.expires_at IS 'When it ends, even if it is used.';

COMMENT ON TABLE darkroom.sign_in_tries IS
    'Tries to sign in of the last minute that have failed or are under way, by which sign-ins are limited.';
COMMENT ON COLUMN darkroom.sign_in_tries.id IS 'Number of the try, in the order of insertion.';
COMMENT ON COLUMN darkroom.sign_in_tries.name_hash IS 'SHA-256 of the name that was given.';
COMMENT ON COLUMN darkroom.sign_in_tries.address IS 'Where the try came from: an IPv4 address, or the first 64 bits of an IPv6 one.';
COMMENT ON COLUMN darkroom.sign_in_tries.at IS 'When it began.';
COMMENT ON COLUMN darkroom.sign_in_tries.has_failed IS 'Whether name or password was wrong; false while the try is under way.';

COMMENT ON TABLE darkroom.webhook_deliveries IS 'Reserved: no release writes it.';
COMMENT ON COLUMN darkroom.webhook_deliveries.id IS 'Number of the row, in the order of insertion.';
COMMENT ON COLUMN darkroom.webhook_deliveries.job_type IS 'The job''s type: enhance, blend, generate or modify.';
COMMENT ON COLUMN darkroom.webhook_deliveries.job_id IS 'The job''s id.';
COMMENT ON COLUMN darkroom.webhook_deliveries.url IS 'The URL to call.';
COMMENT ON COLUMN darkroom.webhook_deliveries.status IS 'pending, delivered or failed.';
COMMENT ON COLUMN darkroom.webhook_deliveries.attempts IS 'How often it was tried.';
COMMENT ON COLUMN darkroom.webhook_deliveries.scheduled_at IS 'When it is due.';
COMMENT ON COLUMN darkroom.webhook_deliveries.delivered_at IS 'When the receiver accepted it.';
COMMENT ON COLUMN darkroom.webhook_deliveries.last_error IS 'Why the last try failed.';

COMMENT ON TABLE darkroom.past_pauses IS
    'Operators'' pauses that are over; the maximum wait of a job does not count their time.';
COMMENT ON COLUMN darkroom.past_pauses.name IS 'What was paused, such as queue:default or provider:gemini.';
COMMENT ON COLUMN darkroom.past_pauses.paused_at IS 'When the pause began.';
COMMENT ON COLUMN darkroom.past_pauses.resumed_at IS 'When the pause ended.';
COMMENT ON COLUMN darkroom.past_pauses.actor IS 'Who paused it.';
COMMENT ON COLUMN darkroom.past_pauses.reason IS 'The reason that the operator gave.';

COMMENT ON TABLE darkroom.regeneration_anchors IS
    'The day of the month on which a user''s tokens regenerate, if lastRegeneration is an earlier day because of a short month.';
COMMENT ON COLUMN darkroom.regeneration_anchors.user_id IS 'The user''s id.';
COMMENT ON COLUMN darkroom.regeneration_anchors.regenerated_at IS
    'The lastRegeneration for which it holds, in UTC; otherwise the row is ignored.';
COMMENT ON COLUMN darkroom.regeneration_anchors.day IS '29, 30 or 31.';

COMMENT ON TABLE darkroom.subscription_periods IS
    'Periods of subscriptions whose tokens were given. By the primary key, each is given at most once.';
COMMENT ON COLUMN darkroom.subscription_periods.user_id IS 'The user''s id.';
COMMENT ON COLUMN darkroom.subscription_periods.period_start IS 'Beginning of the period, in UTC.';
COMMENT ON COLUMN darkroom.subscription_periods.period_end IS 'End of the period, in UTC.';
COMMENT ON COLUMN darkroom.subscription_periods.at IS 'When the tokens were given.';

COMMENT ON TABLE darkroom.usage_months IS
    'What a user used in a month, computed from jobs, calls, objects and the ledger; rewritten when they change.';
COMMENT ON COLUMN darkroom.usage_months.user_id IS 'The user''s id.';
COMMENT ON COLUMN darkroom.usage_months.month IS 'First day of the month.';
COMMENT ON COLUMN darkroom.usage_months.jobs IS 'Jobs submitted.';
COMMENT ON COLUMN darkroom.usage_months.pictures IS 'Pictures made.';
COMMENT ON COLUMN darkroom.usage_months.tokens IS 'Tokens spent, minus refunds.';
COMMENT ON COLUMN darkroom.usage_months.provider_calls IS 'Calls to providers.';
COMMENT ON COLUMN darkroom.usage_months.cost_usd IS 'Cost of the calls in USD.';
COMMENT ON COLUMN darkroom.usage_months.bytes_stored IS 'Bytes stored, uploads included.';
COMMENT ON COLUMN darkroom.usage_months.computed_at IS 'When it was written.';

COMMENT ON TABLE darkroom.cost_days IS 'What a provider cost on a day (UTC), computed from darkroom.provider_calls.';
COMMENT ON COLUMN darkroom.cost_days.day IS 'The day.';
COMMENT ON COLUMN darkroom.cost_days.provider IS 'The provider.';
COMMENT ON COLUMN darkroom.cost_days.calls IS 'All calls.';
COMMENT ON COLUMN darkroom.cost_days.paid_calls IS 'Calls that may have been paid.';
COMMENT ON COLUMN darkroom.cost_days.images IS 'Pictures that came back.';
COMMENT ON COLUMN darkroom.cost_days.prompt_units IS 'What was sent, in the provider''s units.';
COMMENT ON COLUMN darkroom.cost_days.output_units IS 'What was received, in the provider''s units.';
COMMENT ON COLUMN darkroom.cost_days.cost_usd IS 'Cost in USD.';
COMMENT ON COLUMN darkroom.cost_days.computed_at IS 'When it was written.';

COMMENT ON TABLE darkroom.usage_warnings IS
    'Warnings that a user has been given: one for each month, measure and threshold.';
COMMENT ON COLUMN darkroom.usage_warnings.user_id IS 'The user''s id.';
COMMENT ON COLUMN darkroom.usage_warnings.month IS 'First day of the month.';
COMMENT ON COLUMN darkroom.usage_warnings.measure IS 'The measure, such as jobs or bytes_stored.';
COMMENT ON COLUMN darkroom.usage_warnings.percent IS 'The threshold in percent: 80 or 100.';
COMMENT ON COLUMN darkroom.usage_warnings.at IS 'When the warning was written.';

COMMENT ON TABLE darkroom.orphans IS
    'Objects of Darkroom that no row names: reported when they are found, and removed by a later run if no row names them then.';
COMMENT ON COLUMN darkroom.orphans.key IS 'The object''s key.';
COMMENT ON COLUMN darkroom.orphans.size_bytes IS 'Its size.';
COMMENT ON COLUMN darkroom.orphans.modified_at IS 'When the object was written.';
COMMENT ON COLUMN darkroom.orphans.found_at IS 'When it was found.';
COMMENT ON COLUMN darkroom.orphans.removed_at IS 'When it was removed; NULL while it is only reported.';

COMMENT ON TABLE darkroom.objects IS
    'Every object that Darkroom has stored; recorded before the upload, and kept until the object is gone.';
COMMENT ON COLUMN darkroom.objects.key IS 'The object''s key.';
COMMENT ON COLUMN darkroom.objects.job_type IS 'The job''s type, or original, input or probe.';
COMMENT ON COLUMN darkroom.objects.job_id IS
    'The job''s id; for an original the picture''s id, for an input the id in its key.';
COMMENT ON COLUMN darkroom.objects.sha256 IS 'SHA-256 of its bytes, in hex; NULL if unknown.';
COMMENT ON COLUMN darkroom.objects.size_bytes IS 'Its size in bytes; NULL if unknown.';
COMMENT ON COLUMN darkroom.objects.written_at IS 'When it was recorded.';

COMMENT ON TABLE darkroom.refused_ends IS
    'Jobs that are over although the database refused a part of their end. The row is deleted when nothing is left to be done.';
COMMENT ON COLUMN darkroom.refused_ends.job_type IS 'The job''s type: enhance, blend, generate or modify.';
COMMENT ON COLUMN darkroom.refused_ends.job_id IS 'The job''s id.';
COMMENT ON COLUMN darkroom.refused_ends.user_id IS 'The id of the user who submitted the job.';
COMMENT ON COLUMN darkroom.refused_ends.label IS
    'The status that the job''s row should have but does not have; NULL if it has it.';
COMMENT ON COLUMN darkroom.refused_ends.reason IS 'Why the job ended.';
COMMENT ON COLUMN darkroom.refused_ends.words IS 'The database''s error message.';
COMMENT ON COLUMN darkroom.refused_ends.owed IS 'Tokens of its refund that could not be paid.';
COMMENT ON COLUMN darkroom.refused_ends.refused_at IS 'When it was first refused.';
COMMENT ON COLUMN darkroom.refused_ends.tried_at IS 'When it was last tried.';
COMMENT ON COLUMN darkroom.refused_ends.tries IS 'How often it was tried.';

COMMENT ON TABLE darkroom.pipeline_links IS
    'Jobs whose producer showed the share token of their pipeline, which has visibility LINK.';
COMMENT ON COLUMN darkroom.pipeline_links.job_id IS 'The job''s id.';
COMMENT ON COLUMN darkroom.pipeline_links.pipeline_id IS 'The pipeline.';
COMMENT ON COLUMN darkroom.pipeline_links.at IS 'When the job was submitted.';

COMMENT ON TABLE darkroom.checkpoints IS 'Outputs of finished stages for which the job''s row has no column.';
COMMENT ON COLUMN darkroom.checkpoints.job_type IS 'The job''s type: enhance, blend, generate or modify.';
COMMENT ON COLUMN darkroom.checkpoints.job_id IS 'The job''s id.';
COMMENT ON COLUMN darkroom.checkpoints.stage IS 'The stage.';
COMMENT ON COLUMN darkroom.checkpoints.output IS 'The stage''s output; NULL if it has none.';
COMMENT ON COLUMN darkroom.checkpoints.at IS 'When the stage finished.';

COMMENT ON COLUMN darkroom.pauses.name IS
    'What is paused, such as queue:default, tier:TIER_4K, provider:gemini, or buying for the kill switch.';
COMMENT ON COLUMN darkroom.pauses.paused_at IS 'When the pause began.';
COMMENT ON COLUMN darkroom.pauses.resumed_at IS 'When the pause ended; NULL while it is in force.';
COMMENT ON COLUMN darkroom.pauses.actor IS 'Who paused it.';
COMMENT ON COLUMN darkroom.pauses.reason IS 'The reason that the operator gave.';

COMMENT ON COLUMN darkroom.jobs.id IS 'The job''s id in its job table.';
COMMENT ON COLUMN darkroom.jobs.type IS 'enhance, blend, generate or modify.';
COMMENT ON COLUMN darkroom.jobs."userId" IS 'The id of the user who submitted the job.';
COMMENT ON COLUMN darkroom.jobs.tier IS 'The tier.';
COMMENT ON COLUMN darkroom.jobs."tokensCost" IS 'Its cost in tokens, as its row says.';
COMMENT ON COLUMN darkroom.jobs.status IS 'The status in its row.';
COMMENT ON COLUMN darkroom.jobs."currentStage" IS 'The stage that runs, or at which the job continues.';
COMMENT ON COLUMN darkroom.jobs."imageId" IS 'The picture.';
COMMENT ON COLUMN darkroom.jobs."sourceImageId" IS 'The second picture of a blend.';
COMMENT ON COLUMN darkroom.jobs."pipelineId" IS 'The pipeline whose settings the job uses.';
COMMENT ON COLUMN darkroom.jobs.url IS 'URL of the result.';
COMMENT ON COLUMN darkroom.jobs.key IS 'The result''s key in the storage.';
COMMENT ON COLUMN darkroom.jobs.width IS 'Width of the result in pixels.';
COMMENT ON COLUMN darkroom.jobs.height IS 'Height of the result in pixels.';
COMMENT ON COLUMN darkroom.jobs."sizeBytes" IS 'Size of the result in bytes.';
COMMENT ON COLUMN darkroom.jobs."errorMessage" IS 'Why it failed, or why it waits.';
COMMENT ON COLUMN darkroom.jobs."retryCount" IS 'Attempts that failed or whose worker died.';
COMMENT ON COLUMN darkroom.jobs."geminiModel" IS 'The model that made the picture.';
COMMENT ON COLUMN darkroom.jobs."processingStartedAt" IS 'When its first claim began, in UTC.';
COMMENT ON COLUMN darkroom.jobs."processingCompletedAt" IS 'When it was completed, in UTC.';
COMMENT ON COLUMN darkroom.jobs."createdAt" IS 'When its row was made, in UTC.';
COMMENT ON COLUMN darkroom.jobs."updatedAt" IS 'When its row was written last, in UTC.';

COMMENT ON COLUMN darkroom.refunds_owed.user_id IS 'The id of the user to whom tokens are owed.';
COMMENT ON COLUMN darkroom.refunds_owed.job_type IS 'The job''s type: enhance, blend, generate or modify.';
COMMENT ON COLUMN darkroom.refunds_owed.job_id IS 'The job''s id.';
COMMENT ON COLUMN darkroom.refunds_owed.owed IS 'How many tokens are owed.';
COMMENT ON COLUMN darkroom.refunds_owed.reason IS 'Why the job ended.';
COMMENT ON COLUMN darkroom.refunds_owed.words IS 'The database''s error message.';
COMMENT ON COLUMN darkroom.refunds_owed.refused_at IS 'When it was first refused.';
COMMENT ON COLUMN darkroom.refunds_owed.tried_at IS 'When it was last tried.';

COMMENT ON COLUMN darkroom.money_violations.promise IS 'Which promise is broken: I3, I4 or I7.';
COMMENT ON COLUMN darkroom.money_violations.violation IS 'The kind of violation, in one word.';
COMMENT ON COLUMN darkroom.money_violations.user_id IS 'The id of the user whose money it is about.';
COMMENT ON COLUMN darkroom.money_violations.job_type IS 'The job''s type, if it is about a job.';
COMMENT ON COLUMN darkroom.money_violations.job_id IS 'The job''s id, if it is about a job.';
COMMENT ON COLUMN darkroom.money_violations.finding IS 'What was found, in words.';

COMMENT ON SEQUENCE darkroom.job_queue_position_seq IS
    'Numbered the positions of queue rows before positions were tags; workers of an earlier release read it.';
COMMENT ON SEQUENCE darkroom.stage_runs_id_seq IS 'Gives rows of darkroom.stage_runs their id.';
COMMENT ON SEQUENCE darkroom.wake_ups_asked_seq IS 'How many wake-ups idle workers have asked for.';
COMMENT ON SEQUENCE darkroom.wake_ups_sent_seq IS 'The last of those wake-ups that a producer sent.';
COMMENT ON SEQUENCE darkroom.job_queue_id_seq IS 'Gives queue rows their id.';
COMMENT ON SEQUENCE darkroom.operator_actions_id_seq IS 'Gives rows of darkroom.operator_actions their id.';
COMMENT ON SEQUENCE darkroom.provider_calls_id_seq IS 'Gives rows of darkroom.provider_calls their id.';
COMMENT ON SEQUENCE darkroom.webhook_deliveries_id_seq IS 'Reserved: no release writes the table.';
COMMENT ON SEQUENCE darkroom.earlier_money_id_seq IS 'Gives rows of darkroom.earlier_money their id.';
COMMENT ON SEQUENCE darkroom.sign_in_tries_id_seq IS 'Gives rows of darkroom.sign_in_tries their id.';
COMMENT ON SEQUENCE darkroom.token_entries_id_seq IS 'Gives rows of darkroom.token_entries their id.';

COMMENT ON TYPE darkroom.entering IS 'A job that enters the queue, as trigger functions pass it to each other.';
COMMENT ON TYPE darkroom.change IS
    'A change of a job, as trigger functions pass it to each other: its new status, or DELETED.';

COMMENT ON TABLE darkroom.estimates IS
    'Estimates that the periodic task check-estimates made of some jobs'' ends, and their errors, from which ranges of later estimates are made; kept for two days.';
COMMENT ON COLUMN darkroom.estimates.job_type IS 'The job''s type.';
COMMENT ON COLUMN darkroom.estimates.job_id IS 'The job''s id in its job table.';
COMMENT ON COLUMN darkroom.estimates.queue IS 'The queue in which it was.';
COMMENT ON COLUMN darkroom.estimates.is_running IS 'Whether the job ran at that time, or else waited.';
COMMENT ON COLUMN darkroom.estimates.at IS 'When the estimate was made.';
COMMENT ON COLUMN darkroom.estimates.median_s IS 'The estimated seconds until the job''s end: half of such jobs should be over by then.';
COMMENT ON COLUMN darkroom.estimates.spread IS 'The estimated standard deviation of the logarithm of those seconds.';
COMMENT ON COLUMN darkroom.estimates.passed_s IS 'For how many seconds the job had waited then, or, if it ran, for how many the stages from its present one on had run.';
COMMENT ON COLUMN darkroom.estimates.ended_at IS 'When the job was over; NULL while it isn''t, or as long as nobody has looked.';
COMMENT ON COLUMN darkroom.estimates.score IS
    'ln(seconds that it took / median_s) / spread; NULL while it isn''t over, and where a cancellation or a pause by an operator came between.';
