-- Indexes of revision darkroom_0017. See tables.sql and the files of later revisions for what came before.

-- Few events are failures, so it is small; by it the failures of today are found, newest first.
CREATE INDEX stage_runs_failed_idx ON darkroom.stage_runs (at) WHERE event = 'failed';

-- The numbers of a day without the distributions beside them, which are ten times as long.
CREATE INDEX job_minutes_jobs_idx ON darkroom.job_minutes (minute) INCLUDE (job_type, tier, outcome, jobs);

-- By these two lists are read from the newest row on, a page at a time.
CREATE INDEX operator_actions_at_idx ON darkroom.operator_actions (at, id);
CREATE INDEX batches_created_idx ON darkroom.batches (created_at, id);
