/* As much of Criterion as the tests of the kernels use, so that they can be built for another processor without its
 * packages: every test of a program runs in turn, in one process. */
#ifndef TESTS_ARM_CRITERION_H
#define TESTS_ARM_CRITERION_H

#include <math.h>
#include <stdbool.h>
#include <string.h>

struct arm_test {
	const char *name;
	void (*run)(void);
	struct arm_test *next;
};
void arm_add(struct arm_test *test);

/* Says what is wrong where it does not hold; fatal: ends the test. */
void arm_check(bool holds, bool fatal, const char *file, int line, const char *what, const char *format, ...)
	__attribute__((format(printf, 6, 7)));
void arm_skip(const char *format, ...) __attribute__((noreturn, format(printf, 1, 2)));

#define Test(suite, test, ...)                                                                                         \
	static void suite##_##test(void);                                                                              \
	static struct arm_test suite##_##test##_row = {#suite "/" #test, suite##_##test, NULL};                        \
	static void __attribute__((constructor)) suite##_##test##_add(void)                                            \
	{                                                                                                              \
		arm_add(&suite##_##test##_row);                                                                        \
	}                                                                                                              \
	static void suite##_##test(void)

#define ARM_CHECK(fatal, holds, what, ...) arm_check(holds, fatal, __FILE__, __LINE__, what, " " __VA_ARGS__)
#define cr_assert(holds, ...) ARM_CHECK(true, holds, #holds, __VA_ARGS__)
#define cr_expect(holds, ...) ARM_CHECK(false, holds, #holds, __VA_ARGS__)
#define cr_assert_not(holds, ...) ARM_CHECK(true, !(holds), "not " #holds, __VA_ARGS__)
#define cr_assert_eq(a, b, ...) ARM_CHECK(true, (a) == (b), #a " == " #b, __VA_ARGS__)
#define cr_expect_eq(a, b, ...) ARM_CHECK(false, (a) == (b), #a " == " #b, __VA_ARGS__)
#define cr_assert_lt(a, b, ...) ARM_CHECK(true, (a) < (b), #a " < " #b, __VA_ARGS__)
#define cr_assert_leq(a, b, ...) ARM_CHECK(true, (a) <= (b), #a " <= " #b, __VA_ARGS__)
#define cr_assert_gt(a, b, ...) ARM_CHECK(true, (a) > (b), #a " > " #b, __VA_ARGS__)
#define cr_assert_float_eq(a, b, bound, ...)                                                                           \
	ARM_CHECK(true, fabs((double)(a) - (double)(b)) <= (double)(bound), #a " near " #b, __VA_ARGS__)
#define cr_expect_arr_eq(a, b, n, ...) ARM_CHECK(false, memcmp(a, b, n) == 0, #a " equals " #b, __VA_ARGS__)
#define cr_skip_test arm_skip

#endif
