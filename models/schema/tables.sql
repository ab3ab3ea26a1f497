-- Darkroom's own tables and types as revision darkroom_0001 made them. Databases that it made exist, so this file
-- doesn't change any more; new parts are in the file of a later revision. None of it is an additional column, index or
-- constraint on the application's tables.

-- What triggers must read: the money mode, prices, default retries, pauses.
CREATE TABLE darkroom.settings (
    key text PRIMARY KEY,
    value jsonb NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT now()
);

-- One narrow row per unfinished job. The row is the fence: only a worker that has locked it with its lease_token may
-- write.
CREATE TABLE darkroom.job_queue (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    job_type text NOT NULL,
    job_id text NOT NULL,
    user_id text NOT NULL,
    tier text NOT NULL,
    queue text NOT NULL,
    stage text NOT NULL,
    payload jsonb NOT NULL DEFAULT '{}',
    -- pending: waits for its turn; retrying: waits for scheduled_at; processing: claimed
    status text NOT NULL DEFAULT 'pending' CHECK (status IN ('pending', 'processing', 'retrying')),
    ready boolean NOT NULL DEFAULT true,
    priority integer NOT NULL DEFAULT 0,
    position bigint NOT NULL,
    attempts integer NOT NULL DEFAULT 0,
    max_attempts integer NOT NULL,
    last_error text,
    scheduled_at timestamptz NOT NULL DEFAULT now(),
    created_at timestamptz NOT NULL DEFAULT now(),
    started_at timestamptz,
    worker_id uuid,
    lease_token uuid,
    deadline_at timestamptz,
    batch_id uuid,
    notified_at timestamptz,
    -- the pause because of which it can't be claimed
    paused_by text,
    CONSTRAINT job_queue_job_key UNIQUE (job_type, job_id),
    CONSTRAINT job_queue_claim_check CHECK (
        (status = 'processing') = (lease_token IS NOT NULL) AND (status = 'processing') = (worker_id IS NOT NULL)
    ),
    CONSTRAINT job_queue_pause_check CHECK (paused_by IS NULL OR (status = 'pending' AND NOT ready))
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);
-- Checkpoints change none of these columns, so they stay heap-only updates.
CREATE INDEX job_queue_claim_idx ON darkroom.job_queue (queue, position) WHERE ready AND status = 'pending';
CREATE INDEX job_queue_waiting_idx ON darkroom.job_queue (scheduled_at) WHERE status = 'retrying';
CREATE INDEX job_queue_worker_idx ON darkroom.job_queue (worker_id) WHERE status = 'processing';
CREATE INDEX job_queue_paused_idx ON darkroom.job_queue (paused_by) WHERE paused_by IS NOT NULL;
CREATE INDEX job_queue_user_idx ON darkroom.job_queue (user_id);
CREATE INDEX job_queue_job_idx ON darkroom.job_queue (job_id);

CREATE SEQUENCE darkroom.job_queue_position_seq;

-- A process and its lease.
CREATE TABLE darkroom.workers (
    id uuid PRIMARY KEY,
    host text NOT NULL,
    pid integer NOT NULL,
    queues text[] NOT NULL,
    lanes integer NOT NULL,
    lease_expires_at timestamptz NOT NULL,
    started_at timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 50);

-- Charges and refunds: by the key there is at most one of each per job, and the charge says how much a refund pays
-- back.
CREATE TABLE darkroom.job_money (
    job_type text NOT NULL,
    job_id text NOT NULL,
    kind text NOT NULL CHECK (kind IN ('charge', 'refund')),
    amount integer NOT NULL CHECK (amount > 0),
    at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (job_type, job_id, kind)
);

-- What a balance was before the first ledger row that Darkroom can see: balance = opening + ledger.
CREATE TABLE darkroom.opening_balances (
    user_id text PRIMARY KEY,
    balance bigint NOT NULL,
    recorded_at timestamptz NOT NULL DEFAULT now()
);

