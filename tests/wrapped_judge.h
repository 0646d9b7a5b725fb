/* The parts of the judge of a fit that the linker's --wrap lets a test make up: __real_ is the library's own. */
#ifndef TESTS_WRAPPED_JUDGE_H
#define TESTS_WRAPPED_JUDGE_H

#include "controller/train/fit_judge.h"

int __real_tt_fit_generate(struct tt_fit_judge *judge, struct tt_candidate **active, uint32_t n_active,
	uint32_t n_harmful, uint32_t n_benign, const char *stage, struct tt_error *err);
int __wrap_tt_fit_generate(struct tt_fit_judge *judge, struct tt_candidate **active, uint32_t n_active,
	uint32_t n_harmful, uint32_t n_benign, const char *stage, struct tt_error *err);
int __real_tt_fit_score(struct tt_fit_judge *judge, struct tt_candidate **active, uint32_t n_active, const char *stage,
	struct tt_error *err);
int __wrap_tt_fit_score(struct tt_fit_judge *judge, struct tt_candidate **active, uint32_t n_active, const char *stage,
	struct tt_error *err);
void __real_tt_fit_rate(const struct tt_fit_judge *judge, struct tt_candidate *candidate);
void __wrap_tt_fit_rate(const struct tt_fit_judge *judge, struct tt_candidate *candidate);

#endif
