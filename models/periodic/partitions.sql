-- Weekly partitions of our own logs: created in advance, dropped as a whole. Rows of weeks without a partition are in
-- the default partition.

-- Create the partitions of this week and the following ones. A week of which the default partition holds rows gets
-- none: its rows would have to be moved under locks; retention deletes them where they are when they are old. Return
-- how many are new.
CREATE OR REPLACE FUNCTION darkroom.add_weeks(parent text, at timestamptz, weeks integer) RETURNS integer
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    key_column text := CASE parent WHEN 'ticks' THEN 'tick_at' ELSE 'at' END;
    monday timestamp;
    is_taken boolean;
    made integer := 0;
BEGIN
    FOR monday IN SELECT date_trunc('week', at AT TIME ZONE 'utc') + n * interval '1 week'
                  FROM generate_series(0, weeks - 1) n LOOP
        CONTINUE WHEN to_regclass(format('darkroom.%I', parent || to_char(monday, '_IYYY"w"IW'))) IS NOT NULL;
        EXECUTE format('SELECT EXISTS (SELECT FROM darkroom.%I WHERE %I >= $1 AND %2$I < $2)', parent || '_default', key_column)
            INTO is_taken USING monday AT TIME ZONE 'utc', (monday + interval '1 week') AT TIME ZONE 'utc';
        CONTINUE WHEN is_taken;
        EXECUTE format('CREATE TABLE darkroom.%I PARTITION OF darkroom.%I FOR VALUES FROM (%L) TO (%L)',
                       parent || to_char(monday, '_IYYY"w"IW'), parent,
                       to_char(monday, 'YYYY-MM-DD') || ' 00:00:00+00',
                       to_char(monday + interval '1 week', 'YYYY-MM-DD') || ' 00:00:00+00');
        made := made + 1;
    END LOOP;
    RETURN made;
END $$;

-- Return the weeks of a log that ended before a time and that nothing unfinished refers to, oldest first.
CREATE OR REPLACE FUNCTION darkroom.finished_weeks(parent text, before timestamptz) RETURNS SETOF text
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    week text;
    is_needed boolean;
BEGIN
    FOR week IN SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
                WHERE i.inhparent = format('darkroom.%I', parent)::regclass
                  AND c.relname ~ ('^' || parent || '_\d{4}w\d{2}$')
                  AND to_date(right(c.relname, 7), 'IYYY"w"IW') + 7 <= (before AT TIME ZONE 'utc')
                ORDER BY c.relname LOOP
        EXECUTE format(CASE parent
            WHEN 'ticks' THEN 'SELECT EXISTS (SELECT FROM darkroom.%I t WHERE t.status IN (''pending'', ''running''))'
            ELSE 'SELECT EXISTS (SELECT FROM darkroom.job_queue q JOIN darkroom.%I r ON r.job_id = q.job_id)'
        END, week) INTO is_needed;
        IF NOT is_needed THEN
            RETURN NEXT week;
        END IF;
    END LOOP;
END $$;

-- Drop the oldest week of a log that ended before a time and that nothing unfinished refers to; return its name, or
-- NULL. One week per transaction, so that its lock on the parent table is short.
CREATE OR REPLACE FUNCTION darkroom.drop_week(parent text, before timestamptz) RETURNS text
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    week text := (SELECT w FROM darkroom.finished_weeks(parent, before) w LIMIT 1);
BEGIN
    IF week IS NOT NULL THEN
        EXECUTE format('DROP TABLE darkroom.%I', week);
    END IF;
    RETURN week;
END $$;
