#include "controller/govern/in_force.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/fail.h"
#include "controller/govern/query.h"

static int read_labels(struct tt_in_force *out, struct tt_store *store, struct tt_error *err)
{
	struct tt_query q;
	size_t capacity = 0;
	TT_TRY(tt_query_open(&q, &store->db,
		"SELECT policy, label, sha256 FROM label ORDER BY policy, label <> 'production', label", TT_SQL_NONE,
		err));
	while (q.status == TT_OK && tt_query_next(&q, err)) {
		const char *label = tt_query_text(&q, 1);
		q.status = tt_name_is_valid(label)
				   ? tt_grow(&out->labels, &capacity, out->n_labels + 1, sizeof *out->labels, err)
				   : tt_fail(err, TT_ERR_FORMAT, "%s has a label that is none", store->db.path);
		if (q.status != TT_OK)
			break;
		struct tt_labelled *entry = &out->labels[out->n_labels];
		*entry = (struct tt_labelled){0};
		memcpy(entry->label, label, strlen(label));
		q.status = tt_version_find(&entry->version, store, tt_query_text(&q, 0), tt_query_text(&q, 2), err);
		if (q.status == TT_OK && entry->version.state != TT_APPROVED)
			q.status = tt_fail(
				err, TT_ERR_FORMAT, "%s has a label on a version that is not approved", store->db.path);
		out->n_labels++;
	}
	return tt_query_close(&q);
}

static int read_kills(struct tt_in_force *out, struct tt_store *store, struct tt_error *err)
{
	struct tt_query q;
	size_t capacity = 0;
	TT_TRY(tt_query_open(&q, &store->db, "SELECT policy FROM kill ORDER BY policy", TT_SQL_NONE, err));
	while (q.status == TT_OK && tt_query_next(&q, err)) {
		const char *policy = tt_query_text(&q, 0);
		if (!*policy) {
			out->all_killed = true;
		} else if (tt_name_is_valid(policy)) {
			q.status = tt_grow(&out->killed, &capacity, out->n_killed + 1, sizeof *out->killed, err);
			if (q.status == TT_OK)
				memcpy(out->killed[out->n_killed++], policy, strlen(policy) + 1);
		}
	}
	return tt_query_close(&q);
}

static int read_all(struct tt_in_force *out, struct tt_store *store, struct tt_error *err)
{
	TT_TRY(read_labels(out, store, err));
	TT_TRY(read_kills(out, store, err));
	TT_TRY(tt_stack_read(&out->stack, store, err));
	TT_TRY(tt_keys_read(&out->keys, &store->db, (int64_t)time(NULL), err));
	int64_t n;
	TT_TRY(tt_sql_integer(&store->db, "SELECT count(*) FROM key", TT_SQL_NONE, &n, err));
	out->has_keys = n > 0;
	return tt_last_change(&out->change, store, err);
}

int tt_last_change(int64_t *out, struct tt_store *store, struct tt_error *err)
{
	return tt_sql_integer(&store->db, "SELECT coalesce(max(id), 0) FROM change", TT_SQL_NONE, out, err);
}

int tt_in_force_read(struct tt_in_force *out, struct tt_store *store, struct tt_error *err)
{
	*out = (struct tt_in_force){0};
	TT_TRY(tt_database_begin_read(&store->db, err));
	int status = tt_database_end(&store->db, read_all(out, store, err), err);
	if (status != TT_OK)
		tt_in_force_free(out);
	return status;
}

bool tt_in_force_is_killed(const struct tt_in_force *force, const char *policy)
{
	for (size_t i = 0; i < force->n_killed; i++)
		if (strcmp(force->killed[i], policy) == 0)
			return true;
	return false;
}

void tt_in_force_free(struct tt_in_force *force)
{
	free(force->labels);
	free(force->killed);
	tt_keys_free(&force->keys);
	*force = (struct tt_in_force){0};
}
