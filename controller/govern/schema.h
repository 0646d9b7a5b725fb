/* The tables of the store, a text of CREATE statements for each module. A table that changes after a release needs a
 * new number here and a way from the old one in database.c. */
#ifndef CONTROLLER_GOVERN_SCHEMA_H
#define CONTROLLER_GOVERN_SCHEMA_H

enum {
	TT_SCHEMA_APPLICATION = 0x54545354, /* SQLite's application_id: "TTST" */
	TT_SCHEMA_VERSION = 1,              /* SQLite's user_version */
};

/* Ends in NULL. All tables are STRICT. */
extern const char *const tt_schema[];

#endif
