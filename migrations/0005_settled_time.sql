-- The time by which old files were deleted last, Unix milliseconds: the next process compares its clock
-- with it, since nothing that a wrong clock deletes comes back.
ALTER TABLE file_storage ADD COLUMN settled_at BIGINT;
