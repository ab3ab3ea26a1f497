"""What the audit of a chaos run asks about `studio`, in the words of its own tables, beside the checks of every table.

The checks of every table (`tests.chaos.auditor`) hold for generations, too; these are about what only `studio` has:
entries of tokens, lines of usage, and files.
"""

IS_THERE = "EXISTS (SELECT FROM studio.users u WHERE u._id = {})"
IS_DELETED = "EXISTS (SELECT FROM chaos.deleted d WHERE d.id = {})"
COUNT = "coalesce((g.parameters ->> 'count')::integer, 1)"
ENTRIES = "(SELECT * FROM darkroom.token_entries WHERE application = 'studio')"

# Each generation that is in the table, with its entries of tokens and its lines of usage.
BOOKED = f"""
    SELECT g._id AS id, g.status, g."tokensUsed" AS cost, g."resultImageFiles" AS files, e.*, l.*
    FROM studio.generations g
    CROSS JOIN LATERAL (
        SELECT count(*) FILTER (WHERE e.kind = 'charge') AS charges,
               count(*) FILTER (WHERE e.kind = 'refund') AS refunds,
               coalesce(-sum(e.amount) FILTER (WHERE e.kind = 'charge'), 0) AS charged,
               coalesce(sum(e.amount) FILTER (WHERE e.kind = 'refund'), 0) AS refunded
        FROM {ENTRIES} e WHERE e.job_id = g._id) e
    CROSS JOIN LATERAL (
        SELECT count(*) FILTER (WHERE u.action = 'generation_started') AS started,
               count(*) FILTER (WHERE u.action <> 'generation_started') AS ended,
               max(u.action) FILTER (WHERE u.action <> 'generation_started') AS "end",
               bool_and((u.metadata ->> 'tokens')::integer = g."tokensUsed" AND u."userId" = g."userId") AS is_right,
               bool_and(u.metadata -> 'fileIds' = to_jsonb(g."resultImageFiles"))
                   FILTER (WHERE u.action = 'generation_completed') AS names_files,
               bool_and(u.metadata ? 'reason')
                   FILTER (WHERE u.action IN ('generation_failed', 'generation_cancelled')) AS says_why
        FROM studio.usage u WHERE u.metadata ->> 'generationId' = g._id) l"""

# Each generation that was deleted while its user stayed, and what it was then.
DELETED = f"""
    SELECT s.job_id AS id, l.before FROM chaos.submitted s
    JOIN chaos.status_log l ON l.job_id = s.job_id AND l.after = 'DELETED'
    WHERE {IS_THERE.format("s.user_id")}
      AND EXISTS (SELECT FROM {ENTRIES} e WHERE e.job_id = s.job_id AND e.kind = 'charge')"""

