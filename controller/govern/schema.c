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

const char *const tt_schema[] = {settings, audit_log, payloads, NULL};
