/* What a decode step costs each rank of emulated GPUs, by the counters of its own process: calls, exchanges, and its
 * part of what is read. */
#include <stdlib.h>
#include <unistd.h>

#include "../golden.h"
#include "../random.h"
#include "kernels/shard.h"
#include "tests/emu/counted.h"

enum { MOST_RANKS = 4, MOST_ROWS = 32, PROMPT = 3, EARLIER_STEPS = 9 };

/* How an engine is asked: rows of one sequence each, the first n_policies of them under a policy of their own. */
struct way {
	const char *model;
	uint32_t n_ranks, n_rows, n_policies;
};

static struct tt_engine *open_way(const struct way *way)
{
	struct tt_engine_options options;
	struct tt_engine *engine = NULL;
	tt_engine_options_default(&options);
	setenv("TT_EMU_DEVICES", "16", 1);
	tt_emu_reset(TT_EMU_FORWARD, 5);
	options.device = TEST_DEVICE;
	options.n_threads = way->n_ranks;
	options.max_batch = way->n_rows;
	options.max_step_tokens = way->n_rows; /* prompts in several steps: one of many rows takes seconds here */
	options.context = 32;
	options.kv_tokens = 32 * way->n_rows;
	options.n_ranks = way->n_ranks;
	must(tt_engine_open(&engine, way->model, &options, err));
	return engine;
}

/* Adds a direction of its own on every layer to every token. */
static struct tt_policy *make_policy(struct tt_engine *engine, uint64_t state)
{
	const struct tt_model_info *info = tt_engine_info(engine);
	struct tt_policy *p = NULL;
	must(tt_policy_new(&p, info->n_layers, info->hidden_size, 1, err));
	for (size_t i = 0; i < (size_t)info->n_layers * info->hidden_size; i++)
		p->directions[i] = (float)(next_random(&state) % 1000) / 500 - 1;
	for (uint32_t l = 0; l < info->n_layers; l++)
		p->weights[l] = 1;
	p->alpha = 0.01f;
	p->when = TT_WHEN_ALL;
	policy_adopt(engine, p);
	return p;
}

static struct tt_request *submit(struct tt_engine *engine, uint32_t row, struct tt_policy *policy)
{
	const int32_t ids[PROMPT] = {(int32_t)(row % 100), 5, 6};
	struct tt_request_options options;
	struct tt_request *request;
	tt_request_options_default(&options);
	options.ids = ids;
	options.n_ids = PROMPT;
	options.max_tokens = 16;
	options.ignore_eos = true;
	options.n_steering = policy != NULL;
	options.steering[0] = (struct tt_steering){policy, 1};
	must(tt_request_submit(&request, engine, &options, err));
	return request;
}

/* Of each other rank the step of that number, from 1 on; rank 0's is there already. */
static void read_others(const char *path, const struct way *way, uint64_t step, struct counted *out)
{
	uint64_t n_steps[MOST_RANKS] = {0};
	struct counted read;
	FILE *file = fopen(path, "rb");
	while (file && fread(&read, sizeof read, 1, file) == 1)
		if (read.rank < way->n_ranks && read.all.copies_out && ++n_steps[read.rank] == step)
			out[read.rank] = read;
	if (file)
		fclose(file);
	for (uint32_t rank = 1; rank < way->n_ranks; rank++)
		cr_assert_eq(out[rank].rank, rank, "rank %u has told of no such step", rank);
}