CHECKS = {
    "I1": {
        "generation not over": """
            SELECT _id, status FROM studio.generations WHERE status NOT IN ('completed', 'failed', 'cancelled')""",
    },
    "I3": {
        "generation not charged once": f"""
            SELECT id, format('costs %s, charged %s by %s entries', cost, charged, charges) FROM ({BOOKED}) b
            WHERE charges <> 1 OR charged <> cost""",
        "generation not refunded once": f"""
            SELECT id, format('%s, costs %s, refunded %s by %s entries', status, cost, refunded, refunds)
            FROM ({BOOKED}) b
            WHERE refunds <> (status <> 'completed')::integer
               OR refunded <> CASE WHEN status = 'completed' THEN 0 ELSE cost END""",
        "deleted generation not refunded once": f"""
            SELECT d.id, format('was %s, %s refunds', d.before, e.refunds) FROM ({DELETED}) d
            CROSS JOIN LATERAL (SELECT count(*) AS refunds, coalesce(sum(amount), 0) AS total FROM {ENTRIES} r
                                WHERE r.job_id = d.id AND r.kind = 'refund') e
            WHERE e.refunds <> (d.before <> 'COMPLETED')::integer
               OR e.refunds = 1 AND e.total <> (SELECT -sum(c.amount) FROM {ENTRIES} c
                                                WHERE c.job_id = d.id AND c.kind = 'charge')""",
        "entry without a generation": f"""
            SELECT e.job_id, format('%s of %s for %s', e.kind, e.amount, e.user_id) FROM {ENTRIES} e
            WHERE e.job_id IS NOT NULL AND NOT EXISTS (SELECT FROM studio.generations g WHERE g._id = e.job_id)
              AND NOT EXISTS (SELECT FROM chaos.status_log l WHERE l.job_id = e.job_id AND l.after = 'DELETED')
              AND NOT {IS_DELETED.format("e.user_id")}""",
    },
    "I4": {
        "files of a generation": f"""
            SELECT g._id, format('%s, lists %s files of %s, and %s are there', g.status,
                                 cardinality(g."resultImageFiles"), {COUNT}, f.number)
            FROM studio.generations g
            CROSS JOIN LATERAL (SELECT count(*) AS number FROM studio.files f
                                WHERE f._id = ANY (g."resultImageFiles")) f
            WHERE cardinality(g."resultImageFiles") <> CASE WHEN g.status = 'completed' THEN {COUNT} ELSE 0 END
               OR f.number <> CASE WHEN g.status = 'completed' THEN {COUNT} ELSE 0 END""",
        "file of no generation": """
            SELECT f._id, f."storageId" FROM studio.files f
            WHERE f.category = 'generated_image'
              AND (SELECT count(*) FROM studio.generations g WHERE f._id = ANY (g."resultImageFiles")) <> 1""",
        "file described otherwise": """
            SELECT g._id, format('picture %s: %s', i.n, to_jsonb(f)) FROM studio.generations g
            CROSS JOIN unnest(g."resultImageFiles") WITH ORDINALITY i (id, n) JOIN studio.files f ON f._id = i.id
            WHERE (f."storageId" ~ ('^studio/' || g."userId" || '/' || g._id || '-' || i.n || '-[0-9a-f]{16}\\.jpg$')
                   AND f.category = 'generated_image' AND f."userId" = g."userId"
                   AND f.url = 'https://pictures.test/' || f."storageId"
                   AND greatest(f.width, f.height) = CASE WHEN g.parameters ->> 'size' = '2K' THEN 2048 ELSE 1024 END)
                  IS NOT TRUE""",
        "end described otherwise": """
            SELECT _id, format('%s, started %s, over %s: %s', status, "startedAt", "completedAt", error)
            FROM studio.generations
            WHERE (CASE status WHEN 'completed' THEN "startedAt" <= "completedAt" AND error IS NULL
                               WHEN 'failed' THEN "completedAt" IS NOT NULL ELSE true END) IS NOT TRUE""",
    },
    "I7": {
        "balance against entries": f"""
            SELECT u._id, format('balance %s, sum of entries %s', u."tokenBalance", e.total) FROM studio.users u
            LEFT JOIN (SELECT user_id, sum(amount) AS total FROM {ENTRIES} e GROUP BY 1) e ON e.user_id = u._id
            WHERE u."tokenBalance" IS DISTINCT FROM e.total""",
        "entry after entry": f"""
            SELECT user_id, format('%s after entry %s, whose sum is %s', balance_after, id, total)
            FROM (SELECT e.*, sum(e.amount) OVER (PARTITION BY e.user_id ORDER BY e.id) AS total FROM {ENTRIES} e) e
            WHERE balance_after <> total OR balance_after < 0""",
        "changes by others": f"""
            SELECT coalesce(e.user_id, p.user_id), format('%s entries make %s; %s changes made %s', e.number, e.total,
                                                          p.number, p.total)
            FROM (SELECT user_id, count(*) AS number, sum(amount) AS total FROM {ENTRIES} e
                  WHERE kind = 'other' GROUP BY 1) e
            FULL JOIN (SELECT "userId" AS user_id, count(*) AS number, sum(amount) AS total
                       FROM studio.purchases GROUP BY 1) p ON p.user_id = e.user_id
            WHERE (e.number, e.total) IS DISTINCT FROM (p.number, p.total)""",
        "entry by a repair": f"""
            SELECT e.user_id, format('%s of %s for %s', e.kind, e.amount, e.job_id)
            FROM {ENTRIES} e JOIN chaos.repaired r ON e.created_at > r.at""",
    },
    "usage": {
        "lines of a generation": f"""
            SELECT id, format('%s: %s lines of its start, %s of its end, %s', status, started, ended, "end")
            FROM ({BOOKED}) b
            WHERE (started, ended, "end") IS DISTINCT FROM (1, 1, 'generation_' || status)""",
        "metadata of a generation": f"""
            SELECT id, format('%s, tokens %s, files %s, reason %s', status, is_right, names_files, says_why)
            FROM ({BOOKED}) b
            WHERE NOT (is_right AND coalesce(names_files, true) AND coalesce(says_why, true))""",
        "lines of a deleted generation": f"""
            SELECT d.id, format('was %s: %s', d.before, u.actions) FROM ({DELETED}) d
            CROSS JOIN LATERAL (
                SELECT array_agg(u.action ORDER BY u.action = 'generation_started' DESC) AS actions,
                       count(*) FILTER (WHERE u.metadata ->> 'reason' = 'deleted') AS deleted
                FROM studio.usage u WHERE u.metadata ->> 'generationId' = d.id) u
            WHERE u.actions IS DISTINCT FROM ARRAY['generation_started', 'generation_' || CASE d.before
                      WHEN 'COMPLETED' THEN 'completed' WHEN 'FAILED' THEN 'failed' ELSE 'cancelled' END]
               OR (u.deleted = 1) <> (d.before IN ('PENDING', 'PROCESSING'))""",
        "line of no generation": """
            SELECT u.metadata ->> 'generationId', u.action FROM studio.usage u
            WHERE NOT EXISTS (SELECT FROM studio.generations g WHERE g._id = u.metadata ->> 'generationId')
              AND NOT EXISTS (SELECT FROM chaos.status_log l
                              WHERE l.job_id = u.metadata ->> 'generationId' AND l.after = 'DELETED')""",
    },
}

# The key ends in the beginning of the content's hash; what Darkroom noted of the object must begin with it, too.
PICTURES = """
SELECT g._id AS id, f."storageId" AS key, f."sizeBytes" AS size_bytes,
       CASE WHEN o.sha256 IS NULL OR starts_with(o.sha256, substring(f."storageId" FROM '-([0-9a-f]{16})\\.jpg$'))
            THEN coalesce(o.sha256, substring(f."storageId" FROM '-([0-9a-f]{16})\\.jpg$')) END AS sha256
FROM studio.generations g CROSS JOIN unnest(g."resultImageFiles") i (id) JOIN studio.files f ON f._id = i.id
LEFT JOIN darkroom.objects o ON o.key = f."storageId"
WHERE g.status = 'completed'
"""
