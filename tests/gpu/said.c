/* What criterion.h's checks do in gpu-suites: a line for what did not hold, with the values where a check has arrays,
 * so that a failure can be understood from its log alone: nobody can look at that machine again. */
#include "tests/gpu/said.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "tests/gpu/criterion/criterion.h"

enum { SKIPPED = 77, MAX_VALUES = 1500, MAX_WORDS = 256, MAX_MEASURES = 24 };

/* How near to its bound a measure came. */
struct measure {
	char what[32];
	double value, bound;
};

static bool failed;
static struct measure measures[MAX_MEASURES];
static size_t n_measures;

void tt_said_begin(void)
{
	failed = false;
	n_measures = 0;
}

bool tt_said_failed(void)
{
	return failed;
}

void tt_said_end(void)
{
	for (size_t i = 0; i < n_measures; i++)
		printf(TT_SAID_NOTE "%s: at most %.3g, where %.3g is allowed\n", measures[i].what, measures[i].value,
			measures[i].bound);
	fflush(stdout);
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
	failed = true;
	if (fatal)
		tt_said_end();
	fflush(stdout);
	if (fatal)
		_exit(1);
}

void tt_suite_skip(const char *format, ...)
{
	va_list args;
	va_start(args, format);
	vprintf(format, args);
	va_end(args);
	printf("\n");
	fflush(stdout);
	_exit(SKIPPED);
}

void tt_suite_measure(const char *what, double value, double bound)
{
	size_t i = 0;
	while (i < n_measures && strcmp(measures[i].what, what))
		i++;
	if (i == MAX_MEASURES)
		return;
	struct measure *m = &measures[i];
	if (i == n_measures) {
		n_measures++;
		snprintf(m->what, sizeof m->what, "%s", what);
	} else if (value <= m->value) {
		return;
	}
	m->value = value;
	m->bound = bound;
}

void tt_suite_values(const char *what, const double *got, const double *want, size_t n, double near)
{
	size_t n_apart = 0, first = 0, last = 0, worst = 0, shown = 0;
	double most = -1;
	for (size_t i = 0; i < n; i++) {
		double apart = fabs(got[i] - want[i]);
		if (apart <= near) /* false for NaN */
			continue;
		first = n_apart++ ? first : i;
		last = i;
		if (!(apart <= most)) {
			most = apart;
			worst = i;
		}
	}
	printf("%s: %zu of %zu differ by more than %.3g, from %zu to %zu; the most %zu: %.9g, not %.9g\n", what,
		n_apart, n, near, first, last, n ? worst : 0, n ? got[worst] : 0, n ? want[worst] : 0);
	for (size_t i = first; n_apart && i <= last && shown < MAX_VALUES; i++) {
		if (fabs(got[i] - want[i]) <= near)
			continue;
		printf("%zu: %.9g, not %.9g\n", i, got[i], want[i]);
		shown++;
	}
	fflush(stdout);
}

void tt_suite_bytes(const char *what, const void *got, const void *want, size_t n_bytes)
{
	const unsigned char *a = got, *b = want;
	size_t n_apart = 0, shown = 0;
	for (size_t at = 0; at < n_bytes; at += 4) {
		uint32_t x = 0, y = 0;
		size_t n = n_bytes - at < 4 ? n_bytes - at : 4;
		memcpy(&x, a + at, n);
		memcpy(&y, b + at, n);
		n_apart += x != y;
		if (x != y && shown < MAX_WORDS) {
			printf("word %zu: %08x, not %08x\n", at / 4, (unsigned)x, (unsigned)y);
			shown++;
		}
	}
	printf("%s: %zu of %zu words differ\n", what, n_apart, (n_bytes + 3) / 4);
	fflush(stdout);
}
