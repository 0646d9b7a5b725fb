/* What a gate sees of the prompts of a fit: h at the last prompt token, its mean over the user's last message, or both,
 * after the observed layers, as one vector (x_c of kernels/steer.h) a prompt. */
#ifndef CONTROLLER_TRAIN_FIT_FEATURES_H
#define CONTROLLER_TRAIN_FIT_FEATURES_H

#include "controller/train/activation_file.h"
#include "controller/train/detector.h"
#include "controller/train/fit_rows.h"
#include "kernels/steer_slot.h"
#include "runtime/engine/pump.h"

enum { TT_N_FOLDS = 5, TT_N_GATE_LAYERS = 3 };

/* What is wanted of which rows. */
struct tt_fit_features_spec {
	const struct tt_fit_row *const *rows; // [n_rows]
	size_t n_rows;
	size_t n_plain;         /* the last of them: plain text, of the others' prompts and of texts */
	const uint32_t *layers; // [n_layers] ascending; a policy takes at most TT_MAX_POOLED of them with a mean
	uint32_t n_layers;
	enum tt_gate_pool pool;          /* a mean is over the row's [mean_from, mean_to) */
	struct tt_activation_file *file; /* what earlier fits read, which is not run again; or NULL */
};

struct tt_fit_features {
	uint32_t *observed; // [n_observed] ascending
	uint32_t n_observed;
	enum tt_gate_pool pool;
	size_t n, d;                     /* n: the rows of the spec, in its order */
	size_t n_plain;                  /* the last ones, which train and are not judged by */
	const struct tt_prompt **prompt; // [n]
	float *x;                        // [n][d]
	bool *harmful;                   // [n] borderline rows should be answered, so they are not
	double *weight;                  // [n] mean 1; see tt_fit_weigh
	uint8_t *fold;                   // [n] below TT_N_FOLDS
	char sha256[65]; /* SHA-256 of the checksums of all vectors, in the order of x (tt_activation_seal) */
	size_t n_run;    /* rows that the model ran; the others were read from the file */
};

/* Fills layers, ascending, with those that a gate reads if nothing else is asked for; returns how many there are: fewer
 * in a model of few layers. */
uint32_t tt_fit_gate_layers(uint32_t n_layers, uint32_t layers[TT_N_GATE_LAYERS]);

/* Reads a row from the spec's file if that has all that is wanted of it, runs the other rows through the model, and
 * adds to the file what it lacks. x has the same bits whatever the file had. The rows' prompts must stay; the spec need
 * not. TT_ERR_UNSUPPORTED where h holds what is no number. */
int tt_fit_features_make(struct tt_fit_features *out, const struct tt_fit_features_spec *spec, struct tt_engine *engine,
	struct tt_progress *progress, struct tt_error *err);
void tt_fit_features_free(struct tt_fit_features *features);

/* The rows in the template: the first so many of all, by which a gate is judged. */
static inline size_t tt_fit_n_rated(const struct tt_fit_features *features)
{
	return features->n - features->n_plain;
}

/* Fills weight. The rows of one label and origin (file and source) count as the root of their number, so that a large
 * set does not drown a small one, texts as a set of their own, and plain rows a quarter of that; then harmful and other
 * rows count the same. */
int tt_fit_weigh(struct tt_fit_features *features, struct tt_error *err);
/* Fills order [n] with the indexes of the rows as they stand in the files, which have the order of the options. */
int tt_fit_order(const struct tt_fit_features *features, size_t *order, struct tt_error *err);
/* Fills fold: short blocks of a file's rows take turns, since rows beside each other are often related. Rows of one
 * prompt are in one fold. */
int tt_fit_assign_folds(struct tt_fit_features *features, struct tt_error *err);
/* Whether without any one of the folds rows of both labels remain. */
bool tt_fit_folds_are_possible(const struct tt_fit_features *features);

#endif
