#include "controller/govern/log_proof.h"

#include <inttypes.h>
#include <string.h>

#include "base/fail.h"
#include "base/hex.h"
#include "base/json.h"

static json_t *hash_json(const struct tt_hash *hash)
{
	char text[65];
	tt_hex(text, hash, sizeof *hash);
	return json_string(text);
}

static int add_proof(json_t *out, struct tt_log *log, uint64_t seq, struct tt_error *err)
{
	struct tt_buffer note = {0};
	struct tt_proof proof;
	uint64_t size;
	const struct tt_tree_reader reader = tt_log_reader(log);
	int status = tt_log_last_checkpoint(log, &note, &size, err);
	bool covers = status == TT_OK && seq < size;
	if (covers)
		status = tt_tree_prove_inclusion(&proof, &reader, seq, size, err);
	if (covers && status == TT_OK) {
		json_t *list = json_array();
		for (uint32_t i = 0; i < proof.n; i++)
			json_array_append_new(list, hash_json(&proof.hashes[i]));
		status = tt_json_set(out, "proof", list, err);
	}
	if (status == TT_OK && !covers)
		status = tt_json_set(out, "proof", json_null(), err);
	if (status == TT_OK)
		status = tt_json_set(out, "checkpoint", covers ? json_string(note.data) : json_null(), err);
	tt_buffer_free(&note);
	return status;
}

static int read_entry(json_t *out, struct tt_log *log, uint64_t seq, struct tt_error *err)
{
	struct tt_buffer body = {0};
	struct tt_log_place place;
	int status = tt_log_read(log, seq, &body, &place, err);
	if (status == TT_OK)
		status = tt_json_set(out, "entry", json_stringn(body.data, body.len), err);
	if (status == TT_OK)
		status = tt_json_set(out, "leaf", hash_json(&place.leaf), err);
	tt_buffer_free(&body);
	return status;
}

int tt_log_prove(json_t **out, struct tt_log *log, uint64_t seq, struct tt_error *err)
{
	struct tt_tree tree;
	TT_TRY(tt_log_tree(log, &tree, err));
	if (seq >= tree.size)
		return tt_fail(err, TT_ERR_ARGUMENT, "the log has no entry %" PRIu64, seq);
	*out = json_pack("{s:I}", "seq", (json_int_t)seq);
	int status = *out ? read_entry(*out, log, seq, err) : tt_fail(err, TT_ERR_MEMORY, "out of memory");
	if (status == TT_OK)
		status = add_proof(*out, log, seq, err);
	if (status != TT_OK) {
		json_decref(*out);
		*out = NULL;
	}
	return status;
}

static bool read_hashes(struct tt_proof *out, const json_t *list)
{
	out->n = 0;
	if (!json_is_array(list) || json_array_size(list) > TT_PROOF_HASHES)
		return false;
	for (; out->n < json_array_size(list); out->n++) {
		const json_t *text = json_array_get(list, out->n);
		if (!json_is_string(text) ||
			!tt_hex_parse(out->hashes[out->n].bytes, 32, json_string_value(text), json_string_length(text)))
			return false;
	}
	return true;
}

int tt_log_check_proof(
	const json_t *proof, const struct tt_verifier *verifier, struct tt_checkpoint *checkpoint, struct tt_error *err)
{
	struct tt_hasher hasher;
	struct tt_hash leaf;
	struct tt_proof hashes;
	struct tt_entry_head head;
	const json_t *entry = json_object_get(proof, "entry"), *note = json_object_get(proof, "checkpoint");
	if (!json_is_string(entry) || !json_is_string(note) || !read_hashes(&hashes, json_object_get(proof, "proof")))
		return tt_fail(err, TT_ERR_FORMAT, "this is no proof: entry, proof and checkpoint are needed");
	TT_TRY(tt_checkpoint_open(checkpoint, json_string_value(note), json_string_length(note), verifier, err));
	TT_TRY(tt_entry_parse(&head, json_string_value(entry), json_string_length(entry), err));
	TT_TRY(tt_hasher_open(&hasher, err));
	tt_hash_leaf(&hasher, &leaf, json_string_value(entry), json_string_length(entry));
	bool holds = tt_tree_check_inclusion(&hasher, &hashes, head.seq, checkpoint->size, &leaf, &checkpoint->root);
	tt_hasher_close(&hasher);
	if (!holds)
		return tt_fail(err, TT_ERR_FORMAT, "the entry is not in the log of the checkpoint");
	return TT_OK;
}
