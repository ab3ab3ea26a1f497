-- Tables, columns and indexes of revision darkroom_0002. See tables.sql for what revision darkroom_0001 made.

-- Every object that Darkroom has stored: recorded and committed before the upload, and kept until the object is
-- deleted. job_type and job_id tell whose it is: a job's, or 'original' and the picture's id, 'input' and the id in the
-- key, 'probe'.
CREATE TABLE darkroom.objects (
    key text PRIMARY KEY,
    job_type text NOT NULL,
    job_id text NOT NULL,
    sha256 text,
    size_bytes bigint,
    written_at timestamptz NOT NULL DEFAULT now()
);

-- How many wake-ups idle workers have asked for, and the last of them that a producer sent. Sequences have no row
-- versions, and serializable transactions don't track them, so producers that share nothing else don't conflict here
-- either. They replace darkroom.bells, which workers of the previous release still write.
CREATE SEQUENCE darkroom.wake_ups_asked_seq;
CREATE SEQUENCE darkroom.wake_ups_sent_seq;

-- A sequence that belongs to its column is compared with it (models/schema/migrations/sequences.py).
ALTER SEQUENCE darkroom.job_queue_position_seq OWNED BY darkroom.job_queue.position;
-- For that comparison: some kilobytes for millions of rows.
CREATE INDEX stage_runs_id_idx ON darkroom.stage_runs USING brin (id) WITH (autosummarize = on);

-- A job that the database refuses to start (because of a constraint, or a trigger of the application's) is set aside:
-- how often in a row it was refused, since when, and with which SQLSTATE. `last_error` has the message.
ALTER TABLE darkroom.job_queue
    ADD COLUMN refusals integer NOT NULL DEFAULT 0,
    ADD COLUMN refused_since timestamptz,
    ADD COLUMN refused_state text;
CREATE INDEX job_queue_refused_idx ON darkroom.job_queue (refused_since) WHERE refused_since IS NOT NULL;

-- A job that is over though the database refused its end: the label that its row should have and doesn't (NULL if it
-- has it), and the part of its refund that couldn't be paid. The row is deleted when nothing is left to be done.
CREATE TABLE darkroom.refused_ends (
    job_type text NOT NULL,
    job_id text NOT NULL,
    user_id text NOT NULL,
    label text,
    reason text NOT NULL,
    words text NOT NULL,
    owed integer NOT NULL DEFAULT 0 CHECK (owed >= 0),
    refused_at timestamptz NOT NULL DEFAULT now(),
    tried_at timestamptz NOT NULL DEFAULT now(),
    tries integer NOT NULL DEFAULT 1,
    PRIMARY KEY (job_type, job_id)
);
CREATE INDEX refused_ends_tried_idx ON darkroom.refused_ends (tried_at);
-- What a submission asked for, so that its key with other arguments is refused; NULL in rows from before.
ALTER TABLE darkroom.submissions ADD COLUMN arguments jsonb;
CREATE INDEX submissions_created_idx ON darkroom.submissions (created_at);

-- Jobs whose producer showed the share token of their pipeline, which has visibility LINK.
CREATE TABLE darkroom.pipeline_links (
    job_id text PRIMARY KEY,
    pipeline_id text NOT NULL,
    at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX pipeline_links_at_idx ON darkroom.pipeline_links (at);

-- The token of a job's previous claim: if workflowRunId holds this token, that claim wrote it there.
ALTER TABLE darkroom.job_queue ADD COLUMN run_token uuid;
-- By these the newest row of a cell is found without reading its dead versions (cells.sql).
ALTER TABLE darkroom.limits
    ADD COLUMN changes bigint NOT NULL DEFAULT 0,
    ADD COLUMN version bigint NOT NULL GENERATED ALWAYS AS (changes / 32) STORED;
ALTER TABLE darkroom.limits
    DROP CONSTRAINT limits_pkey,
    ADD CONSTRAINT limits_pkey PRIMARY KEY (scope, name, window_start, version);
ALTER TABLE darkroom.limits SET (fillfactor = 50); -- room for heap-only changes

-- Whether a call was for a job of tier FREE, whose calls may have a budget of their own.
ALTER TABLE darkroom.provider_calls ADD COLUMN is_free boolean NOT NULL DEFAULT false;

-- The view read a dead entry for each call that had ended; darkroom.is_in_flight takes one call at a time.
DROP VIEW IF EXISTS darkroom.calls_in_flight;
-- What came back instead of what a call asked for, in our words; NULL if the right answer came, or in rows of an
-- earlier release.
ALTER TABLE darkroom.provider_calls ADD COLUMN problem text;
-- How long a process needed for its last connection: a rescue after a pause of PostgreSQL waits longer for slow ones.
ALTER TABLE darkroom.workers ADD COLUMN connect_s real NOT NULL DEFAULT 0;
