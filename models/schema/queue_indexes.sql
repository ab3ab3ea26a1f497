-- Settings of indexes of revision darkroom_0006. See tables.sql and the files of later revisions for what came before.

-- A queue row is written twice, when it enters and when it is claimed, and each time gets an entry in these indexes. So
-- half of a page is left for the second entry: a full page is searched for old entries before each claim's is added,
-- or is split. Entries of one user aren't merged either: they live no longer than their rows.
ALTER INDEX IF EXISTS darkroom.job_queue_pkey SET (fillfactor = 50);
ALTER INDEX IF EXISTS darkroom.job_queue_job_key SET (fillfactor = 50);
ALTER INDEX IF EXISTS darkroom.job_queue_job_idx SET (fillfactor = 50);
ALTER INDEX IF EXISTS darkroom.job_queue_user_idx SET (fillfactor = 50, deduplicate_items = off);
