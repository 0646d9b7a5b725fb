/* Keys: tt_ and 256 random bits, shown once and kept as a SHA-256. A key belongs to a person and has roles. */
#ifndef CONTROLLER_GOVERN_KEY_H
#define CONTROLLER_GOVERN_KEY_H

#include "controller/govern/store.h"

enum { TT_MAX_KEYS = 65536, TT_KEY_BYTES = 3 + 64 + 1 };

struct tt_key {
	char id[TT_MAX_KEY_ID + 1], person[TT_MAX_PERSON + 1];
	uint8_t digest[32];
	uint32_t roles;
	enum tt_choice_right steer;
	int64_t expires; /* Unix time; 0: never */
	/* Limits; 0: none. Requests at once; tokens of prompts and answers within a minute and a day; tokens that one
	 * body may come to, its prompts and all its choices at their longest. */
	uint32_t requests, minute_tokens, day_tokens, body_tokens;
};

struct tt_keys {
	struct tt_key *list; // [n]
	size_t n;
};

/* Those that are neither revoked nor expired. */
int tt_keys_read(struct tt_keys *out, struct tt_database *db, int64_t now, struct tt_error *err);
void tt_keys_free(struct tt_keys *keys);
/* Whose digest it is, or NULL; in a time that does not say how much of one was right. */
const struct tt_key *tt_keys_find_digest(const struct tt_keys *keys, const uint8_t digest[32], int64_t now);

/* Who holds the key of this text. A refusal where nobody does. */
int tt_actor_find(struct tt_actor *out, struct tt_store *store, const char *key, struct tt_error *err);
/* Whether the actor's key is still what it was; within a transaction. A store without any key lets its first one be
 * added by nobody. */
int tt_key_check(struct tt_store *store, const struct tt_actor *actor, enum tt_right right, struct tt_error *err);

#endif
