-- Columns and indexes of revision darkroom_0005. See tables.sql and the files of later revisions for what came before.

-- The worker that died while it ran this job, and perhaps because of it. Until that is known, the job is claimed only by
-- a process that runs nothing else. NULL for every other job.
ALTER TABLE darkroom.job_queue ADD COLUMN suspect_of uuid;
CREATE INDEX job_queue_suspect_idx ON darkroom.job_queue (queue, position) WHERE suspect_of IS NOT NULL;
