-- What is known of a next hop beyond its rows. Only suspended destinations have one while the daemon runs, and those whose limit was
-- learned while it is stopped: a dead destination with 100,000 messages costs one row written for each suspension.
CREATE TABLE destination (
    key               TEXT PRIMARY KEY,     -- as recipient.destination
    suspended_until   REAL NOT NULL,        -- nothing is tried before; 0: not suspended
    suspensions       INTEGER NOT NULL,     -- in a row: how far the waits have grown
    learned_limit     INTEGER NOT NULL,     -- jobs at once that it bore; 0: not learned
    code              INTEGER NOT NULL,     -- reply that suspended it; 0: none heard
    status            TEXT NOT NULL,
    reason            TEXT NOT NULL         -- its text, or what went wrong
) WITHOUT ROWID;
