-- Tables of revision darkroom_0016: who may sign in to the dashboard, who is signed in, and who has tried to. See
-- tables.sql and the files of later revisions for what came before.

CREATE TABLE darkroom.operators (
    name text PRIMARY KEY,
    role text NOT NULL CHECK (role IN ('viewer', 'operator')),
    password_hash text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);

-- A session is known by the hash of its token, so that nobody who reads this table can use one.
CREATE TABLE darkroom.sessions (
    token_hash bytea PRIMARY KEY,
    operator text NOT NULL REFERENCES darkroom.operators (name) ON DELETE CASCADE,
    created_at timestamptz NOT NULL DEFAULT now(),
    seen_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL
);
CREATE INDEX sessions_operator_idx ON darkroom.sessions (operator);

-- Tries to sign in that have failed in the last minute, and those that are under way. Names are hashed, because people
-- type passwords into the wrong field.
CREATE TABLE darkroom.sign_in_tries (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name_hash bytea NOT NULL,
    address text NOT NULL,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    has_failed boolean NOT NULL DEFAULT false
);
CREATE INDEX sign_in_tries_name_idx ON darkroom.sign_in_tries (name_hash, at);
CREATE INDEX sign_in_tries_address_idx ON darkroom.sign_in_tries (address, at);
CREATE INDEX sign_in_tries_at_idx ON darkroom.sign_in_tries (at);
