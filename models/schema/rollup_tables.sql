-- Tables and columns of revision darkroom_0010: roll-ups and counts of queues. See tables.sql and the files of later
-- revisions for what came before. models/periodic/rollups.sql says how they are written.

-- When a worker claimed the job for the first time; its wait ended then.
ALTER TABLE darkroom.job_queue ADD COLUMN claimed_at timestamptz;

-- Ends of jobs that no roll-up has yet: written by the transaction that ends the job, deleted by the one that rolls up.
CREATE TABLE darkroom.job_ends (
    at timestamptz NOT NULL DEFAULT now(),
    job_type text NOT NULL,
    tier text NOT NULL,
    outcome text NOT NULL,
    wait_s real NOT NULL,
    run_s real
) WITH (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);

-- Jobs that ended in a minute or an hour, by their outcome. Distributions are counts by bucket (darkroom.bucket_of).
CREATE TABLE darkroom.job_minutes (
    minute timestamptz NOT NULL,
    job_type text NOT NULL,
    tier text NOT NULL,
    outcome text NOT NULL,
    jobs bigint NOT NULL,
    wait_s double precision NOT NULL,
    run_s double precision NOT NULL,
    wait_counts bigint[] NOT NULL,
    run_counts bigint[] NOT NULL,
    PRIMARY KEY (minute, job_type, tier, outcome)
) WITH (fillfactor = 70);
CREATE TABLE darkroom.job_hours (
    hour timestamptz NOT NULL,
    job_type text NOT NULL,
    tier text NOT NULL,
    outcome text NOT NULL,
    jobs bigint NOT NULL,
    wait_s double precision NOT NULL,
    run_s double precision NOT NULL,
    wait_counts bigint[] NOT NULL,
    run_counts bigint[] NOT NULL,
    PRIMARY KEY (hour, job_type, tier, outcome)
);

-- Events of stage_runs in a minute or an hour.
CREATE TABLE darkroom.stage_minutes (
    minute timestamptz NOT NULL,
    job_type text NOT NULL,
    tier text NOT NULL,
    stage text NOT NULL,
    event text NOT NULL,
    events bigint NOT NULL,
    seconds double precision NOT NULL,
    counts bigint[] NOT NULL,
    PRIMARY KEY (minute, job_type, tier, stage, event)
) WITH (fillfactor = 70);
CREATE TABLE darkroom.stage_hours (
    hour timestamptz NOT NULL,
    job_type text NOT NULL,
    tier text NOT NULL,
    stage text NOT NULL,
    event text NOT NULL,
    events bigint NOT NULL,
    seconds double precision NOT NULL,
    counts bigint[] NOT NULL,
    PRIMARY KEY (hour, job_type, tier, stage, event)
);

-- How far stage_runs is in the roll-ups: one row. Rows up to safe_id are committed or never will be. That holds for rows
-- up to next_id, too, once none of the transactions in `writers` is open any more.
CREATE TABLE darkroom.rollup_cursor (
    source text PRIMARY KEY,
    last_id bigint NOT NULL,
    safe_id bigint NOT NULL,
    next_id bigint NOT NULL,
    writers text[] NOT NULL
) WITH (fillfactor = 50);

-- The seconds of each stage's last runs: some hundred finished ones, of which older ones count less and less.
CREATE TABLE darkroom.recent_stages (
    job_type text NOT NULL,
    tier text NOT NULL,
    stage text NOT NULL,
    runs double precision NOT NULL,
    seconds double precision NOT NULL,
    counts double precision[] NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (job_type, tier, stage)
) WITH (fillfactor = 50);

-- The jobs in the queues as a scheduler counted them last, and when that was and how long it took: one row.
CREATE TABLE darkroom.queue_counts (
    queue text NOT NULL,
    job_type text NOT NULL,
    tier text NOT NULL,
    stage text NOT NULL,
    status text NOT NULL,
    held_by text NOT NULL,
    jobs bigint NOT NULL,
    oldest_at timestamptz NOT NULL,
    next_due_at timestamptz,
    turns double precision,
    PRIMARY KEY (queue, job_type, tier, stage, status, held_by)
) WITH (autovacuum_vacuum_scale_factor = 0.02);
CREATE TABLE darkroom.queue_counting (
    is_only boolean PRIMARY KEY DEFAULT true CHECK (is_only),
    as_of timestamptz NOT NULL,
    due_at timestamptz NOT NULL,
    took_s double precision NOT NULL,
    jobs bigint NOT NULL
) WITH (fillfactor = 50);

-- What those counts were in a minute, and on average in an hour.
CREATE TABLE darkroom.queue_minutes (
    minute timestamptz NOT NULL,
    queue text NOT NULL,
    status text NOT NULL,
    jobs bigint NOT NULL,
    oldest_wait_s double precision NOT NULL,
    PRIMARY KEY (minute, queue, status)
);
CREATE TABLE darkroom.queue_hours (
    hour timestamptz NOT NULL,
    queue text NOT NULL,
    status text NOT NULL,
    jobs bigint NOT NULL,
    oldest_wait_s double precision NOT NULL,
    PRIMARY KEY (hour, queue, status)
);
