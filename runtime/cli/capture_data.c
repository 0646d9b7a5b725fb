/* trimtab capture --data: the rows of a file. */
#include <signal.h>
#include <stdlib.h>

#include "capture.h"

static int check_files(const struct cli_capture *c, const char *model)
{
	struct cli_files files = {0};
	char *partial = cli_with_ending(c->output, ".partial"), *journal = cli_with_ending(c->output, ".journal");
	cli_reads(&files, model, "the model");
	cli_reads_template(&files, &c->engine_args);
	cli_reads(&files, c->options.data, "the data");
	for (uint32_t i = 0; i < c->policies.n; i++)
		cli_reads(&files, c->policies.paths[i], "a policy");
	cli_writes(&files, c->output, "the output");
	cli_writes(&files, partial, "the output while it is written");
	cli_writes(&files, journal, "the journal");
	int status = cli_check_files(&files, "capture");
	free(partial);
	free(journal);
	return status;
}

/* The number of tokens per second is shown after the bar. */
static int progress(void *user, const char *stage, uint64_t done, uint64_t total)
{
	struct cli_capture *c = user;
	cli_progress_speed(&c->progress, c->engine);
	return cli_progress_step(&c->progress, stage, done, total);
}

static void note(void *user, const char *line)
{
	struct cli_capture *c = user;
	cli_progress_end(&c->progress);
	cli_note("%s", line);
}

static void summarise(const struct cli_capture *c, const struct tt_capture_data_report *r)
{
	printf("%s: %llu rows, %llu positions, %.1f MB", c->output, (unsigned long long)r->n_rows,
		(unsigned long long)r->n_kept, (double)r->n_bytes / 1e6);
	if (r->n_earlier)
		printf("; %llu rows were there already", (unsigned long long)r->n_earlier);
	if (r->n_rows > r->n_earlier && r->seconds > 0)
		printf("; %llu tokens run, %llu shared, in %.1f s, %.0f tokens/s", (unsigned long long)r->n_tokens,
			(unsigned long long)r->n_shared, r->seconds, (double)r->n_tokens / r->seconds);
	putchar('\n');
}

int cli_capture_data(struct cli_capture *c, const char *model)
{
	struct tt_error err = {0};
	struct tt_capture_data_report report;
	struct tt_capture_data_options *o = &c->options;
	int status = cli_policies_parse(&c->policies, &c->policy_list, "capture");
	if (status == CLI_PROCEED)
		status = check_files(c, model);
	if (status == CLI_PROCEED)
		status = cli_engine_open(&c->engine, model, &c->engine_args, 0);
	if (status == CLI_PROCEED)
		status = cli_policies_load(&c->policies, c->engine);
	if (status != CLI_PROCEED)
		return status;
	o->size = sizeof *o;
	o->positions = (enum tt_capture_positions)c->positions;
	o->n_steering = c->policies.n;
	for (uint32_t i = 0; i < c->policies.n; i++)
		o->steering[i] = c->policies.steering[i];
	o->progress = progress;
	o->note = note;
	o->user = c;
	/* A write beyond the file-size limit must be an error like that of a full disk, not the end of the process. */
	signal(SIGXFSZ, SIG_IGN);
	cli_catch_interrupt();
	cli_progress_begin(&c->progress);
	int code = tt_capture_data(c->engine, o, c->output, &report, &err);
	cli_progress_end(&c->progress);
	if (code != TT_OK && cli_interrupted()) {
		cli_note("stopped after %llu rows; the same command continues", (unsigned long long)report.n_done);
		return CLI_INTERRUPTED;
	}
	if (code != TT_OK)
		return cli_fail(&err);
	summarise(c, &report);
	return CLI_OK;
}
