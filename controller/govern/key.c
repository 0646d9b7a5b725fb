#include "controller/govern/key.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/fail.h"
#include "base/hex.h"
#include "base/json.h"
#include "base/memory.h"
#include "base/sha256.h"
#include "controller/govern/command.h"
#include "controller/govern/commitment.h"
#include "controller/govern/query.h"

enum {
	SECONDS_A_DAY = 86400,
	MAX_DAYS = 36500,
	/* Who has one of these decides over others: only who has a role itself may give it away. */
	POWERS = TT_ROLE_EDITOR | TT_ROLE_APPROVER | TT_ROLE_OPERATOR,
};

#define ACTIVE "revoked = 0 AND (expires = 0 OR expires > ?)"

static int read_key(struct tt_key *out, const struct tt_query *q, const struct tt_database *db, struct tt_error *err)
{
	size_t n;
	const void *digest = tt_query_bytes(q, 2, &n);
	const char *id = tt_query_text(q, 0);
	int64_t steer = tt_query_integer(q, 4);
	*out = (struct tt_key){
		.roles = (uint32_t)tt_query_integer(q, 3),
		.steer = (enum tt_choice_right)steer,
		.expires = tt_query_integer(q, 5),
		.requests = (uint32_t)tt_query_integer(q, 6),
		.minute_tokens = (uint32_t)tt_query_integer(q, 7),
		.day_tokens = (uint32_t)tt_query_integer(q, 8),
		.body_tokens = (uint32_t)tt_query_integer(q, 9),
	};
	if (n != sizeof out->digest || !tt_name_is_valid(id) || !tt_steer_word(steer) ||
		!tt_person_read(out->person, tt_query_text(q, 1)))
		return tt_fail(err, TT_ERR_FORMAT, "%s has a key that is none", db->path);
	memcpy(out->digest, digest, n);
	memcpy(out->id, id, strlen(id));
	return TT_OK;
}

int tt_keys_read(struct tt_keys *out, struct tt_database *db, int64_t now, struct tt_error *err)
{
	struct tt_query q;
	size_t capacity = 0;
	*out = (struct tt_keys){0};
	TT_TRY(tt_query_open(&q, db,
		"SELECT id, person, digest, roles, steer, expires, requests, minute_tokens, day_tokens, body_tokens "
		"FROM key WHERE " ACTIVE " ORDER BY id",
		TT_SQL(tt_integer(now)), err));
	while (tt_query_next(&q, err)) {
		if (out->n == TT_MAX_KEYS)
			q.status = tt_fail(err, TT_ERR_LIMIT, "%s: more than %d keys", db->path, TT_MAX_KEYS);
		else
			q.status = tt_grow(&out->list, &capacity, out->n + 1, sizeof *out->list, err);
		if (q.status == TT_OK)
			q.status = read_key(&out->list[out->n], &q, db, err);
		if (q.status != TT_OK)
			break;
		out->n++;
	}
	int status = tt_query_close(&q);
	if (status != TT_OK)
		tt_keys_free(out);
	return status;
}

void tt_keys_free(struct tt_keys *keys)
{
	free(keys->list);
	*keys = (struct tt_keys){0};
}

const struct tt_key *tt_keys_find_digest(const struct tt_keys *keys, const uint8_t digest[32], int64_t now)
{
	const struct tt_key *found = NULL;
	for (size_t i = 0; i < keys->n; i++)
		if (tt_sha256_equal(digest, keys->list[i].digest))
			found = &keys->list[i];
	return found && (found->expires == 0 || found->expires > now) ? found : NULL;
}

int tt_actor_find(struct tt_actor *out, struct tt_store *store, const char *key, struct tt_error *err)
{
	struct tt_keys keys;
	uint8_t digest[32];
	int64_t now = (int64_t)time(NULL);
	*out = (struct tt_actor){0};
	TT_TRY(tt_sha256_bytes(digest, key, strlen(key), err));
	TT_TRY(tt_keys_read(&keys, &store->db, now, err));
	const struct tt_key *found = tt_keys_find_digest(&keys, digest, now);
	if (found) {
		memcpy(out->key, found->id, sizeof out->key);
		memcpy(out->person, found->person, sizeof out->person);
		out->roles = found->roles;
	}
	tt_keys_free(&keys);
	return found ? TT_OK : tt_refuse(store, TT_REFUSED_RIGHT, err, "this key is none of the store's");
}

/* Whether no key was ever added. */
static int is_empty(struct tt_store *store, bool *out, struct tt_error *err)
{
	int64_t n;
	TT_TRY(tt_sql_integer(&store->db, "SELECT count(*) FROM key", TT_SQL_NONE, &n, err));
	*out = n == 0;
	return TT_OK;
}

