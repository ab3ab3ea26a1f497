-- Tables and indexes of revision darkroom_0015. See tables.sql and the files of later revisions for what came before.

-- Charges and refunds of earlier jobs whose ids later jobs have. As money they are never pruned.
CREATE TABLE darkroom.earlier_money (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    job_type text NOT NULL,
    job_id text NOT NULL,
    kind text NOT NULL CHECK (kind IN ('charge', 'refund')),
    amount integer NOT NULL,
    at timestamptz NOT NULL
);
CREATE INDEX earlier_money_job_idx ON darkroom.earlier_money (job_id);