/* A decode step from a graph, [n_ranks]. */
static void count(const struct way *way, struct counted *out)
{
	char path[] = "emu-rank-steps-XXXXXX";
	struct tt_policy *policies[MOST_ROWS];
	struct tt_request *requests[MOST_ROWS];
	struct tt_engine_stats stats;
	close(mkstemp(path));
	setenv(COUNTED_FILE, path, 1);
	struct tt_engine *engine = open_way(way);
	for (uint32_t i = 0; i < way->n_rows; i++) {
		policies[i] = i < way->n_policies ? make_policy(engine, i) : NULL;
		requests[i] = submit(engine, i, policies[i]);
	}
	/* Prompts; a bucket's first step; the one that is captured; and some more, since the host waits for a step when
	 * it has launched the next. */
	for (int i = 0; i < EARLIER_STEPS; i++)
		must(tt_engine_step(engine, err));
	tt_emu_clear_counters();
	must(tt_engine_step(engine, err));
	memset(out, 0, way->n_ranks * sizeof *out);
	out[0] = counted_now(0);
	tt_engine_stats(engine, &stats);
	for (uint32_t i = 0; i < way->n_rows; i++)
		tt_request_free(requests[i]);
	tt_engine_close(engine); /* the others have ended */
	for (uint32_t i = 0; i < way->n_policies; i++)
		tt_policy_free(policies[i]);
	read_others(path, way, stats.n_steps, out);
	unlink(path);
}

static void check_calls(const struct counted *rank, uint64_t exchanges)
{
	const struct tt_emu_counters *c = &rank->all;
	cr_expect_eq(c->copies_in, 1, "rank %u copies in %llu times", rank->rank, (unsigned long long)c->copies_in);
	cr_expect_eq(c->graph_launches, 1, "rank %u launches %llu graphs", rank->rank,
		(unsigned long long)c->graph_launches);
	cr_expect_eq(c->host_launches + c->sets + c->copies_within, 0,
		"rank %u launches %llu kernels, and clears %llu times", rank->rank,
		(unsigned long long)c->host_launches, (unsigned long long)c->sets);
	cr_expect_eq(c->copies_out, 1, "rank %u copies out %llu times", rank->rank, (unsigned long long)c->copies_out);
	cr_expect_eq(c->waits, 1, "rank %u waits %llu times", rank->rank, (unsigned long long)c->waits);
	cr_expect_eq(c->collectives, exchanges, "rank %u has %llu exchanges", rank->rank,
		(unsigned long long)c->collectives);
	cr_expect(rank->rank == 0 || c->bytes_out <= 16, "rank %u copies out %llu bytes", rank->rank,
		(unsigned long long)c->bytes_out);
}

Test(emu_rank_steps, a_copy_a_launch_a_copy_and_a_wait)
{
	static const struct way ways[] = {{"dummy:tiny", 1, 3, 0}, {"dummy:tiny", 2, 1, 0}, {"dummy:tiny", 2, 3, 2},
		{GOLDEN("tiny-k/tiny-k.q4_k.gguf"), 4, 3, 2}, {GOLDEN("tiny-gemma3"), 2, 3, 2}};
	for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
		struct counted ranks[MOST_RANKS];
		struct tt_model *host = NULL;
		must(tt_model_open(&host, ways[i].model, err));
		uint64_t exchanges = ways[i].n_ranks > 1 ? 4 * host->config.n_layers + 1 : 0;
		tt_model_close(host);
		count(&ways[i], ranks);
		for (uint32_t rank = 0; rank < ways[i].n_ranks; rank++)
			check_calls(&ranks[rank], exchanges);
	}
}

static void check_part(uint64_t part, uint64_t whole, uint32_t n_parts, double share, uint32_t rank, const char *what)
{
	double off = (double)part * n_parts / (double)whole - 1;
	printf("rank %u of %u reads %llu bytes of %s where one of one reads %llu: %+.2f%%\n", rank, n_parts,
		(unsigned long long)part, what, (unsigned long long)whole, 100 * off);
	cr_expect(whole > 0 && off <= share && off >= -share, "rank %u of %u reads %llu bytes of %s, all are %llu",
		rank, n_parts, (unsigned long long)part, what, (unsigned long long)whole);
}

/* A rank's part, within 1%, of weights and of keys and values; and of the directions of as many policies as rows, but
 * for the coefficients, which each rank reads once to compare them. */
