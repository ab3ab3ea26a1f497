-- Columns, indexes and tables of revision darkroom_0009. See tables.sql and the files of later revisions for what came
-- before.

-- The jobs of a batch are in its row, in the order of the album, because they never change. How they ended is counted
-- from their rows until all are over, and kept here from then on, because retention or a user may delete those rows.
ALTER TABLE darkroom.batches ADD COLUMN album_id text;
ALTER TABLE darkroom.batches ADD COLUMN tier text;
ALTER TABLE darkroom.batches ADD COLUMN job_ids text[] NOT NULL DEFAULT '{}';
ALTER TABLE darkroom.batches ADD COLUMN retried_as uuid;
ALTER TABLE darkroom.batches ADD COLUMN completed bigint;
ALTER TABLE darkroom.batches ADD COLUMN failed bigint;
ALTER TABLE darkroom.batches ADD COLUMN refunded bigint;
ALTER TABLE darkroom.batches ADD COLUMN cancelled bigint;
ALTER TABLE darkroom.batches ADD COLUMN finished_at timestamptz;
CREATE INDEX batches_unfinished_idx ON darkroom.batches (created_at) WHERE finished_at IS NULL;
CREATE INDEX batches_user_idx ON darkroom.batches (user_id, created_at);
CREATE INDEX job_queue_batch_idx ON darkroom.job_queue (batch_id) WHERE batch_id IS NOT NULL;

-- The newest batch of each album. Submissions of one album wait for each other by this row, and in a transaction that
-- began before the last one was committed they fail with 40001 instead of submitting pictures twice.
CREATE TABLE darkroom.album_batches (
    album_id text PRIMARY KEY,
    batch_id uuid NOT NULL,
    at timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 70);
