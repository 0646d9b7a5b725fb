/* The scheduler against a made-up model, a made-up clock and seeded random numbers: steps by the million, with
 * everything checked that must hold. A run that fails prints the command that repeats it.
 *
 *     scheduler_sim [--steps N] [--seed N] [--fault leak|drop|swap|stale|starve|claim|record|shallow]
 *
 * --seed runs that seed alone. --fault plants one, and then the program must fail: a page that nobody gives back, a
 * sample that another row gets too, two neighbours' rows exchanged, pages keyed without their policy, a request that is
 * never run, reports that do not know of the kill switch, records that lack tokens of their page, steps that run the
 * first layer alone. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "runtime/schedule/prefix_cache.h"
#include "tests/random.h"
#include "tests/sim/model.h"

enum { STEPS_A_SEED = 2000, MAX_REQUESTS = 64, OLDEST_MAY_WAIT = 3 };
static const uint64_t NOT_RUN = UINT64_MAX;

enum fault { NO_FAULT, LEAK, DROP, SWAP, STALE, STARVE, CLAIM, RECORD, SHALLOW };

struct request {
	struct tt_sequence sequence; /* first */
	struct sim_answer want;
	bool live, cancelled;
	size_t n_ran;                /* positions reported */
	uint64_t acted[SIM_CONTEXT]; /* on each of them, or NOT_RUN: another request's pages held it */
};

struct sim {
	struct tt_scheduler scheduler;
	struct sim_device device;
	struct request requests[MAX_REQUESTS];
	uint64_t seed, random, n_steps, oldest;
	uint32_t in_flight, load, n_kinds; /* n_kinds: of requests that differ; 0: all may */
	uint32_t n_idle;                   /* steps since the oldest request was in one */
	double now;
	enum fault fault;
	uint64_t n_finished, n_cancelled, n_late, n_failed; /* of all seeds */
	uint64_t n_shared, n_preemptions, n_reruns, n_wasted;
};

__attribute__((noreturn, format(printf, 2, 3))) static void fail(const struct sim *sim, const char *format, ...)
{
	va_list arguments;
	va_start(arguments, format);
	printf("seed %llu, step %llu: ", (unsigned long long)sim->seed, (unsigned long long)sim->n_steps);
	vprintf(format, arguments);
	printf("\nrun again: scheduler_sim --seed %llu\n", (unsigned long long)sim->seed);
	va_end(arguments);
	exit(1);
}

static uint32_t draw(struct sim *sim, uint32_t n)
{
	return (uint32_t)(sim_hash(random_step(&sim->random)) % n);
}

/* ---- Requests */

/* Prompts begin alike in one of three ways, so that pages can be shared. */
static size_t make_prompt(struct sim *sim, int32_t *ids)
{
	size_t n = 1 + draw(sim, draw(sim, 3) ? 30 : 100), alike = draw(sim, 3) ? draw(sim, (uint32_t)n + 1) : n;
	uint32_t kind = draw(sim, 3);
	for (size_t i = 0; i < n; i++)
		ids[i] = i < alike ? (int32_t)((i * 7 + kind) % SIM_VOCAB) : (int32_t)draw(sim, SIM_VOCAB);
	return n;
}

/* The layers that gates read means of, and the span: the whole prompt, or a part that other prompts may have too. */
static void make_span(struct sim *sim, struct tt_sequence *q)
{
	bool reads[SIM_LAYERS] = {false};
	for (uint32_t i = 0; i < q->n_policies; i++)
		if (q->policies[i].after_layer >= 0 && sim_pool(q->policies[i].slot) != TT_POOL_LAST)
			reads[q->policies[i].after_layer] = true;
	for (uint32_t l = 0; l < SIM_LAYERS; l++)
		if (reads[l])
			q->pooled[q->n_pooled++] = l;
	q->pool_to = q->n_prompt;
	if (draw(sim, 2) == 0)
		return;
	q->pool_from = draw(sim, 3) * 11u % q->n_prompt;
	if (draw(sim, 2) && q->pool_from + 17 < q->n_prompt)
		q->pool_to = q->pool_from + 17;
}

