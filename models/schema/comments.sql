-- What each table, column, view, sequence and type of schema darkroom is, for \d+ and whoever looks at it with other tools.
-- `db upgrade` writes what differs. Functions and views have their comments from the lines above them in their own files.

COMMENT ON TABLE darkroom.alembic_version IS
    'The revisions to which this database was upgraded, one row for each branch; read by every process at its start.';
COMMENT ON COLUMN darkroom.alembic_version.version_num IS 'The newest applied revision of a branch.';

COMMENT ON TABLE darkroom.settings IS
    'What `darkroom db upgrade` and operators recorded, where triggers and claims see it: mode of money, prices, pauses, roles, and what was made.';
COMMENT ON COLUMN darkroom.settings.key IS 'What is recorded, such as mode, prices, pauses, buying, granted_roles.';
COMMENT ON COLUMN darkroom.settings.value IS 'The value, as its key means it.';
COMMENT ON COLUMN darkroom.settings.updated_at IS 'When it was written last.';

COMMENT ON TABLE darkroom.job_queue IS
    'One narrow row for each unfinished job. The row is the fence: who has locked it with its lease_token may write for the job.';
COMMENT ON COLUMN darkroom.job_queue.id IS 'The queue row itself.';
COMMENT ON COLUMN darkroom.job_queue.job_type IS 'Which kind of job: enhance, blend, generate, modify.';
COMMENT ON COLUMN darkroom.job_queue.job_id IS 'The job''s id in its job table.';
COMMENT ON COLUMN darkroom.job_queue.user_id IS 'Whose job it is.';
COMMENT ON COLUMN darkroom.job_queue.tier IS 'The job''s tier.';
COMMENT ON COLUMN darkroom.job_queue.queue IS 'From which queue workers claim it.';
COMMENT ON COLUMN darkroom.job_queue.stage IS 'The stage at which it goes on.';
COMMENT ON COLUMN darkroom.job_queue.payload IS
    'What the job was told besides its row, such as a model for this attempt or a shape.';
COMMENT ON COLUMN darkroom.job_queue.status IS
    'pending: waits for its turn; retrying: waits for scheduled_at; processing: claimed.';
COMMENT ON COLUMN darkroom.job_queue.ready IS
    'Whether a claim may take it; false while it is paused or waits for its producer.';
COMMENT ON COLUMN darkroom.job_queue.priority IS 'Reserved: no release reads it.';
COMMENT ON COLUMN darkroom.job_queue.position IS 'Its place in the queue; the lowest is claimed first.';
COMMENT ON COLUMN darkroom.job_queue.attempts IS
    'How many attempts have begun; one that was released or snoozed is given back.';
COMMENT ON COLUMN darkroom.job_queue.max_attempts IS 'How many attempts it may have: one, and its retries.';
COMMENT ON COLUMN darkroom.job_queue.last_error IS
    'Why the last attempt failed or waits, or why the database refuses the job.';
COMMENT ON COLUMN darkroom.job_queue.scheduled_at IS 'When it is due.';
COMMENT ON COLUMN darkroom.job_queue.created_at IS 'When it entered the queue.';
COMMENT ON COLUMN darkroom.job_queue.started_at IS 'When its claim began; NULL while it has none.';
COMMENT ON COLUMN darkroom.job_queue.worker_id IS 'The worker process that holds it; NULL if none does.';
COMMENT ON COLUMN darkroom.job_queue.lease_token IS 'Random for each claim: who shows another one writes nothing.';
COMMENT ON COLUMN darkroom.job_queue.deadline_at IS
    'When the stage in hand is past its deadline; some time later its claim is taken away.';
COMMENT ON COLUMN darkroom.job_queue.batch_id IS 'Reserved: no release writes it.';
COMMENT ON COLUMN darkroom.job_queue.notified_at IS
    'When a change of it was notified last; other than terminal ones go out once a second at most.';
COMMENT ON COLUMN darkroom.job_queue.paused_by IS
    'The pause for which it stepped out of the way of claims; NULL if none.';
COMMENT ON COLUMN darkroom.job_queue.refusals IS 'How often in a row the database refused to start it.';
COMMENT ON COLUMN darkroom.job_queue.refused_since IS 'Since when it is refused; NULL if it is not.';
COMMENT ON COLUMN darkroom.job_queue.refused_state IS 'The SQLSTATE of the last refusal.';
COMMENT ON COLUMN darkroom.job_queue.run_token IS
    'The lease_token of the claim before this one: where workflowRunId holds it, the claim put it there.';

