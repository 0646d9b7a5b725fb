/* A perceptron of two layers, z = fc2 relu(fc1 x + bias1) + bias2, and its training by AdamW. */
#ifndef CONTROLLER_NUMERICS_MLP_H
#define CONTROLLER_NUMERICS_MLP_H

#include <stdint.h>

#include "controller/numerics/gram.h"
#include "controller/numerics/pca.h"

/* The members lie one after the other in one array, which fc1 begins. */
struct tt_mlp {
	size_t d, units, outputs;
	float *fc1;   // [units][d]
	float *bias1; // [units]
	float *fc2;   // [outputs][units]
	float *bias2; // [outputs]
};

enum tt_mlp_loss {
	TT_MLP_SQUARED, /* (z - target)^2 */
	TT_MLP_LOGISTIC /* log loss of sigmoid(z), for a target from 0 to 1 */
};

enum tt_mlp_order {
	TT_MLP_SHUFFLED, /* every epoch in an order of its own */
	TT_MLP_GIVEN,    /* the first batch is the first rows, in every epoch */
	TT_MLP_DRAWN     /* each row of each batch is drawn by the rows' weights, whatever was drawn before */
};

/* What the first and the second half of the rows are to each other. They are shuffled apart where they are kinds. */
enum tt_mlp_halves {
	TT_MLP_ALIKE,   /* nothing */
	TT_MLP_IN_TURN, /* two kinds that take turns, row by row: a batch of an even size has as many of both */
	TT_MLP_APART    /* two kinds: in every epoch all batches of the first, then all of the second, none with both */
};

struct tt_mlp_options {
	size_t epochs, batch; /* an epoch ends with what is left for its last batch, but drawn batches are all whole */
	double learning_rate, weight_decay, beta1, beta2, epsilon;
	double clip_norm;     /* a longer gradient is shortened to this length; 0: none is */
	double input_dropout; /* this share of the features is 0 in a step, the others are larger by as much; below 1 */
	enum tt_mlp_loss loss;
	size_t n_targets; /* only the first outputs, so many, have targets and this loss; 0: all */
	/* The loss of the others, on rows whose first target is above a half: pull * (|w - 1/2| + w / 100), where w is
	 * the sigmoid of the output; its mean is added. 0: they have none. */
	double pull;
	enum tt_mlp_order order;
	enum tt_mlp_halves halves; /* needs an even number of rows, that are not drawn, unless they are alike */
	uint64_t seed;             /* of the order and the dropout */
	/* Called after each step with user; an error of it ends the training. NULL: nothing is. */
	int (*after_step)(void *user, struct tt_error *err);
	void *user;
};

struct tt_mlp_data {
	struct tt_rows rows; /* weights multiply the rows' losses, but if batches are drawn by them */
	const float *target; // [rows.n][n_targets, or outputs if that is 0]
};

/* All weights 0. */
int tt_mlp_open(struct tt_mlp **out, size_t d, size_t units, size_t outputs, struct tt_error *err);
void tt_mlp_close(struct tt_mlp *mlp);

/* Weights and biases spread as those of a new torch.nn.Linear: evenly, 1 / sqrt(inputs of the layer) to each side of
 * 0. */
void tt_mlp_start(struct tt_mlp *mlp, uint64_t seed);

/* PyTorch's defaults of AdamW; 30 epochs of shuffled batches of 64, squared error, no clipping, no dropout. */
void tt_mlp_options_default(struct tt_mlp_options *options);

/* How many steps a training takes, saturated. */
size_t tt_mlp_n_steps(size_t n_rows, const struct tt_mlp_options *options);

/* Trains from the weights that mlp has. A step's loss is the mean over a batch's rows and outputs, before the step;
 * losses [tt_mlp_n_steps()] (may be NULL) gets it. Decay is decoupled, and of biases too, as PyTorch's; so it is all
 * that happens to the weights of an output without a loss.
 * TT_ERR_FORMAT when a loss or a gradient is no longer finite. */
int tt_mlp_train(struct tt_mlp *mlp, const struct tt_mlp_data *data, const struct tt_mlp_options *options,
	double *losses, struct tt_error *err);

/* z [rows->n][outputs] of each row; weights are not looked at. */
int tt_mlp_run(const struct tt_mlp *mlp, const struct tt_rows *rows, float *z, struct tt_error *err);

/* The perceptron on rows as they are that gives what mlp gives on their projections. */
int tt_mlp_unproject(struct tt_mlp **out, const struct tt_mlp *mlp, const struct tt_pca *pca, struct tt_error *err);

#endif
