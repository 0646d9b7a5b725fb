#include "controller/govern/schema.h"

#include <stddef.h>

/* Facts about the store itself. */
static const char settings[] =
	"CREATE TABLE setting (name TEXT PRIMARY KEY, value ANY NOT NULL) STRICT, WITHOUT ROWID;";

const char *const tt_schema[] = {settings, NULL};