int tt_key_check(struct tt_store *store, const struct tt_actor *actor, enum tt_right right, struct tt_error *err)
{
	bool empty;
	int64_t n;
	TT_TRY(is_empty(store, &empty, err));
	if (!*actor->key && empty && right == TT_RIGHT_KEYS)
		return TT_OK;
	TT_TRY(tt_sql_integer(&store->db,
		"SELECT count(*) FROM key WHERE id = ? AND person = ? AND roles = ? AND " ACTIVE,
		TT_SQL(tt_text(actor->key), tt_text(actor->person), tt_integer(actor->roles),
			tt_integer((int64_t)time(NULL))),
		&n, err));
	return n == 1 ? TT_OK : tt_refuse(store, TT_REFUSED_RIGHT, err, "a key of the store is needed");
}

/* ---- Commands */

struct new_key {
	struct tt_key key;
	char text[TT_KEY_BYTES], roles[TT_ROLES_BYTES];
};

static int read_limits(struct tt_call *call, struct tt_key *key, struct tt_error *err)
{
	uint32_t days = 0;
	TT_TRY(tt_json_u32(call->arguments, "days", 1, MAX_DAYS, &days, err));
	TT_TRY(tt_json_u32(call->arguments, "requests", 0, 1 << 20, &key->requests, err));
	TT_TRY(tt_json_u32(call->arguments, "minute_tokens", 0, UINT32_MAX, &key->minute_tokens, err));
	TT_TRY(tt_json_u32(call->arguments, "day_tokens", 0, UINT32_MAX, &key->day_tokens, err));
	TT_TRY(tt_json_u32(call->arguments, "body_tokens", 0, UINT32_MAX, &key->body_tokens, err));
	key->expires = days ? call->now + (int64_t)days * SECONDS_A_DAY : 0;
	return TT_OK;
}

static int read_new(struct tt_call *call, struct new_key *out, struct tt_error *err)
{
	const char *person, *roles, *steer;
	bool first;
	*out = (struct new_key){.key = {.steer = TT_STEER_NAMES}};
	TT_TRY(tt_call_text(call, "person", true, &person, err));
	TT_TRY(tt_call_text(call, "roles", true, &roles, err));
	TT_TRY(tt_call_text(call, "steering", false, &steer, err));
	if (!tt_person_read(out->key.person, person))
		return tt_refuse(call->store, TT_REFUSED_INPUT, err, "person must be a name of 1 to 128 bytes");
	if (!tt_roles_parse(roles, &out->key.roles))
		return tt_refuse(call->store, TT_REFUSED_INPUT, err,
			"roles must be of user, reviewer, editor, approver, auditor, operator, with commas");
	if (steer && !tt_steer_parse(steer, &out->key.steer))
		return tt_refuse(call->store, TT_REFUSED_INPUT, err,
			"steering must be default, names or any, not \"%.40s\"", steer);
	TT_TRY(is_empty(call->store, &first, err));
	TT_TRY(read_limits(call, &out->key, err));
	if (first && out->key.expires)
		return tt_refuse(call->store, TT_REFUSED_INPUT, err,
			"the first key must have no end, since nobody could add another then");
	if (first && !(out->key.roles & TT_ROLE_OPERATOR))
		return tt_refuse(call->store, TT_REFUSED_INPUT, err,
			"the first key must have the role operator, since nobody could add another");
	if (!first && (out->key.roles & POWERS & ~call->actor->roles))
		return tt_refuse(call->store, TT_REFUSED_RIGHT, err,
			"who gives the role editor, approver or operator must have it");
	return TT_OK;
}

/* A store with more keys than are read could not be read at all. */
static int check_room(struct tt_call *call, struct tt_error *err)
{
	int64_t n;
	TT_TRY(tt_sql_integer(
		&call->store->db, "SELECT count(*) FROM key WHERE " ACTIVE, TT_SQL(tt_integer(call->now)), &n, err));
	return n < TT_MAX_KEYS
		       ? TT_OK
		       : tt_refuse(call->store, TT_REFUSED_STATE, err, "there are %d keys already", TT_MAX_KEYS);
}