COMMENT ON TABLE darkroom.workers IS
    'One row for each worker process, with its lease. Whose lease is over is dead, and its jobs are rescued.';
COMMENT ON COLUMN darkroom.workers.id IS 'Random at each start of a process.';
COMMENT ON COLUMN darkroom.workers.host IS 'The machine.';
COMMENT ON COLUMN darkroom.workers.pid IS 'The process on that machine.';
COMMENT ON COLUMN darkroom.workers.queues IS 'From which queues it claims.';
COMMENT ON COLUMN darkroom.workers.lanes IS 'How many jobs it runs at once.';
COMMENT ON COLUMN darkroom.workers.lease_expires_at IS 'When its jobs may be rescued; renewed every few seconds.';
COMMENT ON COLUMN darkroom.workers.started_at IS 'When it started.';
COMMENT ON COLUMN darkroom.workers.connect_s IS 'How long its last connection to PostgreSQL took, in seconds.';
COMMENT ON COLUMN darkroom.workers.revision IS
    'The newest revision that it knows; NULL for a process of a release before this column.';

COMMENT ON TABLE darkroom.job_money IS
    'What Darkroom charged for a job and paid back. The primary key makes each single.';
COMMENT ON COLUMN darkroom.job_money.job_type IS 'Which kind of job.';
COMMENT ON COLUMN darkroom.job_money.job_id IS 'The job''s id.';
COMMENT ON COLUMN darkroom.job_money.kind IS 'charge or refund.';
COMMENT ON COLUMN darkroom.job_money.amount IS 'Tokens, always more than 0.';
COMMENT ON COLUMN darkroom.job_money.at IS 'When.';

COMMENT ON TABLE darkroom.opening_balances IS
    'What a user had before the first ledger row that Darkroom can see: balance = opening balance + ledger.';
COMMENT ON COLUMN darkroom.opening_balances.user_id IS 'Whose balance.';
COMMENT ON COLUMN darkroom.opening_balances.balance IS 'Tokens that the ledger does not explain.';
COMMENT ON COLUMN darkroom.opening_balances.recorded_at IS 'When it was recorded.';

COMMENT ON TABLE darkroom.stage_runs IS 'The history of every job, append-only, in weekly partitions.';
COMMENT ON COLUMN darkroom.stage_runs.id IS 'In the order of writing.';
COMMENT ON COLUMN darkroom.stage_runs.job_type IS 'Which kind of job.';
COMMENT ON COLUMN darkroom.stage_runs.job_id IS 'The job''s id.';
COMMENT ON COLUMN darkroom.stage_runs.event IS
    'claimed, started, finished, failed, released, rescued, fenced (a lost claim wrote nothing), retried or snoozed.';
COMMENT ON COLUMN darkroom.stage_runs.stage IS 'The stage that it is about.';
COMMENT ON COLUMN darkroom.stage_runs.attempt IS 'The attempt, from 1.';
COMMENT ON COLUMN darkroom.stage_runs.worker_id IS 'The worker process.';
COMMENT ON COLUMN darkroom.stage_runs.at IS 'When.';
COMMENT ON COLUMN darkroom.stage_runs.duration_ms IS 'How long the stage took, in milliseconds.';
COMMENT ON COLUMN darkroom.stage_runs.input_hash IS 'What was asked for, as 64 hex digits.';
COMMENT ON COLUMN darkroom.stage_runs.output IS 'What the stage gave, or what the claim was told.';
COMMENT ON COLUMN darkroom.stage_runs.error IS 'Why it failed or waits.';

COMMENT ON TABLE darkroom.provider_calls IS
    'Every call to a provider: written before it as an intent, closed after it. A process that died leaves its intent open, which counts as paid.';