-- The history of every job, append-only, in weekly partitions; the default one catches what no week holds.
CREATE SEQUENCE darkroom.stage_runs_id_seq;
CREATE TABLE darkroom.stage_runs (
    id bigint NOT NULL DEFAULT nextval('darkroom.stage_runs_id_seq'),
    job_type text NOT NULL,
    job_id text NOT NULL,
    event text NOT NULL CHECK (event IN ('claimed', 'started', 'finished', 'failed', 'released', 'rescued', 'fenced',
                                         'retried', 'snoozed')),
    stage text,
    attempt integer,
    worker_id uuid,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    duration_ms integer,
    input_hash text,
    output jsonb,
    error text
) PARTITION BY RANGE (at);
ALTER SEQUENCE darkroom.stage_runs_id_seq OWNED BY darkroom.stage_runs.id;
CREATE INDEX stage_runs_job_idx ON darkroom.stage_runs (job_id, at);
CREATE TABLE darkroom.stage_runs_default PARTITION OF darkroom.stage_runs DEFAULT;

-- The intent log: a row is written before a provider call, and closed after it. A crash leaves it open.
CREATE TABLE darkroom.provider_calls (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    job_type text NOT NULL,
    job_id text NOT NULL,
    user_id text NOT NULL,
    attempt integer NOT NULL,
    provider text NOT NULL,
    model text,
    purpose text NOT NULL CHECK (purpose IN ('analyze', 'generate')),
    input_hash text,
    outcome text NOT NULL DEFAULT 'open',
    may_be_paid boolean NOT NULL,
    started_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    finished_at timestamptz,
    latency_ms integer,
    prompt_units integer,
    output_units integer,
    images integer,
    cost_usd numeric(12, 6),
    -- what the gate counted before the call: the payer, the price, and the time zone of the provider's day
    payer text,
    quoted_usd numeric(12, 6) NOT NULL DEFAULT 0,
    quoted_images integer NOT NULL DEFAULT 0,
    zone text NOT NULL DEFAULT 'UTC',
    was_sent boolean NOT NULL DEFAULT true
);
CREATE INDEX provider_calls_job_idx ON darkroom.provider_calls (job_id);
CREATE INDEX provider_calls_started_idx ON darkroom.provider_calls (provider, started_at);
CREATE INDEX provider_calls_open_idx ON darkroom.provider_calls (started_at) WHERE outcome = 'open';

-- What a job has bought and stored: input hash -> object. Written before the job is completed.
CREATE TABLE darkroom.artifacts (
    job_type text NOT NULL,
    job_id text NOT NULL,
    input_hash text NOT NULL,
    user_id text NOT NULL,
    key text NOT NULL,
    sha256 text NOT NULL,
    bytes integer NOT NULL,
    width integer NOT NULL,
    height integer NOT NULL,
    model text NOT NULL,
    temperature double precision,
    treatments text[] NOT NULL DEFAULT '{}',
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (job_type, job_id)
);
CREATE INDEX artifacts_input_idx ON darkroom.artifacts (input_hash, user_id);
CREATE INDEX artifacts_created_idx ON darkroom.artifacts (created_at);

CREATE TABLE darkroom.submissions (
    user_id text NOT NULL,
    idempotency_key text NOT NULL,
    job_type text NOT NULL,
    job_id text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (user_id, idempotency_key)
);

-- Requests for wake-ups, of an earlier release: set by a worker that found no job, cleared by the producer that
-- notifies.
CREATE TABLE darkroom.bells (
    queue text PRIMARY KEY,
    armed boolean NOT NULL DEFAULT false
) WITH (fillfactor = 50);

-- Until when a periodic task's ticks were inserted. A scheduler locks the row while it inserts them.
CREATE TABLE darkroom.schedules (
    name text PRIMARY KEY,
    planned_until timestamptz NOT NULL
);

-- A tick of a periodic task. A scheduler that locks the row works on it; each chunk commits together with its cursor.
CREATE TABLE darkroom.ticks (
    task text NOT NULL,
    tick_at timestamptz NOT NULL,
    status text NOT NULL DEFAULT 'pending' CHECK (status IN ('pending', 'running', 'finished', 'failed')),
    cursor jsonb,
    counts jsonb NOT NULL DEFAULT '{}',
    error text,
    failures integer NOT NULL DEFAULT 0,
    retry_at timestamptz,
    started_at timestamptz,
    finished_at timestamptz,
    PRIMARY KEY (task, tick_at)
) PARTITION BY RANGE (tick_at);
CREATE INDEX ticks_unfinished_idx ON darkroom.ticks (task, tick_at) WHERE status IN ('pending', 'running');
CREATE INDEX ticks_ended_idx ON darkroom.ticks (task, finished_at);
CREATE TABLE darkroom.ticks_default PARTITION OF darkroom.ticks DEFAULT;

