/* The recorder without a server, for measuring and for making long logs: audit_load FOLDER REQUESTS [A-SECOND].
 * Requests are made up, each with a begin and an end of the size that a real one has; so many a second, or as fast as
 * they are taken. Prints what it took as JSON. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#include "base/clock.h"
#include "base/random.h"
#include "controller/govern/recorder.h"

enum { AHEAD = 2048 }; /* requests that have begun and not ended, at most */

struct load {
	struct tt_recorder *recorder;
	size_t n_begun, n_ended, n_failed;
	uint64_t state;
};

static struct tt_record *make(const char *kind, const char *fields)
{
	struct tt_record *record;
	if (tt_alloc(&record, 1, sizeof *record, NULL) != TT_OK ||
		tt_buffer_add(&record->fields, fields, strlen(fields), NULL) != TT_OK)
		abort();
	record->kind = kind;
	return record;
}

static void hex(struct load *l, char out[65])
{
	for (int i = 0; i < 4; i++)
		snprintf(out + 16 * i, 17, "%016llx", (unsigned long long)tt_random_next(&l->state));
}

static void begin(struct load *l)
{
	char text[1500], a[65], b[65], c[65];
	hex(l, a);
	hex(l, b);
	hex(l, c);
	snprintf(text, sizeof text,
		"\"run\":0,\"request\":\"%.24s\",\"key\":\"alice-1\",\"route\":\"/v1/chat/"
		"completions\",\"date\":1764500000,"
		"\"seed\":3306697942288756,\"body\":\"%s\",\"ids\":\"%s\",\"prompts\":1,\"prompt_tokens\":412,\"n\":1,"
		"\"max_tokens\":512,\"temperature\":0.699999988,\"top_p\":1.0,\"min_p\":0.0,\"top_k\":0,\"stream\":"
		"true,"
		"\"when\":\"policy\",\"steering\":[{\"policy\":\"refuse\",\"version\":\"%s\",\"scale\":1.0}],"
		"\"shadow\":[]",
		a, b, c, a);
	struct tt_record *record = make("begin", text);
	record->open[0] = 1;
	snprintf(record->owner, sizeof record->owner, "alice-1");
	l->n_begun++;
	tt_recorder_add(l->recorder, record);
}

static void end(struct load *l, struct tt_record *begun)
{
	char text[1500], a[65], b[65];
	hex(l, a);
	hex(l, b);
	snprintf(text, sizeof text,
		"\"result\":\"%s\",\"answer\":\"%s\",\"choices_of\":1,\"tokens\":212,\"seconds\":4.123456789,"
		"\"choices\":"
		"[{\"finish\":\"stop\",\"tokens\":212,\"steering\":[{\"policy\":\"refuse\",\"scale\":1.0,\"when\":"
		"\"all\","
		"\"s\":1.0,\"gate\":0.991234541,\"coef\":{\"10\":1.32000005},\"version\":\"%s\",\"threshold\":0.803,"
		"\"killed\":false}]}]",
		a, b, a);
	struct tt_record *record = make("end", text);
	record->begun = begun;
	tt_recorder_add(l->recorder, record);
}

static void take(struct load *l)
{
	struct tt_record *record = tt_recorder_take(l->recorder), *next;
	for (; record; record = next) {
		next = record->next;
		l->n_failed += record->status != TT_OK || !record->written;
		if (!record->begun) {
			end(l, record);
			continue;
		}
		tt_record_free((struct tt_record *)record->begun);
		tt_record_free(record);
		l->n_ended++;
	}
}

static void pause_a_little(void)
{
	const struct timespec time = {.tv_nsec = 500000};
	nanosleep(&time, NULL);
}

static double processor_time(void)
{
	struct rusage usage;
	getrusage(RUSAGE_SELF, &usage);
	return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
	       1e-6 * (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec);
}

int main(int argc, char **argv)
{
	struct load l = {.state = 1};
	struct tt_error err = {0};
	struct tt_recorder_stats stats;
	if (argc < 3)
		return 2;
	const size_t n = strtoull(argv[2], NULL, 10);
	const double rate = argc > 3 ? strtod(argv[3], NULL) : 0;
	const struct tt_recorder_options options = {.directory = argv[1], .open = json_object()};
	const double opening = tt_now();
	if (tt_recorder_open(&l.recorder, &options, &err) != TT_OK) {
		fprintf(stderr, "%s\n", err.message);
		return 1;
	}
	const double begun = tt_now(), used = processor_time();
	while (l.n_ended < n) {
		size_t due = rate > 0 ? (size_t)((tt_now() - begun) * rate) : n;
		while (l.n_begun < n && l.n_begun < due && l.n_begun - l.n_ended < AHEAD &&
			tt_recorder_takes(l.recorder))
			begin(&l);
		take(&l);
		pause_a_little();
	}
	const double seconds = tt_now() - begun, processor = processor_time() - used;
	tt_recorder_stats(l.recorder, &stats);
	uint64_t n_commits = 0;
	for (size_t i = 0; i <= TT_COMMIT_BUCKETS; i++)
		n_commits += stats.commits[i];
	printf("{\"requests\": %zu, \"failed\": %zu, \"opening_seconds\": %.3f, \"seconds\": %.3f, "
	       "\"processor_seconds\": %.3f, "
	       "\"requests_a_second\": %.1f, \"core\": %.3f, \"transactions\": %llu, \"commit_milliseconds\": %.2f}\n",
		n, l.n_failed, begun - opening, seconds, processor, (double)n / seconds, processor / seconds,
		(unsigned long long)n_commits, 1e3 * stats.commit_seconds / (double)n_commits);
	if (tt_recorder_close(l.recorder, &err) != TT_OK) {
		fprintf(stderr, "%s\n", err.message);
		return 1;
	}
	return l.n_failed != 0;
}
