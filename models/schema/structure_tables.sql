-- Tables, columns and indexes of revision darkroom_0003. See tables.sql and mend_tables.sql for what came before.

-- The output of a finished stage for which its job's row has no column; NULL if the stage has none. It is written in
-- the statement of the stage's checkpoint, kept after the job's end for people to read and for `jobs retry
-- --from-stage`, and deleted by retention.
CREATE TABLE darkroom.checkpoints (
    job_type text NOT NULL,
    job_id text NOT NULL,
    stage text NOT NULL,
    output jsonb,
    at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (job_type, job_id, stage)
);
CREATE INDEX checkpoints_at_idx ON darkroom.checkpoints (at);

-- The newest revision of our schema that a process knows; NULL for a process of a release before this column. Functions
-- that only such a process calls are kept as long as one lives (models/schema/migrations/repeatable.py).
ALTER TABLE darkroom.workers ADD COLUMN revision text;