static void make_policies(struct sim *sim, struct tt_sequence *q)
{
	q->coef_known_at_start = true;
	for (uint32_t i = 0; i < q->n_policies; i++) {
		struct tt_sequence_policy *p = &q->policies[i];
		p->slot = (uint16_t)draw(sim, SIM_POLICIES);
		p->when = (enum tt_policy_when)draw(sim, 3);
		p->scale = draw(sim, 5) ? 0.25f * (float)(1 + draw(sim, 2)) : 0;
		p->after_layer = (const int32_t[]){-1, SIM_EARLY, SIM_LATE}[draw(sim, 3)];
		p->identity = (struct tt_page_key){{sim->fault == STALE ? 1 : p->slot + 1u, 0}};
		q->coef_known_at_start &= p->after_layer < 0;
		if (p->after_layer > q->observe_last)
			q->observe_last = p->after_layer;
		if (p->when != TT_WHEN_GENERATION)
			q->first_steered = 1;
	}
	for (uint32_t i = 0; q->coef_known_at_start && i < q->n_policies; i++) {
		for (uint32_t l = 0; l < SIM_LAYERS; l++)
			q->coef[i * SIM_LAYERS + l] = sim_coef(q->policies[i].scale, q->policies[i].slot, 1, l);
		tt_prefix_key_policy(q, i, SIM_LAYERS);
	}
}

/* With few kinds of requests, all have one prompt, and most find the pages of their twins, or what is left of these. */
static void submit(struct sim *sim, struct request *r)
{
	struct tt_sequence *q = &r->sequence;
	int32_t ids[SIM_CONTEXT];
	uint64_t kind = sim->n_kinds > 0 ? draw(sim, sim->n_kinds) : 0, after = sim->random;
	if (sim->n_kinds > 0)
		sim->random = sim_hash(sim->seed * 64);
	size_t n = make_prompt(sim, ids), most = sim->scheduler.limits.context;
	if (sim->n_kinds > 0)
		sim->random = sim_hash(sim->seed * 64 + 1 + kind);
	n = n < most ? n : most;
	uint32_t max_tokens = draw(sim, 8) ? draw(sim, 80) : 0;
	*r = (struct request){.live = true};
	memset(r->acted, 0xff, sizeof r->acted);
	if (tt_sequence_open(q, ids, n, n + max_tokens < most ? n + max_tokens : most, draw(sim, 2) ? draw(sim, 5) : 0,
		    SIM_LAYERS, NULL) != TT_OK)
		fail(sim, "no memory");
	q->max_tokens = max_tokens;
	q->n_prompt = draw(sim, 4) ? n : 1 + draw(sim, (uint32_t)n);
	q->sampling.seed = draw(sim, 4);
	const struct tt_penalties penalties = {draw(sim, 4) ? 1 : 2, 0, 0};
	if (tt_sequence_penalise(q, &penalties, NULL) != TT_OK)
		fail(sim, "no memory");
	q->scores = draw(sim, 5) == 0;
	if (q->scores)
		q->report_from = 0;
	q->deadline = draw(sim, 20) ? 0 : sim->now + 1 + draw(sim, 60);
	make_policies(sim, q);
	make_span(sim, q);
	if (q->max_tokens == 0 && !q->scores && q->observe_last == SIM_EARLY)
		q->depth = SIM_EARLY + 1;
	sim_expect(q, &r->want);
	tt_scheduler_add(&sim->scheduler, q);
	if (sim->n_kinds > 0)
		sim->random = after;
}

static bool tokens_agree(const struct request *r, size_t n)
{
	return n <= r->want.n_tokens && !memcmp(r->sequence.tokens, r->want.tokens, n * sizeof *r->want.tokens);
}

/* Every report of a token names the coefficients that acted on it, where the steered layers ran. */
static void check_acted(const struct sim *sim, const struct request *r, size_t position)
{
	uint64_t said = 0;
	if (r->sequence.depth < SIM_LAYERS)
		return;
	for (uint32_t i = 0; i < r->sequence.n_policies; i++) {
		const float *coef = tt_sequence_coefficients(&r->sequence, i, position, SIM_LAYERS);
		if (coef)
			said = sim_steer(said, r->sequence.policies[i].slot, coef);
	}
	if (r->acted[position] != NOT_RUN && said != r->acted[position])
		fail(sim, "request %llu: reports say that position %zu %s steered, and it %s",
			(unsigned long long)r->sequence.arrival, position, said ? "was" : "was not",
			!r->acted[position] ? "was not"
			: said              ? "was, otherwise"
					    : "was");
}