CREATE TABLE darkroom.batches (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    user_id text NOT NULL,
    label text,
    created_at timestamptz NOT NULL DEFAULT now()
);

-- Cells of rates, budgets and breakers, each changed under its own row lock.
CREATE TABLE darkroom.limits (
    scope text NOT NULL,
    name text NOT NULL,
    window_start timestamptz NOT NULL DEFAULT 'epoch',
    used numeric NOT NULL DEFAULT 0,
    state jsonb NOT NULL DEFAULT '{}',
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (scope, name, window_start)
);

CREATE TABLE darkroom.operator_actions (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at timestamptz NOT NULL DEFAULT now(),
    actor text NOT NULL,
    action text NOT NULL,
    target text NOT NULL,
    before jsonb,
    after jsonb,
    reason text
);
CREATE INDEX operator_actions_target_idx ON darkroom.operator_actions (target);

CREATE TABLE darkroom.webhook_deliveries (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    job_type text NOT NULL,
    job_id text NOT NULL,
    url text NOT NULL,
    status text NOT NULL DEFAULT 'pending' CHECK (status IN ('pending', 'delivered', 'failed')),
    attempts integer NOT NULL DEFAULT 0,
    scheduled_at timestamptz NOT NULL DEFAULT now(),
    delivered_at timestamptz,
    last_error text
);

-- A job that enters the queue, as trigger functions pass it to each other.
CREATE TYPE darkroom.entering AS (
    job_type text,
    job_id text,
    user_id text,
    tier text,
    cost integer,
    stage text,
    max_attempts integer,
    created_at timestamptz
);

-- A change of a job, as trigger functions pass it to each other: its new status, or DELETED.
CREATE TYPE darkroom.change AS (
    job_type text,
    job_id text,
    user_id text,
    status text,
    stage text,
    reason text
);

-- Operators' pauses that are over; present ones are in darkroom.settings (pauses.sql).
CREATE TABLE darkroom.past_pauses (
    name text NOT NULL,
    paused_at timestamptz NOT NULL,
    resumed_at timestamptz NOT NULL,
    actor text,
    reason text,
    PRIMARY KEY (name, paused_at)
);

-- The day of the month on which a balance regenerates, if a short month made lastRegeneration an earlier day. A row
-- whose date isn't the balance's lastRegeneration any more is ignored.
CREATE TABLE darkroom.regeneration_anchors (
    user_id text PRIMARY KEY,
    regenerated_at timestamp(3) NOT NULL,
    day integer NOT NULL CHECK (day BETWEEN 29 AND 31)
);

-- Periods of subscriptions whose tokens were given, at most once by the key, and the terms on which they were given.
CREATE TABLE darkroom.subscription_periods (
    user_id text NOT NULL,
    period_start timestamp(3) NOT NULL,
    period_end timestamp(3) NOT NULL,
    at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (user_id, period_start)
);

-- Usage of a month by user, and cost of a day by provider, computed from the records.
CREATE TABLE darkroom.usage_months (
    user_id text NOT NULL,
    month date NOT NULL,
    jobs integer NOT NULL,
    pictures integer NOT NULL,
    tokens bigint NOT NULL,
    provider_calls integer NOT NULL,
    cost_usd numeric(14, 6) NOT NULL,
    bytes_stored bigint NOT NULL,
    computed_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (user_id, month)
);

CREATE TABLE darkroom.cost_days (
    day date NOT NULL,
    provider text NOT NULL,
    calls integer NOT NULL,
    paid_calls integer NOT NULL,
    images bigint NOT NULL,
    prompt_units bigint NOT NULL,
    output_units bigint NOT NULL,
    cost_usd numeric(14, 6) NOT NULL,
    computed_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (day, provider)
);

-- The warnings that a user has been given: one per month, measure and threshold.
CREATE TABLE darkroom.usage_warnings (
    user_id text NOT NULL,
    month date NOT NULL,
    measure text NOT NULL,
    percent integer NOT NULL CHECK (percent IN (80, 100)),
    at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (user_id, month, measure, percent)
);

-- Objects that no row names: reported when they are found, removed by a later run if still no row names them.
CREATE TABLE darkroom.orphans (
    key text PRIMARY KEY,
    size_bytes bigint NOT NULL,
    modified_at timestamptz NOT NULL,
    found_at timestamptz NOT NULL,
    removed_at timestamptz
);