COMMENT ON COLUMN darkroom.provider_calls.id IS 'In the order of writing.';
COMMENT ON COLUMN darkroom.provider_calls.job_type IS 'Which kind of job.';
COMMENT ON COLUMN darkroom.provider_calls.job_id IS 'The job''s id.';
COMMENT ON COLUMN darkroom.provider_calls.user_id IS 'Whose job.';
COMMENT ON COLUMN darkroom.provider_calls.attempt IS 'The job''s attempt.';
COMMENT ON COLUMN darkroom.provider_calls.provider IS 'Who is asked, such as gemini.';
COMMENT ON COLUMN darkroom.provider_calls.model IS 'Which model; NULL where the provider has none.';
COMMENT ON COLUMN darkroom.provider_calls.purpose IS 'analyze or generate.';
COMMENT ON COLUMN darkroom.provider_calls.input_hash IS 'Of what is asked; calls that buy the same have the same.';
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
COMMENT ON COLUMN darkroom.provider_calls.payer IS 'Whose budget it counts against.';
COMMENT ON COLUMN darkroom.provider_calls.quoted_usd IS 'What the gate counted before the call, in USD.';
COMMENT ON COLUMN darkroom.provider_calls.quoted_images IS 'How many pictures the gate counted before the call.';
COMMENT ON COLUMN darkroom.provider_calls.zone IS 'The provider''s calendar, as a time zone.';
COMMENT ON COLUMN darkroom.provider_calls.was_sent IS
    'False where the request never left: it is given back to rates and budgets.';
COMMENT ON COLUMN darkroom.provider_calls.is_free IS 'Whether it was for a job of tier FREE.';
COMMENT ON COLUMN darkroom.provider_calls.problem IS
    'What came back instead of what was asked for, in words of Darkroom; NULL where the right thing came.';

COMMENT ON TABLE darkroom.artifacts IS
    'The picture that a job has bought and stored, written before the job is completed: who takes over does not buy it again.';
COMMENT ON COLUMN darkroom.artifacts.job_type IS 'Which kind of job.';
COMMENT ON COLUMN darkroom.artifacts.job_id IS 'The job''s id.';
COMMENT ON COLUMN darkroom.artifacts.input_hash IS
    'What it was made of: input, pipeline, model and tier, as 64 hex digits.';
COMMENT ON COLUMN darkroom.artifacts.user_id IS 'Whose it is.';
COMMENT ON COLUMN darkroom.artifacts.key IS 'The object''s key in the storage.';
COMMENT ON COLUMN darkroom.artifacts.sha256 IS 'Of the object''s bytes, in hex.';
COMMENT ON COLUMN darkroom.artifacts.bytes IS 'Size of the object.';
COMMENT ON COLUMN darkroom.artifacts.width IS 'In pixels.';
COMMENT ON COLUMN darkroom.artifacts.height IS 'In pixels.';
COMMENT ON COLUMN darkroom.artifacts.model IS 'Which model made it.';
COMMENT ON COLUMN darkroom.artifacts.temperature IS 'The model''s temperature; NULL where there is none.';
COMMENT ON COLUMN darkroom.artifacts.treatments IS 'What was done with it, in words.';
COMMENT ON COLUMN darkroom.artifacts.created_at IS 'When it was recorded.';

COMMENT ON TABLE darkroom.submissions IS
    'Which job was made for an idempotency key; kept for as long as retention says.';
COMMENT ON COLUMN darkroom.submissions.user_id IS 'Whose key; keys of different users don''t meet.';
COMMENT ON COLUMN darkroom.submissions.idempotency_key IS 'The producer''s key.';
COMMENT ON COLUMN darkroom.submissions.job_type IS 'Which kind of job was made.';
COMMENT ON COLUMN darkroom.submissions.job_id IS 'The job that was made.';
COMMENT ON COLUMN darkroom.submissions.created_at IS 'When.';
COMMENT ON COLUMN darkroom.submissions.arguments IS
    'What was asked for, private parts as hashes: the same key with other arguments is refused. NULL in rows of an earlier release.';

COMMENT ON TABLE darkroom.bells IS 'Of an earlier release, whose workers still write it; nothing reads it.';
COMMENT ON COLUMN darkroom.bells.queue IS 'A queue.';
COMMENT ON COLUMN darkroom.bells.armed IS 'Whether an idle worker asked to be woken.';

COMMENT ON TABLE darkroom.schedules IS
    'Until when a periodic task''s ticks have been made. The row is locked by whoever makes them.';
COMMENT ON COLUMN darkroom.schedules.name IS 'The task.';
COMMENT ON COLUMN darkroom.schedules.planned_until IS
    'Ticks up to here are made, or passed over by the rule of the task.';

COMMENT ON TABLE darkroom.ticks IS
    'A tick of a periodic task. Whoever locks the row works; each chunk of the effect commits together with its cursor.';
