-- One day of the history: messages that came to their end on that day (UTC), with their recipients and journal, without content.
-- The columns are those of the spool (schema/spool/0001.sql explains them) less what only a queue needs.

CREATE TABLE message (
    id INTEGER PRIMARY KEY, kind TEXT NOT NULL, reverse_local TEXT NOT NULL, reverse_domain TEXT NOT NULL,
    received_at REAL NOT NULL, expires_at REAL NOT NULL, size INTEGER NOT NULL, envid TEXT NOT NULL, ret TEXT NOT NULL,
    not_before REAL NOT NULL, needs_utf8 INTEGER NOT NULL, has_8bit INTEGER NOT NULL, max_line INTEGER NOT NULL,
    requiretls INTEGER NOT NULL, auth_param TEXT NOT NULL, client_ip TEXT NOT NULL, client_port INTEGER NOT NULL,
    helo TEXT NOT NULL, authcid TEXT NOT NULL, authzid TEXT NOT NULL, mechanism TEXT NOT NULL, tls TEXT NOT NULL,
    protocol TEXT NOT NULL, listener TEXT NOT NULL, message_id TEXT NOT NULL, sha256 BLOB NOT NULL,
    cause_message INTEGER NOT NULL, cause_recipient INTEGER NOT NULL, config_generation INTEGER NOT NULL
);

CREATE TABLE recipient (
    id INTEGER PRIMARY KEY, message INTEGER NOT NULL, parent INTEGER NOT NULL, local TEXT NOT NULL, domain TEXT NOT NULL,
    original TEXT NOT NULL, orcpt TEXT NOT NULL, notify INTEGER NOT NULL, reverse_local TEXT, reverse_domain TEXT,
    state INTEGER NOT NULL, held INTEGER NOT NULL, uncertain INTEGER NOT NULL, priority INTEGER NOT NULL,
    destination TEXT NOT NULL, route_generation INTEGER NOT NULL, next_attempt REAL NOT NULL, attempts INTEGER NOT NULL,
    delay_reported_at REAL NOT NULL, last_code INTEGER NOT NULL, last_status TEXT NOT NULL, last_text TEXT NOT NULL,
    owner INTEGER NOT NULL, lease_until REAL NOT NULL, token INTEGER NOT NULL
);
CREATE INDEX recipient_message ON recipient (message);

CREATE TABLE journal (
    message INTEGER NOT NULL, seq INTEGER NOT NULL, at REAL NOT NULL, kind TEXT NOT NULL, recipient INTEGER NOT NULL,
    data TEXT, PRIMARY KEY (message, seq)
) WITHOUT ROWID;

-- What a message is found by, in lower case: addresses (sender, recipients, originals), Message-ID, queue IDs of next hops.
CREATE TABLE term (
    term    TEXT NOT NULL,
    message INTEGER NOT NULL,
    PRIMARY KEY (term, message)
) WITHOUT ROWID;

CREATE TABLE meta (schema_version INTEGER NOT NULL);
