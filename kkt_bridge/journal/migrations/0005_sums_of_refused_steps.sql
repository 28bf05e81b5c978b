-- What a step tells of the sale itself. A receipt that was taken has these in its own row; a request that was refused
-- has no row, so its step carries what could be read of it.
ALTER TABLE steps ADD COLUMN type TEXT;
ALTER TABLE steps ADD COLUMN total INTEGER;
ALTER TABLE steps ADD COLUMN received_ms INTEGER;