COMMENT ON COLUMN darkroom.ticks.task IS 'The task.';
COMMENT ON COLUMN darkroom.ticks.tick_at IS 'The tick''s time: the only clock that the task knows.';
COMMENT ON COLUMN darkroom.ticks.status IS 'pending, running, finished or failed.';
COMMENT ON COLUMN darkroom.ticks.cursor IS 'How far the effect has come.';
COMMENT ON COLUMN darkroom.ticks.counts IS 'What was done, by name.';
COMMENT ON COLUMN darkroom.ticks.error IS 'Why the last chunk failed.';
COMMENT ON COLUMN darkroom.ticks.failures IS 'How often a chunk failed.';
COMMENT ON COLUMN darkroom.ticks.retry_at IS 'When it is tried again.';
COMMENT ON COLUMN darkroom.ticks.started_at IS 'When work on it began.';
COMMENT ON COLUMN darkroom.ticks.finished_at IS 'When it ended.';

COMMENT ON TABLE darkroom.batches IS 'Reserved: no release writes it.';
COMMENT ON COLUMN darkroom.batches.id IS 'A batch.';
COMMENT ON COLUMN darkroom.batches.user_id IS 'Whose.';
COMMENT ON COLUMN darkroom.batches.label IS 'The producer''s name for it.';
COMMENT ON COLUMN darkroom.batches.created_at IS 'When.';

COMMENT ON TABLE darkroom.limits IS
    'Cells of rates, budgets and breakers of providers, each changed under its own row lock. A cell is the row with its highest version.';
COMMENT ON COLUMN darkroom.limits.scope IS 'provider, provider_day or budget.';
COMMENT ON COLUMN darkroom.limits.name IS 'The provider, or who pays: all, user:ID or anonymous.';
COMMENT ON COLUMN darkroom.limits.window_start IS 'The day that is counted; epoch for what has no end.';
COMMENT ON COLUMN darkroom.limits.used IS 'What was counted: requests, or USD.';
COMMENT ON COLUMN darkroom.limits.state IS 'Further numbers of the cell, by name.';
COMMENT ON COLUMN darkroom.limits.updated_at IS 'When it changed last.';
COMMENT ON COLUMN darkroom.limits.changes IS 'How often it has changed.';
COMMENT ON COLUMN darkroom.limits.version IS
    'Grows with every 32nd change, so that the newest row is found past few dead ones.';

COMMENT ON TABLE darkroom.operator_actions IS 'What operators did: every command that changes something writes a row.';
COMMENT ON COLUMN darkroom.operator_actions.id IS 'In the order of writing.';
COMMENT ON COLUMN darkroom.operator_actions.at IS 'When.';
COMMENT ON COLUMN darkroom.operator_actions.actor IS 'Who: the operating system''s user, or a task.';
COMMENT ON COLUMN darkroom.operator_actions.action IS 'What was done, such as job_cancel.';
COMMENT ON COLUMN darkroom.operator_actions.target IS 'With what: an id, or a name.';
COMMENT ON COLUMN darkroom.operator_actions.before IS 'What it was before.';
COMMENT ON COLUMN darkroom.operator_actions.after IS 'What it was afterwards.';
COMMENT ON COLUMN darkroom.operator_actions.reason IS 'Why, as the operator said.';

COMMENT ON TABLE darkroom.webhook_deliveries IS 'Reserved: no release writes it.';
COMMENT ON COLUMN darkroom.webhook_deliveries.id IS 'In the order of writing.';
COMMENT ON COLUMN darkroom.webhook_deliveries.job_type IS 'Which kind of job.';
COMMENT ON COLUMN darkroom.webhook_deliveries.job_id IS 'The job''s id.';
COMMENT ON COLUMN darkroom.webhook_deliveries.url IS 'Where to.';
COMMENT ON COLUMN darkroom.webhook_deliveries.status IS 'pending, delivered or failed.';
COMMENT ON COLUMN darkroom.webhook_deliveries.attempts IS 'How often it was tried.';
COMMENT ON COLUMN darkroom.webhook_deliveries.scheduled_at IS 'When it is due.';
COMMENT ON COLUMN darkroom.webhook_deliveries.delivered_at IS 'When it was taken.';
COMMENT ON COLUMN darkroom.webhook_deliveries.last_error IS 'Why the last try failed.';

COMMENT ON TABLE darkroom.past_pauses IS
    'Pauses of operators that are over: the maximum wait of a job does not count them.';
