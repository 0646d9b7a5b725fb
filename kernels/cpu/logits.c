/* logits = rmsnorm(h) * output^T, capped where the model has a cap, for the rows that sample. */
#include "base/fail.h"
#include "kernels/cpu/exchange.h"
#include "kernels/cpu/jobs.h"

int tt_cpu_logits(struct tt_backend *backend, const struct tt_logits_args *args, struct tt_error *err)
{
	struct tt_cpu *cpu = (struct tt_cpu *)backend;
	const struct tt_config *c = args->config;
	uint32_t n = args->step->n_samples;
	struct tt_cpu_norm norm = {.h = args->h,
		.samples = tt_step_samples(args->step),
		.weight = args->output_norm,
		.eps = c->rms_norm_eps,
		.hidden = c->hidden_size,
		.n_rows = n};
	TT_TRY(tt_cpu_norm(cpu, &norm, err));
	struct tt_cpu_product product = {args->output, NULL, norm.x, tt_cpu_padded(c->hidden_size), n,
		args->logits + cpu->shard.vocab.first, c->vocab_size, TT_CPU_STORE};
	struct tt_cpu_jobs jobs = {.products = {&product}, .n_products = 1};
	TT_TRY(tt_cpu_jobs_plan(cpu, &jobs, 0, err));
	tt_cpu_jobs_run(&jobs);
	TT_TRY(tt_cpu_exchange(cpu, args->logits, c->vocab_size, n, cpu->shard.vocab, err));
	if (c->logit_soft_cap)
		cpu->body->soft_cap(args->logits, (size_t)n * c->vocab_size, c->logit_soft_cap);
	return TT_OK;
}
