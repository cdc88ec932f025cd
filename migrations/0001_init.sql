-- The control plane's records. Written once in PostgreSQL's spelling; the store
-- lowers the types for SQLite (docs/adr/0001). Every table leads with the account
-- or the app, so that it can be sharded by it. Times are Unix milliseconds.

CREATE TABLE accounts (
    id UUID NOT NULL,
    name TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (id)
);

-- A secret is stored as its SHA-256 only. `permissions` and `app_ids` are JSON
-- lists; no `app_ids` means every app of the account.
CREATE TABLE api_tokens (
    account_id UUID NOT NULL,
    id UUID NOT NULL,
    name TEXT NOT NULL,
    secret_hash BYTEA NOT NULL,
    permissions TEXT NOT NULL,
    app_ids TEXT,
    created_at BIGINT NOT NULL,
    expires_at BIGINT,
    revoked_at BIGINT,
    PRIMARY KEY (account_id, id)
);
CREATE UNIQUE INDEX api_tokens_secret_hash ON api_tokens (secret_hash);

CREATE TABLE apps (
    account_id UUID NOT NULL,
    id UUID NOT NULL,
    name TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (account_id, id)
);
CREATE UNIQUE INDEX apps_id ON apps (id);

-- `settings` is the JSON of everything a caller can set but title and status.
CREATE TABLE meetings (
    app_id UUID NOT NULL,
    id UUID NOT NULL,
    title TEXT,
    status TEXT NOT NULL,
    version BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    settings TEXT NOT NULL,
    PRIMARY KEY (app_id, id)
);
CREATE INDEX meetings_status ON meetings (app_id, status, id);

-- Search over titles: one row for each word, holding the title from that word on.
CREATE TABLE meeting_words (
    app_id UUID NOT NULL,
    word TEXT COLLATE "C" NOT NULL,
    meeting_id UUID NOT NULL,
    PRIMARY KEY (app_id, word, meeting_id)
);
CREATE INDEX meeting_words_meeting ON meeting_words (app_id, meeting_id);

-- A retired preset is out of sight and its name is free again, but participants
-- that were added with it keep its permissions.
CREATE TABLE presets (
    app_id UUID NOT NULL,
    id UUID NOT NULL,
    name TEXT NOT NULL,
    version BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    retired_at BIGINT,
    body TEXT NOT NULL,
    PRIMARY KEY (app_id, id)
);
CREATE INDEX presets_live ON presets (app_id, id) WHERE retired_at IS NULL;
CREATE UNIQUE INDEX presets_name ON presets (app_id, name) WHERE retired_at IS NULL;

-- `search_name` is the folded start of the name.
CREATE TABLE participants (
    app_id UUID NOT NULL,
    meeting_id UUID NOT NULL,
    id UUID NOT NULL,
    preset_id UUID NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    custom_participant_id TEXT COLLATE "C" NOT NULL,
    name TEXT,
    search_name TEXT COLLATE "C",
    picture TEXT,
    PRIMARY KEY (app_id, meeting_id, id)
);
CREATE UNIQUE INDEX participants_custom_id
    ON participants (app_id, meeting_id, custom_participant_id);
CREATE INDEX participants_search_name
    ON participants (app_id, meeting_id, search_name, id) WHERE search_name IS NOT NULL;

-- How many rows a scope holds: a meeting's participants, an app's meetings.
-- A lane is nearly a connection's own (its process id modulo 64), so that writers
-- seldom wait for each other; the count is the sum over lanes of added minus removed.
CREATE TABLE tallies (
    app_id UUID NOT NULL,
    scope UUID NOT NULL,
    lane BIGINT NOT NULL,
    added BIGINT NOT NULL,
    removed BIGINT NOT NULL,
    PRIMARY KEY (app_id, scope, lane)
);

-- What a deleted app or meeting leaves behind, until the sweeper has removed it.
-- The nil meeting stands for the whole app.
CREATE TABLE purges (
    app_id UUID NOT NULL,
    meeting_id UUID NOT NULL,
    passes BIGINT NOT NULL,
    due BIGINT NOT NULL,
    PRIMARY KEY (app_id, meeting_id)
);
CREATE INDEX purges_due ON purges (due);

-- First answers to requests that carried an Idempotency-Key. The reply is sealed
-- under a key that only the caller's own secret opens.
CREATE TABLE idempotency_keys (
    token_id UUID NOT NULL,
    key TEXT COLLATE "C" NOT NULL,
    fingerprint BYTEA NOT NULL,
    reply BYTEA NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (token_id, key)
);
CREATE INDEX idempotency_keys_created_at ON idempotency_keys (created_at);

-- Ed25519 keys that sign join tokens. One is current (1); the others (NULL) are
-- retired and still verify.
CREATE TABLE signing_keys (
    id TEXT NOT NULL,
    current BIGINT,
    secret BYTEA NOT NULL,
    public BYTEA NOT NULL,
    created_at BIGINT NOT NULL,
    retired_at BIGINT,
    PRIMARY KEY (id)
);
CREATE UNIQUE INDEX signing_keys_current ON signing_keys (current);