COMMENT ON COLUMN darkroom.past_pauses.name IS 'What was paused, such as queue:default or provider:gemini.';
COMMENT ON COLUMN darkroom.past_pauses.paused_at IS 'Since when.';
COMMENT ON COLUMN darkroom.past_pauses.resumed_at IS 'Until when.';
COMMENT ON COLUMN darkroom.past_pauses.actor IS 'Who paused it.';
COMMENT ON COLUMN darkroom.past_pauses.reason IS 'Why.';

COMMENT ON TABLE darkroom.regeneration_anchors IS
    'The day of the month on which a user''s tokens regenerate, where a short month cut it off lastRegeneration.';
COMMENT ON COLUMN darkroom.regeneration_anchors.user_id IS 'Whose.';
COMMENT ON COLUMN darkroom.regeneration_anchors.regenerated_at IS
    'The lastRegeneration for which it holds, in UTC; with another one the row means nothing.';
COMMENT ON COLUMN darkroom.regeneration_anchors.day IS '29, 30 or 31.';

COMMENT ON TABLE darkroom.subscription_periods IS
    'Periods of subscriptions whose tokens were given. The primary key makes each single.';
COMMENT ON COLUMN darkroom.subscription_periods.user_id IS 'Whose.';
COMMENT ON COLUMN darkroom.subscription_periods.period_start IS 'In UTC.';
COMMENT ON COLUMN darkroom.subscription_periods.period_end IS 'In UTC.';
COMMENT ON COLUMN darkroom.subscription_periods.at IS 'When the tokens were given.';

COMMENT ON TABLE darkroom.usage_months IS
    'What a user used in a month, computed from the facts; written anew as they change.';
COMMENT ON COLUMN darkroom.usage_months.user_id IS 'Whose.';
COMMENT ON COLUMN darkroom.usage_months.month IS 'Its first day.';
COMMENT ON COLUMN darkroom.usage_months.jobs IS 'Jobs submitted.';
COMMENT ON COLUMN darkroom.usage_months.pictures IS 'Pictures made.';
COMMENT ON COLUMN darkroom.usage_months.tokens IS 'Tokens spent, less those paid back.';
COMMENT ON COLUMN darkroom.usage_months.provider_calls IS 'Calls to providers.';
COMMENT ON COLUMN darkroom.usage_months.cost_usd IS 'What they cost.';
COMMENT ON COLUMN darkroom.usage_months.bytes_stored IS 'Bytes stored, uploads included.';
COMMENT ON COLUMN darkroom.usage_months.computed_at IS 'When it was written.';

COMMENT ON TABLE darkroom.cost_days IS 'What a provider cost on a day (UTC), computed from darkroom.provider_calls.';
COMMENT ON COLUMN darkroom.cost_days.day IS 'The day.';
COMMENT ON COLUMN darkroom.cost_days.provider IS 'The provider.';
COMMENT ON COLUMN darkroom.cost_days.calls IS 'All calls.';
COMMENT ON COLUMN darkroom.cost_days.paid_calls IS 'Calls that may have been paid.';
COMMENT ON COLUMN darkroom.cost_days.images IS 'Pictures that came back.';
COMMENT ON COLUMN darkroom.cost_days.prompt_units IS 'Sent, in the provider''s units.';
COMMENT ON COLUMN darkroom.cost_days.output_units IS 'Received, in the provider''s units.';
COMMENT ON COLUMN darkroom.cost_days.cost_usd IS 'In USD.';
COMMENT ON COLUMN darkroom.cost_days.computed_at IS 'When it was written.';

COMMENT ON TABLE darkroom.usage_warnings IS 'Which warnings a user has had: one for each month, measure and threshold.';
COMMENT ON COLUMN darkroom.usage_warnings.user_id IS 'Whose.';
COMMENT ON COLUMN darkroom.usage_warnings.month IS 'Its first day.';
COMMENT ON COLUMN darkroom.usage_warnings.measure IS 'What is counted.';
COMMENT ON COLUMN darkroom.usage_warnings.percent IS '80 or 100.';
COMMENT ON COLUMN darkroom.usage_warnings.at IS 'When.';

COMMENT ON TABLE darkroom.orphans IS
    'Objects of Darkroom that no row names: reported when they are found, removed by a later run that finds them still alone.';
