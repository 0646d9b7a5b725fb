/* Suites whose tests end in every way that a GPU's can, for test_runner.sh. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "tests/gpu/device.h"
#include "tests/twin.h"

static bool left_an_error;

bool tt_suite_device(void)
{
	printf("planted\n");
	return true;
}

bool tt_suite_clean(void)
{
	if (left_an_error)
		printf("note: the device is left with an error\n");
	return !left_an_error;
}

static void say_process(void)
{
	printf("note: process %d\n", (int)getpid());
}

Test(planted, first)
{
	say_process();
	fprintf(stderr, "noise on stderr\n");
	tt_suite_measure("error", 1e-6, 1e-5);
	tt_suite_measure("error", 3e-6, 1e-5);
	tt_suite_measure("error", 2e-6, 1e-5);
}

Test(planted, shares_a_process)
{
	say_process();
}

Test(planted, has_wrong_values)
{
	float got[2000];
	double want[2000];
	for (int i = 0; i < 2000; i++) {
		want[i] = i;
		got[i] = (float)i + (i % 16 == 3 ? 100.0f : 0.0f);
	}
	twin_check_f32("values", got, want, 2000);
}

Test(planted, runs_after_a_failure)
{
	say_process();
}

Test(planted, has_wrong_bits)
{
	const unsigned got[] = {1, 2, 0xdeadbeef, 4}, want[] = {1, 2, 3, 4};
	cr_expect(false, "goes on");
	cr_assert_arr_eq(got, want, sizeof got);
}

Test(planted, hangs)
{
	printf("before the hang\n");
	fflush(stdout);
	for (;;)
		pause();
}

Test(planted, crashes)
{
	raise(SIGSEGV);
}

Test(planted, skips)
{
	cr_skip_test("nothing to see here");
}

Test(planted, leaves_an_error)
{
	left_an_error = true;
	say_process();
}

Test(planted, is_clean_again)
{
	say_process();
	cr_assert_not(left_an_error);
}

Test(planted, ends_its_process)
{
	exit(0);
}

Test(planted, says_too_much)
{
	for (int i = 0; i < 100000; i++)
		printf("line %d of too many\n", i);
	cr_assert(false, "the end");
}

Test(other, suite)
{
	say_process();
}