/* A request that the kill switch met is steered differently; of the others every token is known. */
static void finished(void *user, struct tt_sequence *q)
{
	struct sim *sim = user;
	struct request *r = (struct request *)q;
	bool early = q->finish == TT_FINISH_CANCELLED || q->finish == TT_FINISH_DEADLINE;
	if (q->n_pages > 0 || q->n_pending > 0)
		fail(sim, "a finished request holds %u pages", q->n_pages);
	if (q->killed_from == SIZE_MAX) {
		if (!tokens_agree(r, q->n_tokens))
			fail(sim, "request %llu: wrong token among %zu, wanted %zu", (unsigned long long)q->arrival,
				q->n_tokens - q->n_ids, r->want.n_tokens - q->n_ids);
		if (!early && (q->n_tokens != r->want.n_tokens || q->finish != r->want.finish))
			fail(sim, "request %llu: %zu tokens (finish %d), wanted %zu (%d)",
				(unsigned long long)q->arrival, q->n_tokens - q->n_ids, q->finish,
				r->want.n_tokens - q->n_ids, r->want.finish);
	}
	if (!early && q->report_from == 0 && r->n_ran + 1 < q->n_ids)
		fail(sim, "request %llu: positions from %zu on were not reported", (unsigned long long)q->arrival,
			r->n_ran);
	for (size_t p = 0; p < q->n_reported; p++)
		check_acted(sim, r, p);
	sim->n_finished += !early;
	sim->n_cancelled += q->finish == TT_FINISH_CANCELLED;
	sim->n_late += q->finish == TT_FINISH_DEADLINE;
	r->live = false;
}

static void ran(
	void *user, const struct tt_planned *p, const struct tt_step_plan *step, const struct tt_results *results)
{
	struct request *r = (struct request *)p->sequence;
	struct sim *sim = user;
	const uint64_t *acted = sim->device.acted[(sim->scheduler.n_collected + 1) % TT_MAX_IN_FLIGHT] + p->first_token;
	(void)step;
	(void)results;
	for (size_t position = p->position; position < p->valid; position++) {
		if (position >= r->sequence.n_reported)
			r->acted[position] = acted[position - p->position];
		check_acted(sim, r, position);
	}
	for (size_t position = p->valid; position < p->position + p->n_tokens; position++)
		r->acted[position] = NOT_RUN;
	if (r->sequence.report_from == 0 && p->position > r->n_ran)
		fail(sim, "request %llu: position %zu was skipped", (unsigned long long)r->sequence.arrival, r->n_ran);
	if (r->n_ran < p->valid || p->valid < p->position + p->n_tokens)
		r->n_ran = p->valid;
}

static void sampled(void *user, struct tt_sequence *q, size_t position, uint32_t index, bool generates,
	const struct tt_results *results)
{
	struct sim *sim = user;
	struct request *r = (struct request *)q;
	float score = results->samples[index].target_logprob;
	if (q->scores && position + 1 < q->n_ids && q->killed_from == SIZE_MAX && (q->decided || q->n_policies == 0) &&
		score != r->want.scores[position + 1])
		fail(sim, "request %llu: the score at %zu is another's", (unsigned long long)q->arrival, position + 1);
	if (generates && sim_is_stop(q->tokens[q->n_tokens - 1]))
		q->finish = TT_FINISH_STOP;
}

/* ---- What must hold */

static void check_pages(struct sim *sim)
{
	const struct tt_page_pool *pool = &sim->scheduler.pool;
	uint32_t users[1024] = {0}, n_used = 0;
	for (uint32_t i = 0; i < MAX_REQUESTS; i++)
		for (uint32_t k = 0; sim->requests[i].live && k < sim->requests[i].sequence.n_pages; k++)
			users[sim->requests[i].sequence.pages[k]]++;
	for (uint32_t page = 0; page < pool->n_pages; page++) {
		n_used += users[page] > 0;
		if (users[page] != pool->pages[page].n_users)
			fail(sim, "page %u has %u users, not %u", page, users[page], pool->pages[page].n_users);
	}
	if (n_used + pool->n_free + pool->n_idle != pool->n_pages)
		fail(sim, "%u pages used, %u free, %u idle, of %u", n_used, pool->n_free, pool->n_idle, pool->n_pages);
}

