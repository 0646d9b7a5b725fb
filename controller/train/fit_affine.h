/* A map of low rank from the answering to the refusing states of a layer, in closed form, for the operation of LoReFT
 * (arXiv 2404.03592), which trains the same form by gradients: h' = h + c R^T (W h + b - R h). */
#ifndef CONTROLLER_TRAIN_FIT_AFFINE_H
#define CONTROLLER_TRAIN_FIT_AFFINE_H

#include "controller/train/fit_directions.h"

/* Fills the maps of directions that hold pairs. The rows of R are the leading principal components, about zero, of the
 * differences of each prompt's refusing state y and answering state x. Within that subspace the change is fitted by
 * ridge regression: the sum over prompts of |A R x + b - R (y - x)|^2, plus penalty * s / rank * |A|^2, is least; s is
 * the sum of squares of R x about its mean, and b is not penalised. W = R + A R. So the larger the penalty, the closer
 * the map is to adding what the differences have in common. It is the one of 1 to 10000 with the least error where each
 * of the four responses is held out in turn: held-out prompts would tell nothing, since on other prompts the same
 * response ends in nearly the same states. Where the differences span less than rank, rows are zero and map nothing. */
int tt_fit_affine(struct tt_fit_directions *directions, uint32_t rank, struct tt_error *err);

#endif
