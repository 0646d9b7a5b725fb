/* Directions by response contrast: D, from answering to refusing or between responses of another kind, and E, from an
 * apology that helps to one that refuses. They are not normalised, since the length of D is how strongly the model
 * itself separates the two. */
#ifndef CONTROLLER_TRAIN_FIT_DIRECTIONS_H
#define CONTROLLER_TRAIN_FIT_DIRECTIONS_H

#include "controller/train/fit_rows.h"
#include "runtime/engine/pump.h"

enum { TT_N_RESPONSES = 4 };

/* Maps from the answering to the refusing states, h + R^T (W h + b - R h); rank 0: there are none. */
struct tt_fit_maps {
	uint32_t rank;
	float *rows, *readers;      // [n_layers][rank][hidden_size] R and W
	float *offsets;             // [n_layers][rank] b
	double *penalties, *errors; // [n_layers] and the share of the squared change missed where held out
};

struct tt_fit_directions {
	uint32_t n_layers, hidden_size;
	uint32_t n_prompts;                    /* of all labels */
	float *response;                       // [n_layers][hidden_size] D
	float *apology;                        // [n_layers][hidden_size] E; NULL: there is D alone
	float *mean_refusing, *mean_answering; // [n_layers][hidden_size] mean states that D leads to, and from; or NULL
	double *norms;                         // [n_layers] |D|
	double *stream_norms; // [n_layers] mean L2 norm of h over the response tokens; NULL: no response was run
	/* The mean state over each prompt's refusing response and over its answering one, if pairs were asked for. */
	float *refusing, *answering; // [n_layers][n_prompts][hidden_size], or NULL
	struct tt_fit_maps maps;     /* fit_affine.h fills them */
	double *explained;           // [n_layers] fit_pca.h fills it; else NULL
};

/* A prompt followed by a response of at least two tokens; both are borrowed. */
struct tt_fit_sequence {
	const struct tt_fit_row *row;
	const int32_t *response; // [n_response]
	size_t n_response;
};

/* The directions of refusals, of the first n_prompts train rows of each label, or of as many as both labels have. */
int tt_fit_directions_make(struct tt_fit_directions *out, struct tt_engine *engine, const struct tt_fit_rows *rows,
	uint32_t n_prompts, bool pairs, struct tt_progress *progress, struct tt_error *err);
/* Which of TT_N_RESPONSES texts of its kind was given to a prompt. */
uint32_t tt_fit_response_of(size_t prompt);
/* The directions of any responses: sequences [n_prompts][n_kinds] has for each prompt what D leads towards and away
 * from, and, if n_kinds is 4 and not 2, the same of E. pairs: keep the states of each prompt, too. */
int tt_fit_directions_between(struct tt_fit_directions *out, struct tt_engine *engine,
	const struct tt_fit_sequence *sequences, uint32_t n_prompts, uint32_t n_kinds, bool pairs,
	struct tt_progress *progress, struct tt_error *err);
void tt_fit_directions_free(struct tt_fit_directions *directions);

/* Writes D + mix * E of a layer to out [hidden_size], scaled back to the length of D, so that pushes along different
 * mixes compare by their coefficients. Mix 0 has the bits of D, and any mix where there is no E. */
void tt_fit_direction(const struct tt_fit_directions *directions, uint32_t layer, double mix, float *out);

#endif