Test(emu_rank_steps, a_rank_reads_its_part)
{
	static const struct way wholes[] = {
		{"dummy:tiny", 1, 3, 3}, {"dummy:flat", 1, 8, 8}, {GOLDEN("tiny-llama/tiny-llama.q8_0.gguf"), 1, 3, 3}};
	static const uint32_t n_ranks[] = {2, 4, 2};
	if (!tt_emu_counts_traffic())
		cr_skip_test("PTX does not say what kind of data it moves");
	for (size_t i = 0; i < sizeof wholes / sizeof *wholes; i++) {
		struct counted one, ranks[MOST_RANKS];
		struct way way = wholes[i];
		count(&way, &one);
		way.n_ranks = n_ranks[i];
		count(&way, ranks);
		for (uint32_t rank = 0; rank < way.n_ranks; rank++) {
			const struct tt_emu_traffic *loads = ranks[rank].all.loads, *all = one.all.loads;
			check_part(ranks[rank].weights, one.weights, way.n_ranks, 0.01, rank, "weights");
			check_part(loads[TT_TRAFFIC_KV].bytes, all[TT_TRAFFIC_KV].bytes, way.n_ranks, 0.01, rank, "KV");
			check_part(loads[TT_TRAFFIC_DIRECTION].bytes, all[TT_TRAFFIC_DIRECTION].bytes, way.n_ranks,
				0.03, rank, "directions");
		}
	}
}

/* Bytes of the weights that a rank of several reads in a step, as bf16. */
static double weight_bytes(const char *model, uint32_t n_ranks, uint32_t *n_layers)
{
	struct tt_model *host = NULL, *part = NULL;
	struct tt_shard shard;
	must(tt_model_open(&host, model, err));
	must(tt_shard_open(&shard, &host->config, 0, n_ranks, err));
	must(tt_shard_model_open(&part, host, &shard, err));
	double n = (double)part->output.n_out * part->output.n_in;
	for (uint32_t l = 0; l < part->config.n_layers; l++) {
		const struct tt_layer *layer = &part->layers[l];
		const struct tt_matrix *all[] = {
			&layer->wq, &layer->wk, &layer->wv, &layer->wo, &layer->w_gate, &layer->w_up, &layer->w_down};
		for (size_t i = 0; i < sizeof all / sizeof *all; i++)
			n += (double)all[i]->n_out * all[i]->n_in;
	}
	*n_layers = part->config.n_layers;
	tt_shard_model_close(part);
	tt_model_close(host);
	return 2 * n;
}

/* 256 rows under 256 policies, on 8 ranks with a model of 70B: a layer's directions are counted on a rank that has as
 * many columns of h, 1024, and nearly nothing else, for 32 of the rows, since a step of all takes the emulator so long
 * that its ranks seem to stand still; its weights follow from their shapes. Keys and values are left out: with them
 * directions are less of a step. */
Test(emu_rank_steps, directions_of_256_policies_are_little)
{
	enum { ROWS = 256, COUNTED_ROWS = 32 };
	static const struct way way = {"dummy:flat", 2, COUNTED_ROWS, COUNTED_ROWS};
	struct counted ranks[MOST_RANKS];
	uint32_t n_layers;
	if (!tt_emu_counts_traffic())
		cr_skip_test("PTX does not say what kind of data it moves");
	double weights = weight_bytes("dummy:llama-3.1-70b", 8, &n_layers);
	count(&way, ranks);
	for (uint32_t rank = 0; rank < way.n_ranks; rank++) {
		double counted = (double)ranks[rank].all.loads[TT_TRAFFIC_DIRECTION].bytes;
		double directions = n_layers * counted * ROWS / COUNTED_ROWS;
		double share = directions / (directions + weights);
		printf("256 policies, 70B on 8 ranks: %.1f MB of directions, %.2f GB of weights: %.3f%%\n",
			1e-6 * directions, 1e-9 * weights, 100 * share);
		cr_expect(directions >= n_layers * (double)ROWS * 1024 * 4 && share <= 0.006, "%.3f%%", 100 * share);
	}
}
