-- Tables, columns and indexes of revision darkroom_0003. See tables.sql and mend_tables.sql for what came before.

-- What a finished stage left for which its job's row has no column; NULL where it gave nothing. Written in the statement
-- of the stage's checkpoint, kept behind the job's end for people to read and for `jobs retry --from-stage`, and deleted
-- by retention.
CREATE TABLE darkroom.checkpoints (
    job_type text NOT NULL,
    job_id text NOT NULL,
    stage text NOT NULL,
    output jsonb,
    at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (job_type, job_id, stage)
);
CREATE INDEX checkpoints_at_idx ON darkroom.checkpoints (at);

-- Which revision of our schema a process knows; NULL for one of a release before this column. What only such a process
-- calls is kept as long as one lives (models/schema/migrations/repeatable.py).
ALTER TABLE darkroom.workers ADD COLUMN revision text;
