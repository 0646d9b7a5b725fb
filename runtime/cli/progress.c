/* Progress on stderr: on a terminal a bar with an estimate, otherwise a line per stage and a minute. */
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "cli.h"

enum { BAR_WIDTH = 24, SECONDS_A_LINE = 60 };

bool cli_draws(void)
{
	return isatty(STDERR_FILENO) && !cli_is_quiet();
}

void cli_progress_begin(struct cli_progress *progress)
{
	*progress = (struct cli_progress){
		.begun = tt_now(),
		.terminal = cli_draws(),
		.quiet = cli_is_quiet(),
	};
}

static void erase(struct cli_progress *progress)
{
	if (progress->bar)
		fputs("\r\x1b[K", stderr);
	progress->bar = false;
}

static void print_seconds(double seconds)
{
	unsigned whole = (unsigned)(seconds + 0.5);
	if (whole < 60)
		fprintf(stderr, "%us", whole);
	else
		fprintf(stderr, "%um%02us", whole / 60, whole % 60);
}

/* "345/2000, 3m12s left, 372 tokens/s" */
static void print_state(const struct cli_progress *progress, uint64_t done, uint64_t total, double now)
{
	fprintf(stderr, "%llu/%llu", (unsigned long long)done, (unsigned long long)total);
	if (done > 0 && done < total) {
		fputs(", ", stderr);
		print_seconds((now - progress->stage_begun) * (double)(total - done) / (double)done);
		fputs(" left", stderr);
	}
	if (progress->note[0])
		fprintf(stderr, ", %s", progress->note);
}

static void draw(struct cli_progress *progress, uint64_t done, uint64_t total, double now)
{
	double share = total ? (double)done / (double)total : 0;
	int filled = (int)(share * BAR_WIDTH);
	fprintf(stderr, "\r\x1b[K%s [", progress->stage);
	for (int i = 0; i < BAR_WIDTH; i++)
		fputc(i < filled ? '#' : '.', stderr);
	fputs("] ", stderr);
	print_state(progress, done, total, now);
	fflush(stderr);
	progress->bar = true;
	progress->drawn = now;
}

int cli_progress_step(void *user, const char *stage, uint64_t done, uint64_t total)
{
	struct cli_progress *progress = user;
	double now = tt_now();
	if (strncmp(progress->stage, stage, sizeof progress->stage - 1) != 0) {
		erase(progress);
		snprintf(progress->stage, sizeof progress->stage, "%s", stage);
		progress->stage_begun = progress->drawn = now;
		if (!progress->terminal && !progress->quiet && total > 0)
			fprintf(stderr, "[%5.1fs] %s (%llu)\n", now - progress->begun, progress->stage,
				(unsigned long long)total);
	}
	/* Nothing is drawn in the first second: a stage that is over by then needs no bar. */
	if (progress->terminal && now - progress->stage_begun > 1 && now - progress->drawn > 0.1)
		draw(progress, done < total ? done : total, total, now);
	if (!progress->terminal && !progress->quiet && now - progress->drawn > SECONDS_A_LINE) {
		fprintf(stderr, "[%5.1fs] %s ", now - progress->begun, progress->stage);
		print_state(progress, done < total ? done : total, total, now);
		fputc('\n', stderr);
		progress->drawn = now;
	}
	return cli_interrupted();
}

void cli_progress_speed(struct cli_progress *progress, const struct tt_engine *engine)
{
	struct tt_engine_stats stats;
	tt_engine_stats(engine, &stats);
	if (stats.seconds > 0)
		snprintf(progress->note, sizeof progress->note, "%.0f tokens/s",
			(double)(stats.n_prefill_tokens + stats.n_decode_tokens) / stats.seconds);
}

void cli_progress_end(struct cli_progress *progress)
{
	erase(progress);
	fflush(stderr);
}