/* The pages of a decided request hold what they would hold if it ran alone. */
static void check_cells(struct sim *sim)
{
	const struct tt_scheduler *s = &sim->scheduler;
	for (uint32_t i = 0; i < s->n_running; i++) {
		const struct tt_sequence *q = s->running[i];
		const struct sim_answer *want = &((const struct request *)q)->want;
		for (size_t p = 0; p < q->n_fed && p < want->n_tokens; p++) {
			const struct sim_cell *cell =
				&sim->device.cells[(size_t)q->pages[p / TT_PAGE_TOKENS] * TT_PAGE_TOKENS +
						   p % TT_PAGE_TOKENS];
			bool late = q->depth < SIM_LAYERS || cell->late == want->cells[p].late;
			if ((!late || cell->early != want->cells[p].early) && q->killed_from == SIZE_MAX &&
				(q->decided || q->n_policies == 0))
				fail(sim, "request %llu: position %zu holds another's", (unsigned long long)q->arrival,
					p);
		}
	}
}

static void check_rows(struct sim *sim)
{
	const struct tt_scheduler *s = &sim->scheduler;
	bool owned[256] = {false};
	uint32_t n = 0;
	for (uint32_t i = 0; i < s->n_running; i++) {
		const struct tt_sequence *q = s->running[i];
		if (i > 0 && q->arrival <= s->running[i - 1]->arrival)
			fail(sim, "request %llu runs out of order", (unsigned long long)q->arrival);
		for (uint32_t k = 0; k < q->n_policies; k++, n++) {
			uint16_t row = q->policies[k].row;
			if (row == 0 || owned[row] || s->row_slots[row] != q->policies[k].slot)
				fail(sim, "row %u is not request %llu's alone", row, (unsigned long long)q->arrival);
			owned[row] = true;
		}
	}
	if (n + s->n_free_rows + 1 != s->limits.n_rows)
		fail(sim, "%u rows owned and %u free of %u", n, s->n_free_rows, s->limits.n_rows);
}

/* Each token is steered by rows of its own sequence, in order, and by none under the kill switch. */
static void check_plan(struct sim *sim, const struct tt_scheduled_step *plan)
{
	const struct tt_step_plan *step = plan->step;
	if (step->n_seen > sim->scheduler.limits.max_seen)
		fail(sim, "a step with %u ids for penalties", step->n_seen);
	for (uint32_t i = 0; i < plan->n_planned; i++) {
		const struct tt_planned *p = &plan->planned[i];
		for (uint32_t t = p->first_token; t < p->first_token + p->n_tokens; t++) {
			const uint16_t *rows = tt_step_coef_rows(step) + (size_t)t * TT_STACK;
			uint32_t policy = 0;
			for (uint32_t k = 0; k < TT_STACK && rows[k]; k++) {
				while (policy < p->sequence->n_policies && p->sequence->policies[policy].row != rows[k])
					policy++;
				if (policy == p->sequence->n_policies)
					fail(sim, "a token of request %llu is steered by row %u",
						(unsigned long long)p->sequence->arrival, rows[k]);
				if (sim->scheduler.killed)
					fail(sim, "a steered token after the kill switch");
			}
		}
	}
}

/* The oldest request is in every step but while its decision is open. */
static void check_oldest(struct sim *sim, const struct tt_scheduled_step *plan)
{
	const struct tt_scheduler *s = &sim->scheduler;
	const struct tt_sequence *oldest = s->n_running > 0 ? s->running[0] : s->waiting;
	bool there = !oldest;
	for (uint32_t i = 0; i < plan->n_planned; i++)
		there |= plan->planned[i].sequence == oldest;
	sim->n_idle = there || oldest->arrival != sim->oldest ? 0 : sim->n_idle + 1;
	sim->oldest = oldest ? oldest->arrival : 0;
	if (sim->n_idle > OLDEST_MAY_WAIT)
		fail(sim, "request %llu, the oldest, waits for %u steps", (unsigned long long)oldest->arrival,
			sim->n_idle);
}

/* ---- Planted faults */

