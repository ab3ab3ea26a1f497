-- Tables and indexes of revision darkroom_0012: places and estimates. See tables.sql and the files of later revisions for
-- what came before.

-- Jobs that wait for a slot, in the fair order: by it the place of a job is counted.
CREATE INDEX job_queue_held_idx ON darkroom.job_queue (queue, position, id) WHERE held_by = 'cap';

-- Estimates that a periodic task makes of some jobs each minute, to compare them with what the jobs take. Its score is
-- ln(what it took / median_s) / spread, which would have a standard normal distribution if estimates were perfect.
CREATE TABLE darkroom.estimates (
    job_type text NOT NULL,
    job_id text NOT NULL,
    queue text NOT NULL,
    is_running boolean NOT NULL,
    at timestamptz NOT NULL DEFAULT now(),
    median_s double precision NOT NULL,
    spread double precision NOT NULL,
    ended_at timestamptz,
    score double precision,
    PRIMARY KEY (at, job_type, job_id)
);
CREATE INDEX estimates_open_idx ON darkroom.estimates (at) WHERE ended_at IS NULL;
CREATE INDEX estimates_score_idx ON darkroom.estimates (is_running, ended_at) WHERE score IS NOT NULL;
