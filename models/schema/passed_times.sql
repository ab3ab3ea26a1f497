-- Columns of revision darkroom_0013. See tables.sql and the files of later revisions for what came before.

-- Estimates are compared with those of jobs of whose time about the same part had passed.
ALTER TABLE darkroom.estimates ADD COLUMN passed_s double precision NOT NULL DEFAULT 0;
