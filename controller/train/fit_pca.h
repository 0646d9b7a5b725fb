/* Directions by principal components, as in representation engineering (arXiv 2310.01405) and repeng. */
#ifndef CONTROLLER_TRAIN_FIT_PCA_H
#define CONTROLLER_TRAIN_FIT_PCA_H

#include "controller/train/fit_directions.h"

/* Replaces the D of every layer, in directions that hold pairs, by the first principal component of the differences of
 * each prompt's refusing and answering state, of the length of D; and fills explained, the share of the differences'
 * squares that it holds. There is no E then.
 *
 * The components are about zero, not about the mean of the differences: that mean is what refusing adds, and a
 * component about it would hold only how prompts differ in it. It is what repeng calls pca_center, up to the sign; its
 * pca_diff subtracts the mean. The sign is that of most prompts: more of them have a larger projection when they are
 * refused. Of equally many, that of D. */
int tt_fit_pca(struct tt_fit_directions *directions, struct tt_error *err);

#endif
