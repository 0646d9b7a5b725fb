/* Runs the tests that a program has, and says what became of each. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include "criterion/criterion.h"

static struct {
	struct arm_test *first, **last;
	jmp_buf end;
	bool failed, skipped;
} all;

void arm_add(struct arm_test *test)
{
	struct arm_test **last = all.last ? all.last : &all.first;
	*last = test;
	all.last = &test->next;
}

void arm_check(bool holds, bool fatal, const char *file, int line, const char *what, const char *format, ...)
{
	va_list arguments;
	if (holds)
		return;
	all.failed = true;
	printf("%s:%d: not so: %s.", file, line, what);
	va_start(arguments, format);
	vprintf(format, arguments);
	va_end(arguments);
	putchar('\n');
	if (fatal)
		longjmp(all.end, 1);
}

void arm_skip(const char *format, ...)
{
	va_list arguments;
	all.skipped = true;
	va_start(arguments, format);
	vprintf(format, arguments);
	va_end(arguments);
	putchar('\n');
	longjmp(all.end, 1);
}

static void run(const struct arm_test *test)
{
	all.failed = all.skipped = false;
	if (setjmp(all.end) == 0)
		test->run();
	printf("%s %s\n", all.failed ? "FAILED" : all.skipped ? "skipped" : "passed", test->name);
	fflush(stdout);
}

int main(void)
{
	int n_failed = 0, n_run = 0;
	for (struct arm_test *test = all.first; test; test = test->next) {
		run(test);
		n_failed += all.failed;
		n_run += !all.skipped;
	}
	printf("%d tests, %d failed\n", n_run, n_failed);
	return n_failed > 0 || n_run == 0;
}
