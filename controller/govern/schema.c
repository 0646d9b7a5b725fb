#include "controller/govern/schema.h"

#include <stddef.h>

/* Facts about the store itself. */
static const char settings[] =
	"CREATE TABLE setting (name TEXT PRIMARY KEY, value ANY NOT NULL) STRICT, WITHOUT ROWID;";

/* The audit log: entries until they are sealed; hashes for ever (level 0 in log_leaf, which also says what an entry
 * ends, the others in log_node); the tree as the next entry needs it; what has begun and not ended; checkpoints. */
static const char audit_log[] =
	"CREATE TABLE log_leaf (seq INTEGER PRIMARY KEY, hash BLOB NOT NULL, begin INTEGER) STRICT;"
	"CREATE UNIQUE INDEX log_leaf_begin ON log_leaf (begin) WHERE begin IS NOT NULL;"
	"CREATE TABLE log_entry (seq INTEGER PRIMARY KEY, body BLOB NOT NULL) STRICT;"
	"CREATE TABLE log_node (level INTEGER NOT NULL, n INTEGER NOT NULL, hash BLOB NOT NULL, PRIMARY KEY (level, "
	"n)) "
	"STRICT, WITHOUT ROWID;"
	"CREATE TABLE log_head (id INTEGER PRIMARY KEY, size INTEGER NOT NULL, roots BLOB NOT NULL, prev BLOB NOT "
	"NULL, "
	"at INTEGER NOT NULL) STRICT;"
	"CREATE TABLE log_open (begin INTEGER PRIMARY KEY) STRICT;"
	"CREATE TABLE log_checkpoint (size INTEGER PRIMARY KEY, at INTEGER NOT NULL, note TEXT NOT NULL) STRICT;";

/* What the log has commitments to, where it can be erased. day: the name of the key that `keys` is wrapped by; of a
 * date the generation that is in force. */
static const char payloads[] =
	"CREATE TABLE log_payload (begin INTEGER PRIMARY KEY, day TEXT NOT NULL, owner TEXT NOT NULL, at INTEGER NOT "
	"NULL, "
	"keys BLOB NOT NULL, request BLOB, result BLOB) STRICT;"
	"CREATE TABLE log_day (date TEXT PRIMARY KEY, generation INTEGER NOT NULL) STRICT, WITHOUT ROWID;";

/* Who may do what. */
static const char keys[] =
	"CREATE TABLE key (id TEXT PRIMARY KEY, person TEXT NOT NULL, digest BLOB NOT NULL UNIQUE, roles INTEGER NOT "
	"NULL, steer INTEGER NOT NULL, expires INTEGER NOT NULL, requests INTEGER NOT NULL, minute_tokens INTEGER NOT "
	"NULL, day_tokens INTEGER NOT NULL, body_tokens INTEGER NOT NULL, created INTEGER NOT NULL, revoked INTEGER "
	"NOT NULL) STRICT;";

/* Policies: files by their SHA-256; what people said of them; labels; default stacks; the kill switch, of the policy
 * '' for all; and every change, for who looks without reading the log. */
static const char policies[] =
	"CREATE TABLE policy_file (sha256 TEXT PRIMARY KEY, bytes BLOB NOT NULL) STRICT;"
	"CREATE TABLE version (policy TEXT NOT NULL, sha256 TEXT NOT NULL REFERENCES policy_file, state INTEGER NOT "
	"NULL, author TEXT NOT NULL, editor TEXT NOT NULL, submitter TEXT NOT NULL, approver TEXT NOT NULL, least REAL "
	"NOT NULL, most REAL NOT NULL, floor REAL, reason TEXT, parent TEXT, report TEXT, created INTEGER NOT NULL, "
	"changed INTEGER NOT NULL, PRIMARY KEY (policy, sha256)) STRICT, WITHOUT ROWID;"
	"CREATE TABLE label (policy TEXT NOT NULL, label TEXT NOT NULL, sha256 TEXT NOT NULL, mover TEXT NOT NULL, "
	"moved INTEGER NOT NULL, PRIMARY KEY (policy, label), FOREIGN KEY (policy, sha256) REFERENCES version) STRICT, "
	"WITHOUT ROWID;"
	"CREATE TABLE stack (number INTEGER PRIMARY KEY, state INTEGER NOT NULL, author TEXT NOT NULL, approver TEXT "
	"NOT NULL, content TEXT NOT NULL, reason TEXT, created INTEGER NOT NULL, changed INTEGER NOT NULL) STRICT;"
	"CREATE TABLE kill (policy TEXT PRIMARY KEY, at INTEGER NOT NULL, person TEXT NOT NULL) STRICT, WITHOUT ROWID;"
	"CREATE TABLE change (id INTEGER PRIMARY KEY, at INTEGER NOT NULL, kind TEXT NOT NULL, policy TEXT, person "
	"TEXT "
	"NOT NULL, key TEXT NOT NULL, fields TEXT NOT NULL, seq INTEGER NOT NULL) STRICT;";

const char *const tt_schema[] = {settings, keys, policies, audit_log, payloads, NULL};
