-- Constraints and indexes of revision darkroom_0011. See tables.sql and the files of later revisions for what came before.

-- A job may be handed over to another queue. Not validated: every row of before is allowed still, and there may be millions.
ALTER TABLE darkroom.stage_runs
    DROP CONSTRAINT IF EXISTS stage_runs_event_check,
    ADD CONSTRAINT stage_runs_event_check CHECK (event IN (
        'claimed', 'started', 'finished', 'failed', 'released', 'rescued', 'fenced', 'retried', 'snoozed',
        'handed_over')) NOT VALID;

-- Free slots go first to those of a user's jobs that have begun.
DROP INDEX IF EXISTS darkroom.job_queue_capped_idx;
CREATE INDEX job_queue_capped_idx ON darkroom.job_queue (user_id, (started_at IS NULL), position, id)
    WHERE held_by = 'cap';

-- Made again by darkroom.make_queue_triggers: a job that waits in another queue for its position has left its slot.
DROP TRIGGER IF EXISTS free_slot ON darkroom.job_queue;