static void plant(struct sim *sim, struct tt_scheduled_step *plan)
{
	struct tt_scheduler *s = &sim->scheduler;
	if (sim->n_steps % 500 != 300)
		return;
	if (sim->fault == LEAK && s->n_running > 0 && s->running[0]->n_pages > 0)
		s->running[0]->n_pages--;
	if (sim->fault == DROP && plan->step->n_samples > 1)
		tt_step_samples(plan->step)[1] = tt_step_samples(plan->step)[0];
	if (sim->fault == SWAP)
		for (uint32_t t = 0; t + 1 < plan->step->n_tokens; t++) {
			uint16_t *rows = tt_step_coef_rows(plan->step) + (size_t)t * TT_STACK, kept[TT_STACK];
			memcpy(kept, rows, sizeof kept);
			memcpy(rows, rows + TT_STACK, sizeof kept);
			memcpy(rows + TT_STACK, kept, sizeof kept);
		}
	if (sim->fault == SHALLOW)
		plan->step->n_layers = SIM_EARLY + 1;
	for (uint32_t i = 0; sim->fault == RECORD && i < plan->step->n_pools; i++)
		tt_step_pools(plan->step)[i].n_tokens /= 2;
	if (sim->fault == STARVE && s->n_running > 0)
		s->running[0]->n_fed = SIM_CONTEXT;
	for (uint32_t i = 0; sim->fault == CLAIM && i < s->n_running; i++)
		s->running[i]->reported_killed_from = SIZE_MAX;
}

/* ---- Running */

static void open_sim(struct sim *sim)
{
	uint32_t max_seqs = 1 + draw(sim, 12), n_pages = 3 + draw(sim, 4 * max_seqs);
	struct tt_limits limits = {
		.max_tokens = max_seqs + draw(sim, 80),
		.max_seqs = max_seqs,
		.max_samples = max_seqs + draw(sim, 16),
		.n_rows = 1 + max_seqs * TT_STACK,
		.context = n_pages * TT_PAGE_TOKENS < SIM_CONTEXT ? n_pages * TT_PAGE_TOKENS : SIM_CONTEXT,
		.max_seen = SIM_CONTEXT + draw(sim, 120),
		.plan_bytes = 1 << 16,
	};
	struct tt_scheduler_hooks hooks = {sim, ran, sampled, finished};
	sim->in_flight = 1 + draw(sim, 2);
	sim->load = 1 + draw(sim, 8);
	sim->n_kinds = draw(sim, 2) == 0 ? 1 + draw(sim, 8) : 0;
	sim->device.cells = calloc(n_pages * TT_PAGE_TOKENS, sizeof *sim->device.cells);
	sim->device.sums = calloc(n_pages, sizeof *sim->device.sums);
	sim->device.coef = calloc(limits.n_rows, sizeof *sim->device.coef);
	if (tt_scheduler_open(&sim->scheduler, &limits, n_pages, SIM_LAYERS, draw(sim, 3) > 0, &hooks, NULL) != TT_OK)
		fail(sim, "no memory");
}

static void close_sim(struct sim *sim)
{
	const struct tt_scheduler *s = &sim->scheduler;
	sim->n_shared += s->n_shared;
	sim->n_preemptions += s->n_preemptions;
	sim->n_reruns += s->n_reruns;
	sim->n_wasted += s->n_wasted;
	if (s->pool.n_free + s->pool.n_idle != s->pool.n_pages || s->n_free_rows + 1 != s->limits.n_rows)
		fail(sim, "nothing runs, and %u pages and %u rows are free", s->pool.n_free + s->pool.n_idle,
			s->n_free_rows);
	for (uint32_t i = 0; i < MAX_REQUESTS; i++)
		tt_sequence_close(&sim->requests[i].sequence);
	memset(sim->requests, 0, sizeof sim->requests);
	free(sim->device.cells);
	free(sim->device.sums);
	free(sim->device.coef);
	tt_scheduler_close(&sim->scheduler);
}

/* Something comes from outside: requests, cancelling, the kill switch. */
static uint32_t disturb(struct sim *sim, bool more)
{
	struct tt_scheduler *s = &sim->scheduler;
	struct request *r = &sim->requests[draw(sim, MAX_REQUESTS)];
	sim->now += 0.1 * draw(sim, 10);
	if (more && !r->live && draw(sim, 8) < sim->load) {
		tt_sequence_close(&r->sequence);
		submit(sim, r);
	} else if (r->live && draw(sim, 40) == 0) {
		tt_scheduler_finish(s, &r->sequence, TT_FINISH_CANCELLED);
	}
	if (draw(sim, 400) == 0)
		s->killed = true;
	else if (s->killed && draw(sim, 5) == 0)
		s->killed = false;
	tt_scheduler_expire(s, sim->now);
	for (uint32_t i = 0; i < MAX_REQUESTS; i++)
		if (sim->requests[i].live && sim->requests[i].sequence.deadline > 0 &&
			sim->requests[i].sequence.deadline <= sim->now)
			fail(sim, "a request outlives its deadline");
	return s->n_waiting + s->n_running;
}

