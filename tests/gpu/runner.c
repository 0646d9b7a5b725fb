/* Runs the suites that are linked in, in processes of their own, since an error on a GPU is final for its process, and
 * with a limit of time. A line a test: pass, skip or FAIL, its name, its seconds; then what it said if it did not pass,
 * and its notes if it did.
 *
 *     gpu-suites [--list] [--filter SUITE.NAME...]... [--data FOLDER] [--timeout SECONDS] [--together | --here]
 *
 * --together: the tests of a suite share a process, until one of them fails or is skipped; the rest get another. A
 * process costs a GPU's driver some tenths of a second. --here: no other process at all, for tools that watch one. A
 * filter is a pattern as the shell's. Exit 0: nothing failed; 1: something did; 77: there is no device. */
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "tests/gpu/criterion/criterion.h"
#include "tests/gpu/device.h"
#include "tests/gpu/said.h"

enum { MAX_FILTERS = 32, MAX_TESTS = 512, SAID_BYTES = 96 << 10, SKIPPED = 77, LATE = -1, UNTOLD = -2 };

static struct tt_suite_test *all_tests;

void tt_suite_add(struct tt_suite_test *test)
{
	struct tt_suite_test **at = &all_tests;
	while (*at)
		at = &(*at)->next;
	*at = test;
}

static void test_run(const struct tt_suite_test *test)
{
	tt_said_begin();
	if (test->options.init)
		test->options.init();
	test->run();
	if (test->options.fini)
		test->options.fini();
	tt_said_end();
}

/* A process that runs tests, as its parent sees it. */
struct child {
	pid_t id;
	int says;  /* what it says */
	int tells; /* a byte for each test that passed, which it goes on from when it gets one back */
	char said[SAID_BYTES + 65];
	size_t n_said;
};

/* Of what is too much the first half is kept, and the end. */
static bool child_hear(struct child *c)
{
	enum { HALF = SAID_BYTES / 2, QUARTER = SAID_BYTES / 4 };
	if (c->n_said > SAID_BYTES - QUARTER) {
		c->n_said -= QUARTER;
		memmove(c->said + HALF, c->said + HALF + QUARTER, c->n_said - HALF);
	}
	ssize_t got = read(c->says, c->said + c->n_said, QUARTER);
	if (got <= 0)
		return false;
	c->n_said += (size_t)got;
	c->said[c->n_said] = 0;
	return true;
}

/* Waits until a test has passed (0), the process has ended (UNTOLD) or the time is over (LATE). What the process said
 * before that is heard first: it was written first. */
static int child_wait(struct child *c, double until)
{
	int status = LATE;
	for (;;) {
		struct pollfd fds[2] = {{c->says, POLLIN, 0}, {c->tells, POLLIN, 0}};
		double left = until - tt_now();
		char byte;
		if (left <= 0)
			break;
		if (poll(fds, 2, (int)(left * 1000) + 1) < 0 && errno != EINTR)
			break;
		if (fds[0].revents & POLLIN)
			child_hear(c);
		if (!fds[1].revents)
			continue;
		status = read(c->tells, &byte, 1) == 1 ? 0 : UNTOLD;
		break;
	}
	while (child_hear(c))
		;
	if (status == 0 && send(c->tells, "", 1, MSG_NOSIGNAL) != 1)
		status = UNTOLD;
	return status;
}

static int child_start(struct child *c, int *tell)
{
	int says[2], tells[2];
	*c = (struct child){.id = -1};
	fflush(stdout);
	if (pipe(says))
		return -1;
	if (socketpair(AF_UNIX, SOCK_STREAM, 0, tells)) {
		close(says[0]);
		close(says[1]);
		return -1;
	}
	c->id = fork();
	if (c->id == 0) {
		close(says[0]);
		close(tells[0]);
		dup2(says[1], STDOUT_FILENO);
		dup2(says[1], STDERR_FILENO);
		close(says[1]);
		*tell = tells[1];
		return 0;
	}
	close(says[1]);
	close(tells[1]);
	fcntl(says[0], F_SETFL, O_NONBLOCK);
	c->says = says[0];
	c->tells = tells[0];
	return 0;
}

