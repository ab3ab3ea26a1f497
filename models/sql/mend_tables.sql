-- Tables, columns and indexes of revision darkroom_0002. See tables.sql for what revision darkroom_0001 made.

-- Every object that Darkroom has put into storage: written before the put, and kept until the object is gone.
CREATE TABLE darkroom.objects (
    key text PRIMARY KEY,
    job_type text NOT NULL,
    job_id text NOT NULL,
    written_at timestamptz NOT NULL DEFAULT now()
);
