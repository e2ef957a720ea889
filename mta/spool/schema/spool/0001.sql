-- The spool of one shard. Files of this folder are applied in the order of their numbers, each in one transaction with
-- meta.schema_version; a file, once released, is never changed: a change of the schema is a new file.
--
-- Times are wall-clock seconds since the epoch. IDs are 63-bit integers that name one thing for ever (mta/mail/identifiers.py);
-- they grow, so that rows are appended and a batch touches few pages. A null reverse-path has both its parts empty.
-- Columns with the content stand last: SQLite reads a row's overflow pages only as far as it is asked for columns.

CREATE TABLE message (
    id                INTEGER PRIMARY KEY,  -- made before the commit; tells the shard and the time of its making
    kind              TEXT NOT NULL,        -- relay, submission, report, local: how it came
    reverse_local     TEXT NOT NULL,        -- MAIL FROM, de-quoted local part; two columns, so that no row is ever parsed
    reverse_domain    TEXT NOT NULL,        --   and a search for a domain compares for equality
    received_at       REAL NOT NULL,        -- end of data
    expires_at        REAL NOT NULL,        -- what is still queued then, fails with 4.4.7
    size              INTEGER NOT NULL,     -- octets of header + empty line + body
    envid             TEXT NOT NULL,        -- ENVID of MAIL, for its reports (RFC 3461 section 4.4)
    ret               TEXT NOT NULL,        -- FULL, HDRS or '': what a report returns (RFC 3461 section 4.3)
    not_before        REAL NOT NULL,        -- undo window or FUTURERELEASE; 0: none
    needs_utf8        INTEGER NOT NULL,     -- 1: the next hop must speak SMTPUTF8; computed from the message, not declared
    has_8bit          INTEGER NOT NULL,     -- 1: the next hop must speak 8BITMIME; computed
    max_line          INTEGER NOT NULL,     -- octets of the longest line, without CRLF
    requiretls        INTEGER NOT NULL,     -- 1: REQUIRETLS was given (RFC 8689)
    auth_param        TEXT NOT NULL,        -- AUTH= of MAIL, as far as it was trusted (RFC 4954 section 5)
    client_ip         TEXT NOT NULL,        -- the peer; '' for our own reports
    client_port       INTEGER NOT NULL,
    helo              TEXT NOT NULL,        -- what the peer called itself: its word
    authcid           TEXT NOT NULL,        -- who proved a password
    authzid           TEXT NOT NULL,        -- on whose behalf
    mechanism         TEXT NOT NULL,        -- SASL mechanism
    tls               TEXT NOT NULL,        -- version and cipher; '' for clear text
    protocol          TEXT NOT NULL,        -- RFC 3848 keyword of the Received field
    listener          TEXT NOT NULL,        -- name in the configuration that accepted it
    message_id        TEXT NOT NULL,        -- the Message-ID field, for searching
    sha256            BLOB NOT NULL,        -- of the content as accepted; checked whenever it is read back
    cause_message     INTEGER NOT NULL,     -- a report: the message that it speaks of
    cause_recipient   INTEGER NOT NULL,     --   and the recipient; 0 else
    config_generation INTEGER NOT NULL,     -- settings that accepted it
    body_file         TEXT,                 -- a large body: its file, relative to the shard's directory; NULL: it is in body
    body_octets       INTEGER NOT NULL,     -- octets of the body, wherever it is
    header            BLOB NOT NULL,        -- header section with its last CRLF, without the empty line
    body              BLOB                  -- NULL when body_file names it
);

-- Which body files are anybody's, for the start; rows with the body in them pay nothing.
CREATE INDEX message_body_file ON message (body_file) WHERE body_file IS NOT NULL;

CREATE TABLE recipient (
    id                INTEGER PRIMARY KEY,
    message           INTEGER NOT NULL,
    parent            INTEGER NOT NULL,     -- recipient that it was expanded from; 0: named by the client
    local             TEXT NOT NULL,        -- final address, de-quoted local part
    domain            TEXT NOT NULL,
    original          TEXT NOT NULL,        -- as RCPT had it, before any rewriting
    orcpt             TEXT NOT NULL,        -- ORCPT, for reports (RFC 3461 section 4.2)
    notify            INTEGER NOT NULL,     -- NOTIFY: bits 1 NEVER, 2 SUCCESS, 4 FAILURE, 8 DELAY
    reverse_local     TEXT,                 -- another reverse-path than the message's (lists); NULL: the message's
    reverse_domain    TEXT,
    state             INTEGER NOT NULL,     -- 0 queued; terminal: 1 delivered 2 relayed 3 failed 4 expanded 5 discarded 6 removed
    held              INTEGER NOT NULL,     -- 1: nothing is tried until it is released
    uncertain         INTEGER NOT NULL,     -- 1: a peer may have taken it although we did not hear it say so
    priority          INTEGER NOT NULL,     -- -9 .. 9
    destination       TEXT NOT NULL,        -- key of the next hop
    route_generation  INTEGER NOT NULL,     -- of the routing tables that chose it
    next_attempt      REAL NOT NULL,        -- due from then on
    attempts          INTEGER NOT NULL,     -- tries that ended, recoveries after a crash counted
    delay_reported_at REAL NOT NULL,        -- when a delay report was sent; 0: none
    last_code         INTEGER NOT NULL,     -- reply of the last try; 0: none heard
    last_status       TEXT NOT NULL,
    last_text         TEXT NOT NULL,
    owner             INTEGER NOT NULL,     -- boot (lease holder) that works on it; 0: nobody. Another boot's: in flight at a crash
    lease_until       REAL NOT NULL,        -- then anybody may take it
    token             INTEGER NOT NULL      -- fencing: grows when a claim is made or ends; an old one settles nothing
);

-- The recipients of a message.
CREATE INDEX recipient_message ON recipient (message);

-- What waits for a try, and nothing else: a message that is delivered at once is born claimed and never enters it, so the
-- common path pays nothing. Read by loose scans: each (destination, priority) costs two seeks, however long its queue is.
CREATE INDEX recipient_waiting ON recipient (destination, priority, next_attempt, message)
    WHERE state = 0 AND held = 0 AND owner = 0;

CREATE INDEX recipient_held ON recipient (message) WHERE state = 0 AND held = 1;

-- Append-only. No index but its key: four search indexes made each message cost 46 KiB of WAL. The history has them.
CREATE TABLE journal (
    message   INTEGER NOT NULL,
    seq       INTEGER NOT NULL,             -- grows; its first value of a boot is an ID, so it is greater than any before
    at        REAL NOT NULL,
    kind      TEXT NOT NULL,                -- mta.spool.contract.Event
    recipient INTEGER NOT NULL,             -- 0: the whole message
    data      TEXT,                         -- JSON object; NULL: {}. For 'accepted' and 'queued' rows: see mta/spool/journal.py
    PRIMARY KEY (message, seq)
) WITHOUT ROWID;

CREATE TABLE meta (
    schema_version INTEGER NOT NULL,        -- number of the last file applied
    shard          INTEGER NOT NULL,        -- the shard that this database is; a copy to another shard's place is refused
    marker         TEXT NOT NULL,           -- the same as in the spool's markers/: tells an emptied spool from a new one
    high_water     INTEGER NOT NULL         -- no ID above it was ever stored; reserved ahead in blocks, see mta/spool/sqlite.py
);
