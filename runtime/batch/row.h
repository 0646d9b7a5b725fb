/* A row of a batch: a line of the input, under one case of the sweep, becomes a line of the output. */
#ifndef RUNTIME_BATCH_ROW_H
#define RUNTIME_BATCH_ROW_H

#include "runtime/batch/ids.h"
#include "base/lines.h"
#include "runtime/batch/sweep.h"
#include "runtime/openai/response.h"

/* What all rows of a job share. */
struct tt_batch_job {
	struct tt_engine *engine;
	const struct tt_batch_options *options;
	struct tt_named_policies policies;
	struct tt_sweep sweep;
	bool one_baseline; /* the sweep has one case of scale 0, where it would have one for each policy */
	int64_t created;
};

/* A line of the input, as far as it could be read. */
struct tt_input {
	json_t *json; /* NULL if it is no JSON; error says why */
	json_t *body; /* the request's: the line's own, or made from a row of id and prompt */
	char *custom_id;
	char sha256[65]; /* of the line's number and its bytes */
	uint64_t number, seed;
	enum tt_endpoint endpoint;
	bool plain;       /* a row of id and prompt */
	bool repeats;     /* an earlier line has its id */
	const char *code; /* OpenAI's name for the error; NULL: none */
	struct tt_error error;
};

struct tt_row {
	uint64_t number; /* over the whole job */
	char *custom_id; /* with the sweep's suffix; NULL if the line has none */
	size_t n_own;    /* bytes of it without the suffix */
	char id[25];
	const char *swept_policy; /* of the sweep's case; NULL without a sweep */
	float swept_scale;
	struct tt_api_request body;
	struct tt_choice *choices; // [n_choices]
	uint32_t n_choices, n_submitted, n_taken;
	bool done, is_error;
	struct tt_buffer line, telemetry; /* filled when it is done */
	size_t n_prompt, n_generated;
};

/* Reads the present line. Errors of the line go to out->code and out->error; the call itself fails only if memory runs
 * out. ids: those of the lines before. */
int tt_input_read(struct tt_input *out, const struct tt_batch_job *job, const struct tt_lines *lines,
	struct tt_ids_seen *ids, struct tt_error *err);
void tt_input_free(struct tt_input *input);

/* How tokens are drawn for rows that do not say. plain: a row of id and prompt. */
struct tt_sampling tt_row_sampling(const struct tt_batch_options *options, bool plain, uint64_t seed);

/* Reads what the row asks for; row is zeroed before. A row that cannot be answered is done at once; an error that is
 * returned is the job's, not the row's. */
int tt_row_start(struct tt_row *row, const struct tt_batch_job *job, const struct tt_input *input,
	const struct tt_sweep_case *sweep, struct tt_error *err);
/* Submits the next of its n_choices requests. If the engine refuses it, the row is done and *request is NULL. */
int tt_row_submit(struct tt_row *row, struct tt_request **request, const struct tt_batch_job *job,
	const struct tt_input *input, struct tt_error *err);
/* Takes over the next of its requests, which is finished. After the last one the row is done and they are freed. */
int tt_row_take(struct tt_row *row, struct tt_request *request, const struct tt_batch_job *job, struct tt_error *err);
void tt_row_free(struct tt_row *row);

#endif
