/* The part of Criterion's interface that the suites use which run on a GPU, so that the machine there needs no
 * Criterion: the same sources are a Criterion program in CI and part of gpu-suites (runner.c) there. */
#ifndef TESTS_GPU_CRITERION_H
#define TESTS_GPU_CRITERION_H

#include <math.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>

#ifdef __cplusplus
extern "C" {
#endif

struct tt_suite_options {
	void (*init)(void), (*fini)(void);
	double timeout; /* seconds; 0: the runner's */
};

struct tt_suite_test {
	const char *suite, *name;
	void (*run)(void);
	struct tt_suite_options options;
	struct tt_suite_test *next;
};

void tt_suite_add(struct tt_suite_test *test);

/* Says what did not hold, with the test's own message (format may be empty), and marks the test as failed; fatal: ends
 * it. */
void tt_suite_failed(bool fatal, const char *file, int line, const char *what, const char *format, ...);
__attribute__((noreturn)) void tt_suite_skip(const char *format, ...);

/* More than Criterion has, for those who read the log of a machine that is gone; twin.h asks for it by this name. */
#define TT_SUITE_VALUES
/* The largest value of that name in a test, beside its bound: said of a test that passed, too. */
void tt_suite_measure(const char *what, double value, double bound);
/* Which elements differ by more than near, with what they are and should be; and words that differ. */
void tt_suite_values(const char *what, const double *got, const double *want, size_t n, double near);
void tt_suite_bytes(const char *what, const void *got, const void *want, size_t n_bytes);

#ifdef __cplusplus
}
#endif

