-- Tables and indexes of revision darkroom_0014. See tables.sql and the files of later revisions for what came before.

-- Every change of a balance that an application keeps itself. Entries are money, and never pruned.
CREATE TABLE darkroom.token_entries (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    application text NOT NULL,
    user_id text NOT NULL,
    amount integer NOT NULL,
    kind text NOT NULL CHECK (kind IN ('opening', 'charge', 'refund', 'other')),
    job_id text,
    balance_after integer NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX token_entries_user_idx ON darkroom.token_entries (user_id, application, id);
CREATE INDEX token_entries_job_idx ON darkroom.token_entries (job_id) WHERE job_id IS NOT NULL;