static void collect(struct sim *sim)
{
	uint64_t number = sim->scheduler.n_collected + 1;
	struct tt_results results = sim_results(&sim->device, number);
	tt_scheduler_collect(&sim->scheduler, &results);
}

/* What a sequence has below its depth is right only by chance, if others of the step need those layers. */
static void spoil(struct sim *sim, const struct tt_scheduled_step *plan)
{
	for (uint32_t i = 0; i < plan->n_planned; i++) {
		const struct tt_planned *p = &plan->planned[i];
		for (uint32_t t = 0; p->sequence->depth < SIM_LAYERS && t < p->n_tokens; t++)
			sim_cell_at(&sim->device, plan->step, p->first_token + t, p->position + t)->late = 0;
	}
}

static void step(struct sim *sim)
{
	struct tt_scheduler *s = &sim->scheduler;
	const struct tt_scheduled_step *plan;
	struct tt_error err;
	if (tt_scheduler_plan(s, &plan, &err) != TT_OK)
		fail(sim, "%s", err.message);
	bool runs = plan->step->n_tokens > 0;
	if (runs) {
		check_oldest(sim, plan);
		if (sim->fault)
			plant(sim, &s->plans[s->n_planned % TT_MAX_IN_FLIGHT]);
		check_plan(sim, plan);
		for (uint32_t i = 0; i < plan->n_restores; i++)
			memcpy(sim->device.coef[plan->restores[i].row], plan->restores[i].coef,
				sizeof *sim->device.coef);
		sim_run(&sim->device, plan->step, s->n_planned);
		spoil(sim, plan);
	}
	if (draw(sim, 1000) == 0) { /* the device failed: what its pages hold is lost */
		memset(sim->device.cells, 0xee, (size_t)s->pool.n_pages * TT_PAGE_TOKENS * sizeof *sim->device.cells);
		memset(sim->device.sums, 0xee, s->pool.n_pages * sizeof *sim->device.sums);
		tt_scheduler_abandon(s);
		sim->n_failed++;
	}
	while (s->n_planned - s->n_collected > (runs ? sim->in_flight - 1 : 0))
		collect(sim);
	check_pages(sim);
	check_rows(sim);
	if (sim->n_steps % 4 == 0)
		check_cells(sim);
	sim->n_steps++;
}

static void run_seed(struct sim *sim, uint64_t seed)
{
	uint64_t begun = sim->n_steps;
	sim->seed = seed;
	sim->random = sim_hash(seed + 1);
	sim->now = 1;
	sim->n_idle = 0;
	open_sim(sim);
	for (bool more = true; disturb(sim, more) > 0 || more;) {
		step(sim);
		more = sim->n_steps - begun < STEPS_A_SEED;
		if (sim->n_steps - begun > 3 * STEPS_A_SEED)
			fail(sim, "the last requests do not end");
	}
	while (sim->scheduler.n_planned > sim->scheduler.n_collected)
		collect(sim);
	close_sim(sim);
}

int main(int argc, char **argv)
{
	static struct sim sim;
	const char *const faults[] = {"", "leak", "drop", "swap", "stale", "starve", "claim", "record", "shallow"};
	uint64_t n_steps = 100000, seed = 0;
	bool one = false;
	for (int i = 1; i + 1 < argc; i += 2) {
		if (!strcmp(argv[i], "--steps"))
			n_steps = strtoull(argv[i + 1], NULL, 10);
		if (!strcmp(argv[i], "--seed"))
			one = true, seed = strtoull(argv[i + 1], NULL, 10);
		for (int f = LEAK; !strcmp(argv[i], "--fault") && f <= SHALLOW; f++)
			if (!strcmp(argv[i + 1], faults[f]))
				sim.fault = (enum fault)f;
	}
	do {
		run_seed(&sim, seed++);
	} while (!one && sim.n_steps < n_steps);
	printf("%llu steps, %llu requests finished, %llu cancelled, %llu too late, %llu device failures;\n"
	       "%llu tokens shared, %llu pre-emptions, %llu reruns, %llu rows wasted: all as it should be\n",
		(unsigned long long)sim.n_steps, (unsigned long long)sim.n_finished,
		(unsigned long long)sim.n_cancelled, (unsigned long long)sim.n_late, (unsigned long long)sim.n_failed,
		(unsigned long long)sim.n_shared, (unsigned long long)sim.n_preemptions,
		(unsigned long long)sim.n_reruns, (unsigned long long)sim.n_wasted);
	return 0;
}
