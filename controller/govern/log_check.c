#include "controller/govern/log_check.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/fail.h"
#include "controller/govern/bundle.h"
#include "controller/govern/query.h"

static bool take_hash(struct tt_hash *out, const struct tt_query *q, int column)
{
	size_t n;
	const void *data = tt_query_bytes(q, column, &n);
	if (n != sizeof *out)
		return false;
	memcpy(out, data, n);
	return true;
}

static bool same_tree(const struct tt_tree *a, const struct tt_tree *b)
{
	return a->size == b->size && memcmp(a->roots, b->roots, tt_tree_n_roots(a->size) * sizeof *a->roots) == 0;
}

int tt_log_check_tree(struct tt_log *log, struct tt_error *err)
{
	struct tt_tree tree = {0}, head;
	struct tt_query q;
	struct tt_hash leaf;
	int status = TT_OK;
	TT_TRY(tt_log_tree(log, &head, err));
	TT_TRY(tt_query_open(&q, log->db, "SELECT seq, hash FROM log_leaf ORDER BY seq", TT_SQL_NONE, err));
	while (status == TT_OK && tt_query_next(&q, err)) {
		if ((uint64_t)tt_query_integer(&q, 0) != tree.size || !take_hash(&leaf, &q, 1))
			break;
		status = tt_tree_append(&tree, &log->hasher, &leaf, NULL, NULL, err);
	}
	int closed = tt_query_close(&q);
	if (status != TT_OK || closed != TT_OK)
		return status != TT_OK ? status : closed;
	if (!same_tree(&tree, &head))
		return tt_fail(err, TT_ERR_FORMAT,
			"%s is damaged: the hashes of the log's entries are not those of its head; audit verify says "
			"where",
			log->db->path);
	return TT_OK;
}

void tt_log_report_chain(struct tt_log_report *report, const struct tt_entry_chain *chain)
{
	report->n_entries = chain->size;
	report->n_open = chain->n_open;
	if (chain->size)
		tt_log_date(report->last, chain->head.at);
}

/* ---- Everything */

struct check {
	struct tt_log *log;
	const struct tt_verifier *verifier;
	struct tt_log_report *report;
	struct tt_tree tree;
	struct tt_entry_chain chain;
	uint64_t size;
	struct tt_bundle bundle;
	uint64_t bundled; /* the index of the bundle; UINT64_MAX: none */

	struct tt_query checkpoints;
	bool has_checkpoint; /* the next one */
	struct tt_checkpoint checkpoint, held;
	bool holds;
	uint64_t n_nodes;
};

static int fail_entry(const struct check *c, const char *what, struct tt_error *err)
{
	return tt_fail(err, TT_ERR_FORMAT, "entry %" PRIu64 ": %s", c->tree.size, what);
}

static int check_node(void *user, uint32_t level, uint64_t index, const struct tt_hash *hash, struct tt_error *err)
{
	struct check *c = user;
	struct tt_query q;
	struct tt_hash stored = {{0}};
	c->n_nodes++;
	TT_TRY(tt_query_open(&q, c->log->db, "SELECT hash FROM log_node WHERE level = ? AND n = ?",
		TT_SQL(tt_integer(level), tt_integer((int64_t)index)), err));
	bool good = tt_query_next(&q, err) && take_hash(&stored, &q, 0) && tt_hash_equal(&stored, hash);
	TT_TRY(tt_query_close(&q));
	if (!good)
		return tt_fail(
			err, TT_ERR_FORMAT, "hash %" PRIu64 " of level %u is not that of its entries", index, level);
	return TT_OK;
}

/* What it ends stands beside the entry too, so that the end of a begin can be found. */
static int check_begun(const struct check *c, const struct tt_query *q, struct tt_error *err)
{
	const struct tt_entry_head *head = &c->chain.head;
	if (tt_query_is_null(q, 2) != head->ends && (!head->ends || (uint64_t)tt_query_integer(q, 2) == head->begin))
		return TT_OK;
	return tt_fail(err, TT_ERR_FORMAT, "entry %" PRIu64 ": what it ends is stored as another", head->seq);
}

static int find_body(struct check *c, const struct tt_query *q, const char **body, size_t *n, struct tt_error *err)
{
	uint64_t seq = c->tree.size, index = seq / TT_TILE_WIDTH;
	*body = tt_query_bytes(q, 3, n);
	if (!tt_query_is_null(q, 3))
		return TT_OK;
	if (c->bundled != index) {
		c->bundled = index;
		TT_TRY(tt_log_read_bundle(c->log, &c->bundle, index, err));
	}
	*body = tt_bundle_entry(&c->bundle, (uint32_t)(seq % TT_TILE_WIDTH), n);
	c->report->n_sealed++;
	return TT_OK;
}

