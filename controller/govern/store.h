/* The store: policies, labels, keys and the kill switch in one database, changed by commands (command.h) alone. */
#ifndef CONTROLLER_GOVERN_STORE_H
#define CONTROLLER_GOVERN_STORE_H

#include <jansson.h>

#include "controller/govern/database.h"
#include "controller/govern/log.h"
#include "controller/govern/rights.h"

enum { TT_MAX_NAME = 64, TT_MAX_KEY_ID = 64, TT_MAX_PERSON = 128, TT_MAX_REASON = 2000 };

/* Why a command was refused, beside its error. */
enum tt_refusal {
	TT_REFUSED_INPUT,   /* or not refused at all */
	TT_REFUSED_RIGHT,   /* the person or key may not */
	TT_REFUSED_UNKNOWN, /* there is no such policy, version, label or key */
	TT_REFUSED_STATE,   /* not in the state that things are in */
};

/* Who commands. */
struct tt_actor {
	char key[TT_MAX_KEY_ID + 1], person[TT_MAX_PERSON + 1];
	uint32_t roles;
};

struct tt_store {
	struct tt_database db;
	struct tt_log log;
	char *directory;
	enum tt_refusal refusal; /* of the last command */
};

int tt_store_open(struct tt_store *store, const char *directory, enum tt_database_mode mode, struct tt_error *err);
void tt_store_close(struct tt_store *store);

/* Notes why and returns the code that fits, with a message. */
int tt_refuse(struct tt_store *store, enum tt_refusal refusal, struct tt_error *err, const char *format, ...)
	__attribute__((format(printf, 4, 5)));

/* Names of policies and labels: 1 to 64 letters, digits, '.', '_' and '-'. */
bool tt_name_is_valid(const char *name);
/* A name of a person as it is kept: without spaces around it, one between its words. False where it is empty, too long
 * or holds what a terminal would obey. */
bool tt_person_read(char out[TT_MAX_PERSON + 1], const char *text);
/* Whether two names are one person's: whatever the case of their ASCII letters. */
bool tt_person_is(const char *a, const char *b);

#endif