static int key_add(struct tt_call *call, struct tt_error *err)
{
	struct new_key new;
	uint8_t secret[TT_SECRET], id[TT_SECRET];
	TT_TRY(read_new(call, &new, err));
	TT_TRY(check_room(call, err));
	TT_TRY(tt_secret_make(secret, err));
	TT_TRY(tt_secret_make(id, err));
	memcpy(new.text, "tt_", 3);
	tt_hex(new.text + 3, secret, sizeof secret);
	memcpy(new.key.id, "k_", 2);
	tt_hex(new.key.id + 2, id, 4);
	TT_TRY(tt_sha256_bytes(new.key.digest, new.text, strlen(new.text), err));
	const struct tt_key *k = &new.key;
	TT_TRY(tt_sql_run(&call->store->db,
		"INSERT INTO key (id, person, digest, roles, steer, expires, requests, minute_tokens, day_tokens, "
		"body_tokens, created, revoked) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0)",
		TT_SQL(tt_text(k->id), tt_text(k->person), tt_bytes(k->digest, sizeof k->digest), tt_integer(k->roles),
			tt_integer(k->steer), tt_integer(k->expires), tt_integer(k->requests),
			tt_integer(k->minute_tokens), tt_integer(k->day_tokens), tt_integer(k->body_tokens),
			tt_integer(call->now)),
		err));
	tt_roles_text(new.roles, k->roles);
	TT_TRY(tt_call_tell(call, "id", k->id, err));
	TT_TRY(tt_call_tell(call, "for", k->person, err));
	TT_TRY(tt_call_tell(call, "roles", new.roles, err));
	TT_TRY(tt_call_tell(call, "steering", tt_steer_word(k->steer), err));
	return tt_json_set(call->answer, "key", json_string(new.text), err);
}

static int key_list(struct tt_call *call, struct tt_error *err)
{
	struct tt_query q;
	json_t *list = json_array();
	TT_TRY(tt_json_set(call->answer, "keys", list, err));
	TT_TRY(tt_query_open(&q, &call->store->db,
		"SELECT id, person, roles, steer, created, expires, revoked, requests, minute_tokens, day_tokens, "
		"body_tokens FROM key ORDER BY created, id",
		TT_SQL_NONE, err));
	while (q.status == TT_OK && tt_query_next(&q, err)) {
		char roles[TT_ROLES_BYTES];
		const char *steer = tt_steer_word(tt_query_integer(&q, 3));
		int64_t expires = tt_query_integer(&q, 5), revoked = tt_query_integer(&q, 6);
		const char *state = revoked ? "revoked" : expires && expires <= call->now ? "expired" : "active";
		tt_roles_text(roles, (uint32_t)tt_query_integer(&q, 2));
		q.status = tt_call_append(list,
			json_pack("{s:s, s:s, s:s, s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:I}", "id", tt_query_text(&q, 0),
				"person", tt_query_text(&q, 1), "roles", roles, "steering", steer ? steer : "?",
				"state", state, "created", (json_int_t)tt_query_integer(&q, 4), "expires",
				(json_int_t)expires, "requests", (json_int_t)tt_query_integer(&q, 7), "minute_tokens",
				(json_int_t)tt_query_integer(&q, 8), "day_tokens", (json_int_t)tt_query_integer(&q, 9),
				"body_tokens", (json_int_t)tt_query_integer(&q, 10)),
			err);
	}
	return tt_query_close(&q);
}

/* Somebody must be able to add keys, now and for good: an operator whose key has an end is nobody to count on. */
static int check_operators(struct tt_call *call, const char *revoked, struct tt_error *err)
{
	int64_t was, n;
	TT_TRY(tt_sql_integer(&call->store->db, "SELECT count(*) FROM key WHERE id = ? AND roles & ?",
		TT_SQL(tt_text(revoked), tt_integer(TT_ROLE_OPERATOR)), &was, err));
	TT_TRY(tt_sql_integer(&call->store->db,
		"SELECT count(*) FROM key WHERE roles & ? AND revoked = 0 AND expires = 0",
		TT_SQL(tt_integer(TT_ROLE_OPERATOR)), &n, err));
	if (was && n == 0)
		return tt_refuse(call->store, TT_REFUSED_STATE, err,
			"%s is the last key with the role operator that has no end: nobody could add another", revoked);
	return TT_OK;
}

static int key_revoke(struct tt_call *call, struct tt_error *err)
{
	const char *id;
	TT_TRY(tt_call_name(call, "id", true, &id, err));
	TT_TRY(tt_sql_run(&call->store->db, "UPDATE key SET revoked = ? WHERE id = ? AND revoked = 0",
		TT_SQL(tt_integer(call->now), tt_text(id)), err));
	if (tt_sql_changes(&call->store->db) == 0)
		return tt_refuse(call->store, TT_REFUSED_UNKNOWN, err, "there is no key %s that is not revoked", id);
	TT_TRY(check_operators(call, id, err));
	return tt_call_tell(call, "id", id, err);
}

const struct tt_command tt_key_commands[] = {
	{"key/add", "key.add", TT_RIGHT_KEYS,
		{"person", "roles", "steering", "days", "requests", "minute_tokens", "day_tokens", "body_tokens", NULL},
		key_add},
	{"key/list", NULL, TT_RIGHT_KEYS, {NULL}, key_list},
	{"key/revoke", "key.revoke", TT_RIGHT_KEYS, {"id", NULL}, key_revoke},
	{NULL, NULL, TT_RIGHT_KEYS, {NULL}, NULL},
};
