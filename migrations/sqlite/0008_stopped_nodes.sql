-- When a node that ended in order said so. It counts until the node is heard of again: a node of the version before
-- does not take it back.
ALTER TABLE nodes ADD COLUMN stopped_at INTEGER;
