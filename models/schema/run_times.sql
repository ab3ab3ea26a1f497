-- Columns of revision darkroom_0008. See tables.sql and the files of later revisions for what came before.

-- The time before which the job's producer doesn't want it to begin; NULL for at once. Its maximum wait is counted from
-- here. Unlike scheduled_at, no retry and no snooze changes it.
ALTER TABLE darkroom.job_queue ADD COLUMN run_at timestamptz;
