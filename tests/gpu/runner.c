/* Runs the suites that are linked in: each test in a process of its own, since an error on a GPU is final for its
 * process, and with a limit of time. A line a test: pass, skip or FAIL, its name, its seconds, and what it said.
 *
 *     gpu-suites [--list] [--filter SUITE.NAME...]... [--data FOLDER] [--timeout SECONDS]
 *
 * A filter is a pattern as the shell's. Exit 0: nothing failed; 1: something did; 77: there is no device. */
#include <errno.h>
#include <fnmatch.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "tests/gpu/criterion/criterion.h"
#include "tests/gpu/device.h"

enum { MAX_FILTERS = 32, SAID_BYTES = 1500, SKIPPED = 77 };

static struct tt_suite_test *all_tests;
static bool failed; /* the running test, in its own process */

void tt_suite_add(struct tt_suite_test *test)
{
	struct tt_suite_test **at = &all_tests;
	while (*at)
		at = &(*at)->next;
	*at = test;
}

void tt_suite_failed(bool fatal, const char *file, int line, const char *what, const char *format, ...)
{
	va_list args;
	va_start(args, format);
	printf("%s:%d: %s", file, line, what);
	if (*format)
		printf(": ");
	vprintf(format, args);
	va_end(args);
	printf("\n");
	fflush(stdout);
	failed = true;
	if (fatal)
		_exit(1);
}

void tt_suite_skip(const char *format, ...)
{
	va_list args;
	va_start(args, format);
	vprintf(format, args);
	va_end(args);
	fflush(stdout);
	_exit(SKIPPED);
}

static void test_run(const struct tt_suite_test *test)
{
	if (test->options.init)
		test->options.init();
	test->run();
	if (test->options.fini)
		test->options.fini();
}

/* Reads what the process says, the first part of it kept, until it ends or the time is over. False: it had to be
 * ended. */
static bool child_listen(int from, double until, char *said)
{
	size_t n = 0;
	for (;;) {
		char more[4096];
		struct pollfd fd = {from, POLLIN, 0};
		double left = until - tt_now();
		if (left <= 0 || poll(&fd, 1, (int)(left * 1000) + 1) == 0)
			return false;
		ssize_t got = read(from, more, sizeof more);
		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			return true;
		size_t keep = SAID_BYTES - n < (size_t)got ? SAID_BYTES - n : (size_t)got;
		memcpy(said + n, more, keep);
		n += keep;
		said[n] = 0;
	}
}

/* The exit status of run in a process of its own; -1 with a reason in said where it has none. */
static int child_run(void (*run)(const void *), const void *argument, double timeout, char *said)
{
	int ends[2], status;
	said[0] = 0;
	fflush(stdout);
	if (pipe(ends))
		return -1;
	pid_t child = fork();
	if (child < 0)
		return -1;
	if (child == 0) {
		close(ends[0]);
		dup2(ends[1], STDOUT_FILENO);
		dup2(ends[1], STDERR_FILENO);
		failed = false;
		run(argument);
		fflush(stdout);
		_exit(failed);
	}
	close(ends[1]);
	bool ended = child_listen(ends[0], tt_now() + timeout, said);
	if (!ended)
		kill(child, SIGKILL);
	close(ends[0]);
	while (waitpid(child, &status, 0) < 0 && errno == EINTR)
		;
	size_t n = strlen(said);
	if (!ended)
		snprintf(said + n, 64, "not done after %g s\n", timeout);
	else if (WIFSIGNALED(status))
		snprintf(said + n, 64, "ended by signal %d\n", WTERMSIG(status));
	return ended && WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void run_test(const void *test)
{
	test_run((const struct tt_suite_test *)test);
}

static void run_device(const void *unused)
{
	(void)unused;
	failed = !tt_suite_device();
}

static void print_said(char *said)
{
	for (char *line = strtok(said, "\n"); line; line = strtok(NULL, "\n"))
		printf("    %s\n", line);
}

struct settings {
	const char *filters[MAX_FILTERS];
	size_t n_filters;
	double timeout;
	bool list;
};

static bool is_wanted(const struct settings *s, const struct tt_suite_test *test)
{
	char name[256];
	snprintf(name, sizeof name, "%s.%s", test->suite, test->name);
	for (size_t i = 0; i < s->n_filters; i++)
		if (fnmatch(s->filters[i], name, 0) == 0)
			return true;
	return s->n_filters == 0;
}

static int read_arguments(int argc, char **argv, struct settings *s)
{
	for (int i = 1; i < argc; i++) {
		const char *value = i + 1 < argc ? argv[i + 1] : NULL;
		if (!strcmp(argv[i], "--list")) {
			s->list = true;
		} else if (!strcmp(argv[i], "--filter") && value && s->n_filters < MAX_FILTERS) {
			s->filters[s->n_filters++] = argv[++i];
		} else if (!strcmp(argv[i], "--timeout") && value && atof(value) > 0) {
			s->timeout = atof(argv[++i]);
		} else if (!strcmp(argv[i], "--data") && value) {
			if (chdir(argv[++i])) {
				perror(argv[i]);
				return 1;
			}
		} else {
			fprintf(stderr, "usage: gpu-suites [--list] [--filter PATTERN]... [--data FOLDER] "
					"[--timeout SECONDS]\n");
			return 2;
		}
	}
	return 0;
}

int main(int argc, char **argv)
{
	struct settings s = {.timeout = 60};
	char said[SAID_BYTES + 65];
	size_t counts[3] = {0}; /* passed, skipped, failed */
	int status = read_arguments(argc, argv, &s);
	if (status)
		return status;
	if (!s.list && child_run(run_device, NULL, s.timeout, said) != 0) {
		printf("no CUDA device\n");
		print_said(said);
		return SKIPPED;
	}
	for (const struct tt_suite_test *test = all_tests; test; test = test->next) {
		if (!is_wanted(&s, test))
			continue;
		if (s.list) {
			printf("%s.%s\n", test->suite, test->name);
			continue;
		}
		double began = tt_now();
		status = child_run(run_test, test, test->options.timeout > 0 ? test->options.timeout : s.timeout, said);
		size_t outcome = status == 0 ? 0 : status == SKIPPED ? 1 : 2;
		static const char *const words[] = {"pass", "skip", "FAIL"};
		printf("%s %s.%s %.2f s\n", words[outcome], test->suite, test->name, tt_now() - began);
		if (outcome)
			print_said(said);
		counts[outcome]++;
	}
	if (!s.list)
		printf("%zu passed, %zu skipped, %zu failed\n", counts[0], counts[1], counts[2]);
	return counts[2] > 0 || (!s.list && counts[0] == 0);
}
