-- What happens while people are in a meeting: sessions, who was in them, what was
-- said, and what a room must find again after a crash. Times are Unix milliseconds,
-- durations milliseconds.

-- One live run of a meeting. Its id is a version 7 UUID of its start, so the order of
-- ids is the order of starts. `consumed_ms` counts the stays that have ended; `writes`
-- tells the first write of a row from the later ones.
CREATE TABLE sessions (
    app_id UUID NOT NULL,
    id UUID NOT NULL,
    meeting_id UUID NOT NULL,
    title TEXT NOT NULL,
    started_at BIGINT NOT NULL,
    ended_at BIGINT,
    live BIGINT NOT NULL,
    peak BIGINT NOT NULL,
    total BIGINT NOT NULL,
    consumed_ms BIGINT NOT NULL,
    writes BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    PRIMARY KEY (app_id, id)
);
CREATE INDEX sessions_meeting ON sessions (app_id, meeting_id, id);
CREATE INDEX sessions_consumed ON sessions (app_id, consumed_ms, id);
CREATE INDEX sessions_daily ON sessions (app_id, started_at, consumed_ms);
-- A meeting has one live session at most, whoever runs it.
CREATE UNIQUE INDEX sessions_live ON sessions (app_id, meeting_id) WHERE ended_at IS NULL;

-- One client in a session. The client chose its id.
CREATE TABLE session_peers (
    app_id UUID NOT NULL,
    session_id UUID NOT NULL,
    peer_id UUID NOT NULL,
    meeting_id UUID NOT NULL,
    participant_id UUID NOT NULL,
    preset_id UUID NOT NULL,
    created_at BIGINT NOT NULL,
    joined_at BIGINT NOT NULL,
    entered_at BIGINT NOT NULL,
    left_at BIGINT,
    consumed_ms BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    view_type TEXT NOT NULL,
    preset_name TEXT NOT NULL,
    custom_participant_id TEXT COLLATE "C" NOT NULL,
    name TEXT,
    picture TEXT,
    PRIMARY KEY (app_id, session_id, peer_id)
);
CREATE INDEX session_peers_joined ON session_peers (app_id, session_id, joined_at, peer_id);
CREATE INDEX session_peers_inside
    ON session_peers (app_id, session_id, entered_at) WHERE left_at IS NULL;

-- What was said. Ids are version 7 UUIDs of the time it was said. `targets` holds the
-- participants it was for, 16 bytes each, and is empty when it was for everybody.
CREATE TABLE chat_messages (
    app_id UUID NOT NULL,
    meeting_id UUID NOT NULL,
    id UUID NOT NULL,
    session_id UUID NOT NULL,
    peer_id UUID NOT NULL,
    participant_id UUID NOT NULL,
    kind BIGINT NOT NULL,
    pinned BOOLEAN NOT NULL,
    edited BOOLEAN NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    targets BYTEA NOT NULL,
    name TEXT NOT NULL,
    payload TEXT NOT NULL,
    PRIMARY KEY (app_id, meeting_id, id)
);
CREATE INDEX chat_messages_session ON chat_messages (app_id, session_id, id);

-- Polls, stores, who was let in, who is on the stage: whatever else must survive a
-- crash of the server, until the session ends.
CREATE TABLE session_entries (
    app_id UUID NOT NULL,
    session_id UUID NOT NULL,
    kind TEXT COLLATE "C" NOT NULL,
    key TEXT COLLATE "C" NOT NULL,
    value BYTEA NOT NULL,
    PRIMARY KEY (app_id, session_id, kind, key)
);

-- Processes that ran rooms and when they were last alive. An id is a version 7 UUID
-- of the start of the process.
CREATE TABLE servers (
    id UUID NOT NULL,
    alive_at BIGINT NOT NULL,
    PRIMARY KEY (id)
);

-- Breakout rooms: each is a meeting of its own.
CREATE TABLE connected_meetings (
    app_id UUID NOT NULL,
    parent_id UUID NOT NULL,
    meeting_id UUID NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (app_id, parent_id, meeting_id)
);
CREATE UNIQUE INDEX connected_meetings_meeting ON connected_meetings (app_id, meeting_id);
