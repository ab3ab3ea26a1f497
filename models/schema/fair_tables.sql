-- Tables, columns, indexes and sequences of revision darkroom_0007: fair order, and caps on users' running jobs. See
-- tables.sql and the files of later revisions for what came before. models/queue/fair.sql says what they mean.

-- When a user's turn in a queue comes next: the finish tag of the job that entered it last.
CREATE TABLE darkroom.turns (
    queue text NOT NULL,
    user_id text NOT NULL,
    finish bigint NOT NULL,
    PRIMARY KEY (queue, user_id)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.02);

-- Virtual time, and how far head starts have been given away. Both count millionths of a token. They begin at a million
-- tokens, above every position that an earlier release gave: jobs that wait already come first, in their order.
CREATE SEQUENCE darkroom.virtual_time_seq START WITH 1000000000000;
CREATE SEQUENCE darkroom.head_start_seq INCREMENT BY 1000000 START WITH 1000000000000;

-- Users who may have a free slot: a job of theirs has left it, or the caps have changed. A claimer looks, and deletes
-- the row.
CREATE TABLE darkroom.freed_slots (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    user_id text NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);

-- The cost of the job divided by its user's weight, in millionths of a token; and why a pending job isn't in the index
-- of claims, if no pause is the reason: 'tag' until its position is settled (that of a job with a run_at, once its time
-- has come), 'cap' until its user has a free slot.
ALTER TABLE darkroom.job_queue
    ADD COLUMN units bigint NOT NULL DEFAULT 1000000,
    ADD COLUMN held_by text;
ALTER TABLE darkroom.job_queue ADD CONSTRAINT job_queue_held_check
    CHECK (held_by IS NULL OR (NOT ready AND paused_by IS NULL
                               AND (held_by = 'tag' AND status <> 'processing' OR held_by = 'cap' AND status = 'pending')));
CREATE INDEX job_queue_asking_idx ON darkroom.job_queue (id) WHERE held_by = 'tag' AND status = 'pending';

-- Jobs with the same position are claimed in the order of their ids.
DROP INDEX IF EXISTS darkroom.job_queue_claim_idx;
CREATE INDEX job_queue_claim_idx ON darkroom.job_queue (queue, position, id) WHERE ready AND status = 'pending';

-- The running and the claimable jobs of a user are counted by it.
DROP INDEX IF EXISTS darkroom.job_queue_user_idx;
CREATE INDEX job_queue_user_idx ON darkroom.job_queue (user_id, status, ready)
    WITH (fillfactor = 50, deduplicate_items = off);

-- Positions are tags now, which no sequence gives.
ALTER SEQUENCE darkroom.job_queue_position_seq OWNED BY NONE;
