/* The principal components of weighted rows, by randomised subspace iteration on their Gram matrix. */
#ifndef CONTROLLER_NUMERICS_PCA_H
#define CONTROLLER_NUMERICS_PCA_H

#include "controller/numerics/gram.h"

enum { TT_MAX_COMPONENTS = 512 };

/* A row is projected to projection (x - mean). projection[c][j] * divisor[j] of gram.h, as a vector over j, is the
 * component c of the standardised rows: these are orthogonal to each other, all of one length, and their largest number
 * is positive. That length makes the projected rows, which have mean 0, vary by 1 in the mean over the components. */
struct tt_pca {
	size_t k, d;       /* fewer components than asked for if the rows span no more */
	float *projection; // [k][d] by descending variance
	float *mean;       // [d]
	double *variance;  // [k] of the projected rows
};

/* k: 1 to TT_MAX_COMPONENTS. Components whose variances are close to one another can be mixed, also with those after
 * the k-th. Memory: 16 (k + 64) bytes a row and 4 KiB a feature. */
int tt_pca_fit(struct tt_pca **out, struct tt_gram *gram, size_t k, struct tt_error *err);
void tt_pca_free(struct tt_pca *pca);

/* out [rows->n][k] = the rows, of d features, projected. */
int tt_pca_project(const struct tt_pca *pca, const struct tt_rows *rows, float *out, struct tt_error *err);

#endif