COMMENT ON COLUMN darkroom.orphans.key IS 'The object''s key.';
COMMENT ON COLUMN darkroom.orphans.size_bytes IS 'Its size.';
COMMENT ON COLUMN darkroom.orphans.modified_at IS 'When the object was written.';
COMMENT ON COLUMN darkroom.orphans.found_at IS 'When it was found.';
COMMENT ON COLUMN darkroom.orphans.removed_at IS 'When it was removed; NULL while it is only reported.';

COMMENT ON TABLE darkroom.objects IS
    'Every object that Darkroom has put into the storage; recorded before the put, and kept until the object is gone.';
COMMENT ON COLUMN darkroom.objects.key IS 'The object''s key.';
COMMENT ON COLUMN darkroom.objects.job_type IS 'The job''s kind, or original, input or probe.';
COMMENT ON COLUMN darkroom.objects.job_id IS
    'The job''s id; of an original the picture''s id, of an input the id in its key.';
COMMENT ON COLUMN darkroom.objects.sha256 IS 'Of its bytes, in hex; NULL where nobody knows.';
COMMENT ON COLUMN darkroom.objects.size_bytes IS 'Its size; NULL where nobody knows.';
COMMENT ON COLUMN darkroom.objects.written_at IS 'When it was recorded.';

COMMENT ON TABLE darkroom.refused_ends IS
    'Jobs that are over though the database refused their end. A row goes when nothing is left to be done.';
COMMENT ON COLUMN darkroom.refused_ends.job_type IS 'Which kind of job.';
COMMENT ON COLUMN darkroom.refused_ends.job_id IS 'The job''s id.';
COMMENT ON COLUMN darkroom.refused_ends.user_id IS 'Whose job.';
COMMENT ON COLUMN darkroom.refused_ends.label IS
    'The status that the job''s row should have and has not; NULL when it has it.';
COMMENT ON COLUMN darkroom.refused_ends.reason IS 'Why the job ended.';
COMMENT ON COLUMN darkroom.refused_ends.words IS 'The database''s words.';
COMMENT ON COLUMN darkroom.refused_ends.owed IS 'Tokens of its refund that could not be paid.';
COMMENT ON COLUMN darkroom.refused_ends.refused_at IS 'When it was refused first.';
COMMENT ON COLUMN darkroom.refused_ends.tried_at IS 'When it was tried last.';
COMMENT ON COLUMN darkroom.refused_ends.tries IS 'How often.';

COMMENT ON TABLE darkroom.pipeline_links IS
    'Jobs whose producer showed the token of the pipeline that treats them, which is shared by link.';
COMMENT ON COLUMN darkroom.pipeline_links.job_id IS 'The job''s id.';
COMMENT ON COLUMN darkroom.pipeline_links.pipeline_id IS 'The pipeline.';
COMMENT ON COLUMN darkroom.pipeline_links.at IS 'When.';

COMMENT ON TABLE darkroom.checkpoints IS 'What a finished stage left for which its job''s row has no column.';
COMMENT ON COLUMN darkroom.checkpoints.job_type IS 'Which kind of job.';
COMMENT ON COLUMN darkroom.checkpoints.job_id IS 'The job''s id.';
COMMENT ON COLUMN darkroom.checkpoints.stage IS 'The stage.';
COMMENT ON COLUMN darkroom.checkpoints.output IS 'What it gave; NULL where it gave nothing.';
COMMENT ON COLUMN darkroom.checkpoints.at IS 'When.';

COMMENT ON COLUMN darkroom.pauses.name IS
    'What is paused, such as queue:default, tier:TIER_4K, provider:gemini, or buying for the kill switch.';
COMMENT ON COLUMN darkroom.pauses.paused_at IS 'Since when.';
COMMENT ON COLUMN darkroom.pauses.resumed_at IS 'Until when; NULL while it lasts.';
COMMENT ON COLUMN darkroom.pauses.actor IS 'Who paused it.';
COMMENT ON COLUMN darkroom.pauses.reason IS 'Why.';

