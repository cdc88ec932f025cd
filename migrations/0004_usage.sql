-- How much is stored, in bytes, and which files there are.

-- Bytes of files and of chat messages of a meeting; of a whole app, where the meeting is
-- nil; of everything, where the app is nil too. The sum over lanes counts. Lane -1 is for
-- what uploads reserve, one at a time; the others are as in `tallies`.
CREATE TABLE usage (
    app_id UUID NOT NULL,
    meeting_id UUID NOT NULL,
    lane BIGINT NOT NULL,
    file_bytes BIGINT NOT NULL,
    chat_bytes BIGINT NOT NULL,
    PRIMARY KEY (app_id, meeting_id, lane)
);

-- A file of a chat. The row is there before the bytes are, and goes after them. While it is
-- being written `stored_at` is NULL and `bytes` is what was reserved for it. `process` wrote
-- it (see `servers`); it is nil for files that were found in the storage without a row.
CREATE TABLE files (
    app_id UUID NOT NULL,
    meeting_id UUID NOT NULL,
    id UUID NOT NULL,
    process UUID NOT NULL,
    bytes BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    stored_at BIGINT,
    PRIMARY KEY (app_id, meeting_id, id)
);
CREATE INDEX files_stored ON files (stored_at);
CREATE INDEX files_unfinished ON files (process) WHERE stored_at IS NULL;

-- One row. Uploads take their turn at it, so that of those on all nodes each sees what the
-- others have reserved. `counted_at` is when the storage was last compared with `files`.
CREATE TABLE file_storage (
    id BIGINT NOT NULL,
    turn BIGINT NOT NULL,
    counted_at BIGINT,
    PRIMARY KEY (id)
);
INSERT INTO file_storage (id, turn) VALUES (1, 0);

-- What a message counts for in `usage`, and by how much the last write has changed that.
-- 0 bytes: it was written by an older version and was not counted yet.
ALTER TABLE chat_messages ADD COLUMN bytes BIGINT NOT NULL DEFAULT 0;
ALTER TABLE chat_messages ADD COLUMN grown BIGINT NOT NULL DEFAULT 0;
CREATE INDEX chat_messages_uncounted ON chat_messages (app_id, meeting_id) WHERE bytes = 0;