#define Test(suite_, name_, ...)                                                                                       \
	static void suite_##_##name_(void);                                                                            \
	static struct tt_suite_test suite_##_##name_##_test = {                                                        \
		#suite_, #name_, suite_##_##name_, {__VA_ARGS__}, NULL};                                               \
	__attribute__((constructor)) static void suite_##_##name_##_add(void)                                          \
	{                                                                                                              \
		tt_suite_add(&suite_##_##name_##_test);                                                                \
	}                                                                                                              \
	static void suite_##_##name_(void)

/* Each takes a message after its operands, or none: the empty one at the end is then the message. */
#define TT_SUITE_CHECK(fatal, condition, what, ...)                                                                    \
	do {                                                                                                           \
		if (!(condition))                                                                                      \
			tt_suite_failed(fatal, __FILE__, __LINE__, what, __VA_ARGS__);                                 \
	} while (0)
#define TT_SUITE_ONE(fatal, a, ...) TT_SUITE_CHECK(fatal, (a), #a, __VA_ARGS__)
#define TT_SUITE_NOT(fatal, a, ...) TT_SUITE_CHECK(fatal, !(a), "not " #a, __VA_ARGS__)
#define TT_SUITE_NULL(fatal, a, ...) TT_SUITE_CHECK(fatal, (a) == NULL, #a " is NULL", __VA_ARGS__)
#define TT_SUITE_NOT_NULL(fatal, a, ...) TT_SUITE_CHECK(fatal, (a) != NULL, #a " is not NULL", __VA_ARGS__)
#define TT_SUITE_EMPTY(fatal, a, ...) TT_SUITE_CHECK(fatal, !*(a), #a " is empty", __VA_ARGS__)
#define TT_SUITE_TWO(fatal, op, a, b, ...) TT_SUITE_CHECK(fatal, (a)op(b), #a " " #op " " #b, __VA_ARGS__)
#define TT_SUITE_STRINGS(fatal, a, b, ...) TT_SUITE_CHECK(fatal, strcmp(a, b) == 0, #a " equals " #b, __VA_ARGS__)
#define TT_SUITE_ARRAYS(fatal, a, b, n, ...)                                                                           \
	do {                                                                                                           \
		bool equal_ = memcmp(a, b, n) == 0;                                                                    \
		if (!equal_)                                                                                           \
			tt_suite_bytes(#a, a, b, n);                                                                   \
		TT_SUITE_CHECK(fatal, equal_, #a " equals " #b, __VA_ARGS__);                                          \
	} while (0)
#define TT_SUITE_OTHER_ARRAYS(fatal, a, b, n, ...)                                                                     \
	TT_SUITE_CHECK(fatal, memcmp(a, b, n) != 0, #a " differs from " #b, __VA_ARGS__)
#define TT_SUITE_FLOATS(fatal, a, b, e, ...)                                                                           \
	TT_SUITE_CHECK(fatal, fabs((double)(a) - (double)(b)) <= (double)(e), #a " is near " #b, __VA_ARGS__)

#define cr_assert(...) TT_SUITE_ONE(true, __VA_ARGS__, "")
#define cr_assert_not(...) TT_SUITE_NOT(true, __VA_ARGS__, "")
#define cr_assert_null(...) TT_SUITE_NULL(true, __VA_ARGS__, "")
#define cr_assert_not_null(...) TT_SUITE_NOT_NULL(true, __VA_ARGS__, "")
#define cr_assert_str_empty(...) TT_SUITE_EMPTY(true, __VA_ARGS__, "")
#define cr_assert_eq(...) TT_SUITE_TWO(true, ==, __VA_ARGS__, "")
#define cr_assert_neq(...) TT_SUITE_TWO(true, !=, __VA_ARGS__, "")
#define cr_assert_lt(...) TT_SUITE_TWO(true, <, __VA_ARGS__, "")
#define cr_assert_leq(...) TT_SUITE_TWO(true, <=, __VA_ARGS__, "")
#define cr_assert_gt(...) TT_SUITE_TWO(true, >, __VA_ARGS__, "")
#define cr_assert_geq(...) TT_SUITE_TWO(true, >=, __VA_ARGS__, "")
#define cr_assert_str_eq(...) TT_SUITE_STRINGS(true, __VA_ARGS__, "")
#define cr_assert_arr_eq(...) TT_SUITE_ARRAYS(true, __VA_ARGS__, "")
#define cr_assert_arr_neq(...) TT_SUITE_OTHER_ARRAYS(true, __VA_ARGS__, "")
#define cr_assert_float_eq(...) TT_SUITE_FLOATS(true, __VA_ARGS__, "")
#define cr_assert_fail(...) tt_suite_failed(true, __FILE__, __LINE__, "failed", __VA_ARGS__)

#define cr_expect(...) TT_SUITE_ONE(false, __VA_ARGS__, "")
#define cr_expect_not(...) TT_SUITE_NOT(false, __VA_ARGS__, "")
#define cr_expect_null(...) TT_SUITE_NULL(false, __VA_ARGS__, "")
#define cr_expect_not_null(...) TT_SUITE_NOT_NULL(false, __VA_ARGS__, "")
#define cr_expect_eq(...) TT_SUITE_TWO(false, ==, __VA_ARGS__, "")
#define cr_expect_neq(...) TT_SUITE_TWO(false, !=, __VA_ARGS__, "")
#define cr_expect_lt(...) TT_SUITE_TWO(false, <, __VA_ARGS__, "")
#define cr_expect_leq(...) TT_SUITE_TWO(false, <=, __VA_ARGS__, "")
#define cr_expect_gt(...) TT_SUITE_TWO(false, >, __VA_ARGS__, "")
#define cr_expect_geq(...) TT_SUITE_TWO(false, >=, __VA_ARGS__, "")
#define cr_expect_str_eq(...) TT_SUITE_STRINGS(false, __VA_ARGS__, "")
#define cr_expect_arr_eq(...) TT_SUITE_ARRAYS(false, __VA_ARGS__, "")
#define cr_expect_float_eq(...) TT_SUITE_FLOATS(false, __VA_ARGS__, "")

#define cr_skip_test(...) tt_suite_skip(__VA_ARGS__)

#endif