COMMENT ON COLUMN darkroom.jobs.id IS 'The job''s id in its job table.';
COMMENT ON COLUMN darkroom.jobs.type IS 'enhance, blend, generate or modify.';
COMMENT ON COLUMN darkroom.jobs."userId" IS 'Whose job it is.';
COMMENT ON COLUMN darkroom.jobs.tier IS 'The tier.';
COMMENT ON COLUMN darkroom.jobs."tokensCost" IS 'What its row says that it costs.';
COMMENT ON COLUMN darkroom.jobs.status IS 'The status in its row.';
COMMENT ON COLUMN darkroom.jobs."currentStage" IS 'The stage in hand, or at which it goes on.';
COMMENT ON COLUMN darkroom.jobs."imageId" IS 'The picture.';
COMMENT ON COLUMN darkroom.jobs."sourceImageId" IS 'The second picture of a blend.';
COMMENT ON COLUMN darkroom.jobs."pipelineId" IS 'The pipeline that treats it.';
COMMENT ON COLUMN darkroom.jobs.url IS 'Where the result can be read.';
COMMENT ON COLUMN darkroom.jobs.key IS 'The result''s key in the storage.';
COMMENT ON COLUMN darkroom.jobs.width IS 'Of the result, in pixels.';
COMMENT ON COLUMN darkroom.jobs.height IS 'Of the result, in pixels.';
COMMENT ON COLUMN darkroom.jobs."sizeBytes" IS 'Size of the result.';
COMMENT ON COLUMN darkroom.jobs."errorMessage" IS 'Why it failed or waits.';
COMMENT ON COLUMN darkroom.jobs."retryCount" IS 'Attempts that failed or whose worker died.';
COMMENT ON COLUMN darkroom.jobs."geminiModel" IS 'Which model made it.';
COMMENT ON COLUMN darkroom.jobs."processingStartedAt" IS 'When its first claim began, in UTC.';
COMMENT ON COLUMN darkroom.jobs."processingCompletedAt" IS 'When it was completed, in UTC.';
COMMENT ON COLUMN darkroom.jobs."createdAt" IS 'When its row was made, in UTC.';
COMMENT ON COLUMN darkroom.jobs."updatedAt" IS 'When its row was written last, in UTC.';

COMMENT ON COLUMN darkroom.refunds_owed.user_id IS 'Who is owed.';
COMMENT ON COLUMN darkroom.refunds_owed.job_type IS 'Which kind of job.';
COMMENT ON COLUMN darkroom.refunds_owed.job_id IS 'The job''s id.';
COMMENT ON COLUMN darkroom.refunds_owed.owed IS 'Tokens.';
COMMENT ON COLUMN darkroom.refunds_owed.reason IS 'Why the job ended.';
COMMENT ON COLUMN darkroom.refunds_owed.words IS 'The database''s words.';
COMMENT ON COLUMN darkroom.refunds_owed.refused_at IS 'When it was refused first.';
COMMENT ON COLUMN darkroom.refunds_owed.tried_at IS 'When it was tried last.';

COMMENT ON COLUMN darkroom.money_violations.promise IS 'Which promise is broken: I3, I4 or I7.';
COMMENT ON COLUMN darkroom.money_violations.violation IS 'How, in one word.';
COMMENT ON COLUMN darkroom.money_violations.user_id IS 'Whose money.';
COMMENT ON COLUMN darkroom.money_violations.job_type IS 'Which kind of job, where it is about one.';
COMMENT ON COLUMN darkroom.money_violations.job_id IS 'Which job, where it is about one.';
COMMENT ON COLUMN darkroom.money_violations.finding IS 'What was found, in words.';

COMMENT ON SEQUENCE darkroom.job_queue_position_seq IS 'Gives queue rows their position.';
COMMENT ON SEQUENCE darkroom.stage_runs_id_seq IS 'Gives rows of darkroom.stage_runs their id.';
COMMENT ON SEQUENCE darkroom.wake_ups_asked_seq IS 'How many wake-ups idle workers have asked for.';
COMMENT ON SEQUENCE darkroom.wake_ups_sent_seq IS 'The last of those wake-ups that a producer sent.';
COMMENT ON SEQUENCE darkroom.job_queue_id_seq IS 'Gives queue rows their id.';
COMMENT ON SEQUENCE darkroom.operator_actions_id_seq IS 'Gives rows of darkroom.operator_actions their id.';
COMMENT ON SEQUENCE darkroom.provider_calls_id_seq IS 'Gives rows of darkroom.provider_calls their id.';
COMMENT ON SEQUENCE darkroom.webhook_deliveries_id_seq IS 'Reserved: no release writes the table.';

COMMENT ON TYPE darkroom.entering IS 'A job that enters the queue, as trigger functions hand it on.';
COMMENT ON TYPE darkroom.change IS 'What became of a job, as trigger functions hand it on: a new status, or DELETED.';
