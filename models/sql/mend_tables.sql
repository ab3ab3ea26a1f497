-- Tables, columns and indexes of revision darkroom_0002. See tables.sql for what revision darkroom_0001 made.

-- Every object that Darkroom has put into storage: written before the put, and kept until the object is gone.
CREATE TABLE darkroom.objects (
    key text PRIMARY KEY,
    job_type text NOT NULL,
    job_id text NOT NULL,
    written_at timestamptz NOT NULL DEFAULT now()
);

-- How many wake-ups idle workers have asked for, and the last of them that a producer sent. Sequences are neither
-- versioned nor noted by serializable transactions, so that producers who share nothing else share nothing here either.
-- They take the place of darkroom.bells, which workers of the release before still write.
CREATE SEQUENCE darkroom.wake_ups_asked_seq;
CREATE SEQUENCE darkroom.wake_ups_sent_seq;

-- A sequence that belongs to its column is compared with it (models/migrations/sequences.py).
ALTER SEQUENCE darkroom.job_queue_position_seq OWNED BY darkroom.job_queue.position;
-- For that comparison: some kilobytes for millions of rows.
CREATE INDEX stage_runs_id_idx ON darkroom.stage_runs USING brin (id) WITH (autosummarize = on);