static int check_entry(struct check *c, const struct tt_query *q, struct tt_error *err)
{
	struct tt_hash stored, leaf;
	const char *body;
	size_t n;
	if ((uint64_t)tt_query_integer(q, 0) != c->tree.size)
		return fail_entry(c, "it is missing", err);
	if (!take_hash(&stored, q, 1))
		return fail_entry(c, "its hash is no hash", err);
	TT_TRY(find_body(c, q, &body, &n, err));
	tt_hash_leaf(&c->log->hasher, &leaf, body, n);
	if (!tt_hash_equal(&leaf, &stored))
		return fail_entry(c, "it is not what was hashed", err);
	TT_TRY(tt_entry_chain_add(&c->chain, body, n, &leaf, err));
	TT_TRY(check_begun(c, q, err));
	return tt_tree_append(&c->tree, &c->log->hasher, &leaf, check_node, c, err);
}

/* ---- Checkpoints, in the order of their sizes, while the tree grows */

static int next_checkpoint(struct check *c, struct tt_error *err)
{
	c->has_checkpoint = tt_query_next(&c->checkpoints, err);
	if (!c->has_checkpoint)
		return c->checkpoints.status;
	const char *note = tt_query_text(&c->checkpoints, 1);
	uint64_t size = (uint64_t)tt_query_integer(&c->checkpoints, 0);
	if (tt_checkpoint_open(&c->checkpoint, note, strlen(note), c->verifier, err) != TT_OK) {
		char name[48];
		snprintf(name, sizeof name, "checkpoint %" PRIu64, size);
		return tt_fail_within(err, name);
	}
	if (c->checkpoint.size != size)
		return tt_fail(err, TT_ERR_FORMAT, "checkpoint %" PRIu64 " is stored as that of %" PRIu64,
			c->checkpoint.size, size);
	return TT_OK;
}

static int check_checkpoints(struct check *c, struct tt_error *err)
{
	struct tt_hash root;
	bool wanted = (c->has_checkpoint && c->checkpoint.size == c->tree.size) ||
		      (c->holds && c->held.size == c->tree.size) || c->tree.size == c->size;
	if (!wanted)
		return TT_OK;
	tt_tree_root(&c->tree, &c->log->hasher, &root);
	c->report->root = root;
	if (c->holds && c->held.size == c->tree.size && !tt_hash_equal(&root, &c->held.root))
		return tt_fail(err, TT_ERR_FORMAT,
			"the log is not a continuation of the checkpoint of %" PRIu64
			" entries: what it held then was changed",
			c->held.size);
	while (c->has_checkpoint && c->checkpoint.size == c->tree.size) {
		if (!tt_hash_equal(&root, &c->checkpoint.root))
			return tt_fail(err, TT_ERR_FORMAT, "checkpoint %" PRIu64 " is not of this log's entries",
				c->checkpoint.size);
		c->report->newest = c->checkpoint;
		c->report->n_checkpoints++;
		TT_TRY(next_checkpoint(c, err));
	}
	return TT_OK;
}

static int check_entries(struct check *c, struct tt_error *err)
{
	struct tt_query q;
	TT_TRY(check_checkpoints(c, err));
	TT_TRY(tt_query_open(&q, c->log->db,
		"SELECT l.seq, l.hash, l.begin, e.body FROM log_leaf l LEFT JOIN log_entry e ON e.seq = l.seq ORDER BY "
		"l.seq",
		TT_SQL_NONE, err));
	int status = TT_OK;
	while (status == TT_OK && tt_query_next(&q, err)) {
		status = check_entry(c, &q, err);
		if (status == TT_OK)
			status = check_checkpoints(c, err);
	}
	int closed = tt_query_close(&q);
	return status != TT_OK ? status : closed;
}

/* ---- What stands beside the entries */

static int check_counts(struct check *c, struct tt_error *err)
{
	int64_t n_nodes, n_bodies, n_open;
	TT_TRY(tt_sql_integer(c->log->db, "SELECT count(*) FROM log_node", TT_SQL_NONE, &n_nodes, err));
	TT_TRY(tt_sql_integer(c->log->db, "SELECT count(*) FROM log_entry", TT_SQL_NONE, &n_bodies, err));
	TT_TRY(tt_sql_integer(c->log->db, "SELECT count(*) FROM log_open", TT_SQL_NONE, &n_open, err));
	if ((uint64_t)n_nodes != c->n_nodes)
		return tt_fail(err, TT_ERR_FORMAT,
			"there are %" PRId64 " hashes of parts of the log instead of %" PRIu64, n_nodes, c->n_nodes);
	if ((uint64_t)n_bodies + c->report->n_sealed != c->tree.size)
		return tt_fail(err, TT_ERR_FORMAT, "there are entries after the last one, %" PRIu64, c->tree.size - 1);
	if ((uint64_t)n_open != c->chain.n_open)
		return tt_fail(err, TT_ERR_FORMAT, "%" PRId64 " requests are stored as running instead of %" PRIu64,
			n_open, c->chain.n_open);
	return TT_OK;
}

