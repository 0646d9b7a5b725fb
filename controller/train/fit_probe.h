/* Linear probes as gates. */
#ifndef CONTROLLER_TRAIN_FIT_PROBE_H
#define CONTROLLER_TRAIN_FIT_PROBE_H

#include "controller/train/fit_gate.h"
#include "controller/train/fit_rows.h"
#include "runtime/engine/pump.h"

enum { TT_PROBE_LAYERS = 3 };

/* p = sigmoid(w.x + b). x is h at the last prompt token; if several layers are observed, their h concatenated. */
struct tt_probe {
	uint32_t observed[TT_PROBE_LAYERS], n_observed; /* ascending */
	float *w;                                       // [n_observed * hidden_size]
	float b, threshold;
};

struct tt_fit_probes {
	struct tt_probe *probes;   // [gates.n] ascending by the last observed layer
	struct tt_fit_gates gates; /* gates.gates[k] is that of probes[k] */
	/* The logits that each probe gives rows that it was not trained on: the val rows and, if these are few, then
	 * the train rows, each by a probe that was trained without its fold. */
	float *held_logits[TT_N_LABELS]; // [gates.n][gates.n_held]
};

/* Trains a probe for each layer from a fifth to two thirds of the model, and one over three of them. The threshold of
 * each lets it flag at most the share max_false_positives of the benign rows. */
int tt_fit_probes_train(struct tt_fit_probes *out, struct tt_engine *engine, const struct tt_fit_rows *rows,
	float max_false_positives, struct tt_progress *progress, struct tt_error *err);
void tt_fit_probes_free(struct tt_fit_probes *probes);

#endif
