-- When a breakout room was removed; NULL while people can be moved to it. The row stays, so that
-- the room's meeting is deleted with its parent.
ALTER TABLE connected_meetings ADD COLUMN removed_at BIGINT;
CREATE INDEX connected_meetings_open ON connected_meetings (app_id, parent_id, meeting_id)
    WHERE removed_at IS NULL;