static int check_open(struct check *c, struct tt_error *err)
{
	struct tt_query q;
	bool good = true;
	TT_TRY(tt_query_open(&q, c->log->db, "SELECT begin FROM log_open", TT_SQL_NONE, err));
	while (good && tt_query_next(&q, err))
		good = tt_entry_chain_is_open(&c->chain, (uint64_t)tt_query_integer(&q, 0));
	TT_TRY(tt_query_close(&q));
	return good ? TT_OK : tt_fail(err, TT_ERR_FORMAT, "a request that is stored as running is none");
}

static int check_head(struct check *c, struct tt_error *err)
{
	struct tt_query q;
	struct tt_tree head;
	struct tt_hash prev = {{0}};
	int64_t at = 0, n;
	TT_TRY(tt_log_tree(c->log, &head, err));
	TT_TRY(tt_sql_integer(c->log->db, "SELECT count(*) FROM log_head", TT_SQL_NONE, &n, err));
	TT_TRY(tt_query_open(&q, c->log->db, "SELECT prev, at FROM log_head WHERE id = 0", TT_SQL_NONE, err));
	bool good = !tt_query_next(&q, err) || take_hash(&prev, &q, 0);
	if (good && q.status == TT_OK && n)
		at = tt_query_integer(&q, 1);
	TT_TRY(tt_query_close(&q));
	if (!good || n != (c->tree.size > 0) || !same_tree(&head, &c->tree) || !tt_hash_equal(&prev, &c->chain.prev) ||
		(c->tree.size && at != c->chain.head.at))
		return tt_fail(err, TT_ERR_FORMAT, "the head of the log is not that of its entries");
	return TT_OK;
}

static int check_all(struct check *c, const char *held, struct tt_error *err)
{
	int64_t size;
	if (held) {
		if (tt_checkpoint_open(&c->held, held, strlen(held), c->verifier, err) != TT_OK)
			return tt_fail_within(err, "the checkpoint that was given");
		c->holds = true;
	}
	TT_TRY(tt_sql_integer(c->log->db, "SELECT count(*) FROM log_leaf", TT_SQL_NONE, &size, err));
	c->size = (uint64_t)size;
	TT_TRY(tt_entry_chain_open(&c->chain, c->size, err));
	if (c->holds && c->held.size > c->size)
		return tt_fail(err, TT_ERR_FORMAT,
			"the checkpoint that was given has %" PRIu64 " entries and the log %" PRIu64
			": some were removed",
			c->held.size, c->size);
	TT_TRY(tt_query_open(
		&c->checkpoints, c->log->db, "SELECT size, note FROM log_checkpoint ORDER BY size", TT_SQL_NONE, err));
	int status = next_checkpoint(c, err);
	if (status == TT_OK)
		status = check_entries(c, err);
	if (status == TT_OK && c->has_checkpoint)
		status = tt_fail(err, TT_ERR_FORMAT,
			"checkpoint %" PRIu64 " is of more entries than the log has, which are %" PRIu64,
			c->checkpoint.size, c->tree.size);
	int closed = tt_query_close(&c->checkpoints);
	TT_TRY(status);
	TT_TRY(closed);
	TT_TRY(check_counts(c, err));
	TT_TRY(check_open(c, err));
	TT_TRY(check_head(c, err));
	return tt_hasher_check(&c->log->hasher, err);
}

int tt_log_verify(struct tt_log *log, const struct tt_verifier *verifier, const char *held,
	struct tt_log_report *report, struct tt_error *err)
{
	struct check c = {.log = log, .verifier = verifier, .report = report, .bundled = UINT64_MAX};
	*report = (struct tt_log_report){0};
	TT_TRY(tt_database_begin_read(log->db, err));
	int status = check_all(&c, held, err);
	tt_database_end(log->db, TT_ERR_ARGUMENT, NULL); /* nothing was written */
	tt_log_report_chain(report, &c.chain);
	tt_bundle_free(&c.bundle);
	tt_entry_chain_close(&c.chain);
	return status;
}