/* The exit status, or -1 with the reason at the end of what was said. */
static int child_end(struct child *c, bool late, double timeout)
{
	int status = 0;
	if (late)
		kill(c->id, SIGKILL);
	while (waitpid(c->id, &status, 0) < 0 && errno == EINTR)
		;
	while (child_hear(c))
		;
	close(c->says);
	close(c->tells);
	if (late)
		snprintf(c->said + c->n_said, 64, "\nnot done after %g s\n", timeout);
	else if (WIFSIGNALED(status))
		snprintf(c->said + c->n_said, 64, "\nended by signal %d\n", WTERMSIG(status));
	return !late && WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void print_said(char *said, bool notes)
{
	for (char *line = strtok(said, "\n"); line; line = strtok(NULL, "\n"))
		if (!notes || !strncmp(line, TT_SAID_NOTE, strlen(TT_SAID_NOTE)))
			printf("    %s\n", line);
}

/* status: an exit status, or negative. */
static void report(const struct tt_suite_test *test, int status, double seconds, char *said, size_t counts[3])
{
	static const char *const words[] = {"pass", "skip", "FAIL"};
	size_t outcome = status == 0 ? 0 : status == SKIPPED ? 1 : 2;
	printf("%s %s.%s %.2f s\n", words[outcome], test->suite, test->name, seconds);
	print_said(said, outcome == 0);
	fflush(stdout);
	counts[outcome]++;
}

/* In the child: a byte for each test that passed. One that leaves an error on the device is the last. */
static void run_tests(struct tt_suite_test *const *tests, size_t n, int tell)
{
	for (size_t i = 0; i < n; i++) {
		bool clean;
		char byte;
		test_run(tests[i]);
		if (tt_said_failed())
			_exit(1);
		clean = tt_suite_clean();
		fflush(stdout);
		if (write(tell, "", 1) != 1 || read(tell, &byte, 1) != 1 || !clean)
			break;
	}
	_exit(0);
}

/* Runs tests in one process until one does not pass; returns how many were reported, at least one. */
static size_t run_process(struct tt_suite_test *const *tests, size_t n, double timeout, size_t counts[3])
{
	static struct child c;
	int tell = -1;
	if (child_start(&c, &tell) || c.id < 0) {
		printf("no process for a test: %s\n", strerror(errno));
		exit(1);
	}
	if (c.id == 0)
		run_tests(tests, n, tell);
	for (size_t i = 0; i < n; i++) {
		double began = tt_now(), limit = tests[i]->options.timeout > 0 ? tests[i]->options.timeout : timeout;
		c.n_said = 0;
		c.said[0] = 0;
		int status = child_wait(&c, began + limit);
		if (status != 0) {
			status = child_end(&c, status == LATE, limit);
			if (status == 0 && i > 0) /* it ended after the test before this one */
				return i;
			report(tests[i], status ? status : -1, tt_now() - began, c.said, counts);
			return i + 1;
		}
		report(tests[i], 0, tt_now() - began, c.said, counts);
	}
	child_end(&c, false, 0);
	return n;
}

static bool has_device(double timeout)
{
	static struct child c;
	int tell = -1;
	if (child_start(&c, &tell) || c.id < 0)
		return false;
	if (c.id == 0) {
		bool there = tt_suite_device();
		fflush(stdout);
		_exit(!there);
	}
	int status = child_end(&c, child_wait(&c, tt_now() + timeout) == LATE, timeout);
	if (status == 0)
		return true;
	printf("no CUDA device\n");
	print_said(c.said, false);
	return false;
}

struct settings {
	const char *filters[MAX_FILTERS];
	size_t n_filters;
	double timeout;
	bool list, together, here;
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
		} else if (!strcmp(argv[i], "--together")) {
			s->together = true;
		} else if (!strcmp(argv[i], "--here")) {
			s->here = true;
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
					"[--timeout SECONDS] [--together | --here]\n");
			return 2;
		}
	}
	return 0;
}

/* A fatal check or a skip ends this process, after its reason. */
static int run_here(struct tt_suite_test *const *tests, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		printf("begin %s.%s\n", tests[i]->suite, tests[i]->name);
		fflush(stdout);
		test_run(tests[i]);
		printf("%s %s.%s\n", tt_said_failed() ? "FAIL" : "pass", tests[i]->suite, tests[i]->name);
		if (tt_said_failed())
			return 1;
	}
	return n == 0;
}

/* How many tests from the first on may share its process. */
static size_t together(const struct settings *s, struct tt_suite_test *const *tests, size_t n)
{
	size_t same = 1;
	while (s->together && same < n && !strcmp(tests[same]->suite, tests[0]->suite))
		same++;
	return same;
}

int main(int argc, char **argv)
{
	static struct tt_suite_test *tests[MAX_TESTS];
	struct settings s = {.timeout = 60};
	size_t counts[3] = {0}, n = 0; /* passed, skipped, failed */
	int status = read_arguments(argc, argv, &s);
	if (status)
		return status;
	for (struct tt_suite_test *test = all_tests; test; test = test->next) {
		if (!is_wanted(&s, test))
			continue;
		if (s.list)
			printf("%s.%s\n", test->suite, test->name);
		else if (n < MAX_TESTS)
			tests[n++] = test;
	}
	if (s.list)
		return 0;
	if (s.here)
		return run_here(tests, n);
	if (!has_device(s.timeout))
		return SKIPPED;
	for (size_t i = 0; i < n;)
		i += run_process(tests + i, together(&s, tests + i, n - i), s.timeout, counts);
	printf("%zu passed, %zu skipped, %zu failed\n", counts[0], counts[1], counts[2]);
	return counts[2] > 0 || counts[0] == 0;
}
