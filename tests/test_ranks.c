/* Ranks, a process each: whatever a model is and whatever steers it, the bits of two, three and four are those of one,
 * which other suites hold against PyTorch. On the CPU, and on emulated GPUs with an emulated NCCL. Batches, shared
 * pages and pre-emption by ranks are in test_scheduling. */
#include <unistd.h>

#include "golden.h"
#include "base/fail.h"
#include "kernels/backend.h"
#include "random.h"
#ifdef TT_TEST_CUDA
#include "kernels/emu/emu.h"
#endif

enum { CONTEXT = 160, MAX_PROMPT = 100, N_GENERATED = 5 };
#ifdef TT_TEST_CUDA
enum { GRANULE = TT_CUDA_GRANULE };
#else
enum { GRANULE = 0 };
#endif

/* How an engine computes. twin: in bf16, as CUDA does. brief: short prompts alone, since the model is large. fast: with
 * steps that are long enough for it. */
struct way {
	uint32_t n_ranks;
	enum tt_compute compute;
	enum tt_kv_type kv;
	bool twin, brief, fast;
};

static struct tt_engine_options options_of(struct way way)
{
	struct tt_engine_options options;
	tt_engine_options_default(&options);
	setenv("TT_EMU_DEVICES", "16", 1);
	options.device = TEST_DEVICE;
	options.n_threads = 2;
	options.max_batch = 4;
	options.max_step_tokens = 64;
	options.context = CONTEXT;
	options.kv_tokens = 4 * CONTEXT;
	options.n_ranks = way.n_ranks;
	options.compute = way.compute;
	options.kv = way.kv;
	options.fast = way.fast;
	if (way.fast)
		options.max_batch = options.max_step_tokens = 256;
	return options;
}

static struct tt_engine *open_way(const char *model, struct way way)
{
	struct tt_engine_options options = options_of(way);
	struct tt_backend *backend = NULL;
	struct tt_engine *engine = NULL;
	if (way.twin)
		must(tt_cpu_open_bf16(&backend, 2, err));
	must(tt_engine_open_on(&engine, backend, model, &options, err));
	cr_assert_eq(tt_engine_info(engine)->n_ranks, way.n_ranks);
	return engine;
}

/* ---- What is compared ---- */

/* Numbers, one after another, as bytes. */
struct record {
	char *data;
	size_t n, capacity;
};

static void keep(struct record *record, const void *data, size_t n_bytes)
{
	while (record->n + n_bytes > record->capacity) {
		record->capacity = record->capacity ? 2 * record->capacity : 1 << 16;
		record->data = realloc(record->data, record->capacity);
	}
	memcpy(record->data + record->n, data, n_bytes);
	record->n += n_bytes;
}

static void keep_tokens(struct record *record, struct tt_request *request)
{
	struct tt_token token;
	while (tt_request_next(request, &token)) {
		keep(record, &token.id, sizeof token.id);
		keep(record, &token.logprob, sizeof token.logprob);
	}
}

static void check_same(const struct record *got, const struct record *want, const char *what, uint32_t n_ranks)
{
	size_t at = 0, n = got->n < want->n ? got->n : want->n;
	while (at < n && got->data[at] == want->data[at])
		at++;
	cr_assert(want->n > 0 && got->n == want->n && at == n, "%s, %u ranks: byte %zu of %zu differs", what, n_ranks,
		at, want->n);
}

/* ---- Models ---- */

/* Prompts of some lengths, greedy and sampled, with the logits of all their tokens. */
static struct record run_prompts(const char *model, struct way way)
{
	static const size_t lengths[] = {1, 7, 23, 60, MAX_PROMPT};
	enum { N = sizeof lengths / sizeof *lengths };
	struct tt_engine *engine = open_way(model, way);
	struct tt_request *requests[N];
	struct record record = {0};
	size_t n = way.brief ? 2 : N;
	size_t vocab = tt_engine_info(engine)->vocab_size;
	for (size_t i = 0; i < n; i++) {
		int32_t ids[MAX_PROMPT];
		uint64_t state = i;
		struct tt_request_options options;
		tt_request_options_default(&options);
		options.ids = ids;
		options.n_ids = lengths[i];
		for (size_t k = 0; k < lengths[i]; k++)
			ids[k] = (int32_t)(next_random(&state) % vocab);
		options.max_tokens = N_GENERATED;
		options.ignore_eos = true;
		options.keep_logits = true;
		options.sampling.temperature = i % 2 ? 0.9f : 0;
		options.sampling.seed = i;
		must(tt_request_submit(&requests[i], engine, &options, err));
	}
	for (size_t i = 0; i < n; i++) {
		must(tt_request_wait(requests[i], err));
		keep(&record, tt_request_logits(requests[i]), lengths[i] * vocab * sizeof(float));
		keep_tokens(&record, requests[i]);
		tt_request_free(requests[i]);
	}
	tt_engine_close(engine);
	return record;
}

/* gpu-check says how many GPUs there are. */
static uint32_t most_ranks(void)
{
	const char *given = getenv("TT_RANKS");
	uint32_t n = given ? (uint32_t)atoi(given) : 4;
	return n < 4 ? n : 4;
}

/* Gives how many numbers of ranks the model was cut into. */
static int check_model(const char *model, struct way way)
{
	int n_cut = 0;
	struct tt_model *host = NULL;
	way.n_ranks = 1;
	struct record want = run_prompts(model, way);
	must(tt_model_open(&host, model, err));
	for (way.n_ranks = 2; way.n_ranks <= most_ranks(); way.n_ranks++) {
		if (tt_shard_check(&host->config, way.n_ranks, GRANULE, NULL) != TT_OK)
			continue;
		struct record got = run_prompts(model, way);
		check_same(&got, &want, model, way.n_ranks);
		free(got.data);
		n_cut++;
	}
	tt_model_close(host);
	free(want.data);
	return n_cut;
}

/* want_cut: on a CPU, which wants no multiples of columns. */
static void check_models(const char *const *models, size_t n, struct way way, int want_cut)
{
	for (size_t i = 0; i < n; i++) {
		int n_cut = check_model(models[i], way);
		cr_assert(GRANULE > 0 && !way.twin ? n_cut >= 1 : n_cut == want_cut, "%s: %d", models[i], n_cut);
	}
}

static const struct way F32 = {.compute = TT_COMPUTE_F32};
#ifndef TT_TEST_CUDA
static const struct way Q8 = {.compute = TT_COMPUTE_Q8}, TWIN = {.twin = true};
#endif
#define N(list) (sizeof(list) / sizeof *(list))

Test(ranks, families_have_the_bits_of_one_rank)
{
	static const char *const models[] = {GOLDEN("tiny-llama"), GOLDEN("tiny-llama3"), GOLDEN("tiny-linear"),
		GOLDEN("tiny-mistral"), GOLDEN("tiny-qwen2"), GOLDEN("tiny-qwen3")};
	static const char *const two_heads[] = {GOLDEN("tiny-phi3")};
	check_models(models, N(models), F32, 2);
	check_models(two_heads, N(two_heads), F32, 1);
}

/* A norm after each product, which is of the whole row. */
Test(ranks, gemma_has_the_bits_of_one_rank)
{
	static const char *const models[] = {
		GOLDEN("tiny-gemma2"), GOLDEN("tiny-gemma3"), GOLDEN("tiny-gemma3-vision")};
	check_models(models, N(models), F32, 2);
}

static const char *const LLAMAS[] = {GOLDEN("tiny-llama/tiny-llama.f32.gguf"), GOLDEN("tiny-llama/tiny-llama.f16.gguf"),
	GOLDEN("tiny-llama/tiny-llama.bf16.gguf"), GOLDEN("tiny-llama/tiny-llama.q8_0.gguf"),
	GOLDEN("tiny-llama/tiny-llama.q4_0.gguf"), GOLDEN("tiny-llama/tiny-llama.q4_1.gguf"),
	GOLDEN("tiny-llama/tiny-llama.q5_0.gguf"), GOLDEN("tiny-llama/tiny-llama.iq4_nl.gguf")};
static const char *const OTHERS[] = {GOLDEN("tiny-gemma2/tiny-gemma2.q8_0.gguf"),
	GOLDEN("tiny-gemma3/tiny-gemma3.q8_0.gguf"), GOLDEN("tiny-qwen2/tiny-qwen2.q8_0.gguf"),
	GOLDEN("tiny-qwen3/tiny-qwen3.q8_0.gguf")};
static const char *const K_TYPES[] = {
	GOLDEN("tiny-k/tiny-k.q4_k.gguf"), GOLDEN("tiny-k/tiny-k.q5_k.gguf"), GOLDEN("tiny-k/tiny-k.q6_k.gguf")};

Test(ranks, types_have_the_bits_of_one_rank)
{
	check_models(LLAMAS, N(LLAMAS), F32, 2);
}

/* Of all matrices in the last, which is enough for an emulated device. */
static const char *const FP8[] = {
#ifndef TT_TEST_CUDA
	GOLDEN("tiny-fp8-block"), GOLDEN("tiny-fp8-channel"),
#endif
	GOLDEN("tiny-fp8-output")};

Test(ranks, other_types_have_the_bits_of_one_rank)
{
	check_models(FP8, N(FP8), F32, 2);
	check_models(OTHERS, N(OTHERS), F32, 2);
	check_models(K_TYPES, N(K_TYPES), F32, 2);
	cr_assert_eq(check_model(GOLDEN("tiny-phi3/tiny-phi3.q8_0.gguf"), F32), 1);
}

#ifndef TT_TEST_CUDA
Test(ranks, q8_has_the_bits_of_one_rank)
{
	check_models(LLAMAS + 3, N(LLAMAS) - 3, Q8, 2);
	check_models(K_TYPES, N(K_TYPES), Q8, 2);
}

Test(ranks, the_bf16_twin_has_the_bits_of_one_rank)
{
	static const char *const models[] = {GOLDEN("tiny-llama"), GOLDEN("tiny-llama3"), GOLDEN("tiny-mistral"),
		GOLDEN("tiny-qwen2"), GOLDEN("tiny-qwen3"), GOLDEN("tiny-llama/tiny-llama.q4_1.gguf")};
	check_models(models, N(models), TWIN, 2);
}

/* A head's numbers are cut into groups of 32 in q8: of the tiny models one has such heads. */
Test(ranks, every_kv_type_has_the_bits_of_one_rank)
{
	static const enum tt_kv_type types[] = {TT_KV_F16, TT_KV_FP8, TT_KV_Q8};
	for (size_t i = 0; i < N(types); i++) {
		struct way way = {.kv = types[i]};
		cr_assert_eq(check_model(GOLDEN("tiny-k/tiny-k.q6_k.gguf"), way), 2);
		way.compute = TT_COMPUTE_Q8;
		cr_assert_eq(check_model(GOLDEN("tiny-k/tiny-k.q4_k.gguf"), way), 2);
	}
}

/* 9 heads and 3 key heads. */
Test(ranks, three_ranks_have_the_bits_of_one)
{
	if (access(SMOLLM2, R_OK))
		cr_skip_test("no %s", SMOLLM2);
	cr_assert_eq(check_model(SMOLLM2, (struct way){.brief = true}), 1);
}
#endif

/* ---- Steering ---- */

/* Every operation in every form behind every gate that has one, on all layers; when goes round. */
static struct tt_policy *make_policy(
	struct tt_engine *engine, uint32_t op, uint32_t form, uint32_t gate, uint32_t index)
{
	static const uint32_t observed[] = {0, 1};
	const struct tt_model_info *info = tt_engine_info(engine);
	const struct tt_gate *row = tt_gate_of(gate);
	const struct tt_policy_row *rows[] = {&tt_operation_of(op)->row, &row->row};
	const struct tt_gate_choice choice = {.gate = gate,
		.pool = row->observes ? index % 3 : 0,
		.observed = observed,
		.n_observed = row->observes ? 1 + index % 2 : 0,
		.n_units = row->units ? 5 : 0,
		.conditions = row->rule ? "a,b below" : NULL,
		.rule = row->rule ? "a or b" : NULL};
	struct tt_policy *p = NULL;
	uint64_t state = index;
	uint32_t n_rows = tt_operation_of(op)->max_rows < 2 ? 1 : 2;
	must(tt_policy_new(&p, info->n_layers, info->hidden_size, n_rows, err));
	must(tt_policy_set_operation(p, op, err));
	must(tt_policy_set_gate(p, &choice, err));
	p->form = form;
	for (int r = 0; r < 2; r++)
		for (uint32_t i = 0; i < rows[r]->n_tensors; i++) {
			float *values = tt_tensor_values(p, &rows[r]->tensors[i]);
			for (size_t k = 0; k < tt_tensor_size(p, rows[r]->tensors[i].shape); k++)
				values[k] = (float)(next_random(&state) % 1000) / 500 - 1;
		}
	for (uint32_t l = 0; l < info->n_layers; l++)
		p->weights[l] = 1;
	p->alpha = 0.5f;
	p->when = index % 3;
	policy_adopt(engine, p);
	return p;
}

enum { MAX_POLICIES = 120 };

/* plain: directions that are added, and nothing else, which GPUs steer by columns. */
static uint32_t make_policies(struct tt_engine *engine, bool plain, struct tt_policy *policies[MAX_POLICIES])
{
	uint32_t n = 0;
	for (uint32_t i = 0; plain && i < 8 * tt_n_gates(); i++, n++)
		policies[n] = make_policy(engine, TT_OP_ADD, 0, i % tt_n_gates(), n);
	for (uint32_t gate = 0; !plain && gate < tt_n_gates(); gate++)
		for (uint32_t op = 0; op < tt_n_operations(); op++)
			for (uint32_t form = 0; form < (tt_operation_of(op)->row.form.key ? TT_MAX_ROW_FORMS : 1);
				form++) {
				cr_assert(n < MAX_POLICIES);
				policies[n] = make_policy(engine, op, form, gate, n);
				n++;
			}
	return n;
}

static void submit_steered(
	struct tt_request **out, struct tt_engine *engine, struct tt_policy *const *policies, uint32_t n, uint32_t i)
{
	static const uint64_t every_layer[(TT_MAX_LAYERS + 63) / 64] = {~0ull};
	struct tt_request_options options;
	int32_t ids[MAX_PROMPT];
	uint64_t state = i % 5;
	tt_request_options_default(&options);
	options.ids = ids;
	options.n_ids = 9 + i % 13;
	for (size_t k = 0; k < options.n_ids; k++)
		ids[k] = (int32_t)(next_random(&state) % tt_engine_info(engine)->vocab_size);
	options.max_tokens = 3;
	options.ignore_eos = true;
	options.keep_layers = i % 2 ? every_layer : NULL;
	options.when = (enum tt_policy_when)((int)(i % 4) - 1);
	options.trace = i % 5 == 3;
	options.n_steering = 1 + i % 3 / 2;
	options.steering[0] = (struct tt_steering){policies[i], 1};
	options.steering[1] = (struct tt_steering){policies[(i + 7) % n], 0.5f};
	must(tt_request_submit(out, engine, &options, err));
}

static uint32_t keep_decisions(struct record *record, const struct tt_request *request, uint32_t n_layers)
{
	struct tt_decision decision;
	uint32_t n_open = 0;
	for (uint32_t k = 0; tt_request_decision(request, k, &decision); k++) {
		keep(record, &decision.s, sizeof decision.s);
		keep(record, &decision.gate, sizeof decision.gate);
		keep(record, decision.coef, n_layers * sizeof *decision.coef);
		n_open += decision.s != 0;
	}
	return n_open;
}

/* Tokens, decisions, norms of some, and, of every second request, the hidden states of all layers. */
static struct record run_steered(const char *model, struct way way, bool plain, uint32_t *n_open)
{
	struct tt_engine *engine = open_way(model, way);
	const struct tt_model_info *info = tt_engine_info(engine);
	struct tt_policy *policies[MAX_POLICIES];
	struct tt_request *requests[MAX_POLICIES];
	struct record record = {0};
	uint32_t n = make_policies(engine, plain, policies);
	size_t n_norms = 0;
	*n_open = 0;
	for (uint32_t i = 0; i < n; i++)
		submit_steered(&requests[i], engine, policies, n, i);
	for (uint32_t i = 0; i < n; i++) {
		must(tt_request_wait(requests[i], err));
		*n_open += keep_decisions(&record, requests[i], info->n_layers);
		for (uint32_t l = 0; i % 2 && l < info->n_layers; l++)
			keep(&record, tt_request_hidden(requests[i], l),
				(9 + i % 13) * info->hidden_size * sizeof(float));
		keep_tokens(&record, requests[i]);
		const float *norms = tt_request_norms(requests[i], &n_norms);
		if (norms)
			keep(&record, norms, n_norms * info->n_layers * 2 * sizeof *norms);
		tt_request_free(requests[i]);
	}
	tt_engine_close(engine);
	for (uint32_t i = 0; i < n; i++)
		tt_policy_free(policies[i]);
	return record;
}

/* GPUs cut no tiny model but tiny-k into more than two. */
enum { MOST_CUT = GRANULE ? 2 : 4 };

static void check_steered(const char *model, struct way way, bool plain)
{
	uint32_t n_open, n_open_there;
	way.n_ranks = 1;
	struct record want = run_steered(model, way, plain, &n_open);
	for (way.n_ranks = 2; way.n_ranks <= MOST_CUT; way.n_ranks += 2) {
		struct record got = run_steered(model, way, plain, &n_open_there);
		check_same(&got, &want, model, way.n_ranks);
		cr_assert(n_open > 30 && n_open == n_open_there, "%u gates are open", n_open);
		free(got.data);
	}
	free(want.data);
}

Test(ranks, every_operation_behind_every_gate_has_the_bits_of_one_rank)
{
	check_steered(GOLDEN("tiny-llama/tiny-llama.q8_0.gguf"), F32, false);
}

Test(ranks, added_directions_have_the_bits_of_one_rank)
{
	check_steered(GOLDEN("tiny-llama/tiny-llama.q8_0.gguf"), F32, true);
	check_steered(GOLDEN("tiny-qwen2"), F32, true);
}

Test(ranks, steered_gemma_has_the_bits_of_one_rank)
{
	check_steered(GOLDEN("tiny-gemma3"), F32, false);
}

#ifndef TT_TEST_CUDA
Test(ranks, the_steered_twin_has_the_bits_of_one_rank)
{
	check_steered(GOLDEN("tiny-qwen2"), TWIN, false);
}
#endif

Test(ranks, captures_are_the_same_files)
{
	static const int32_t ids[] = {5, 6, 7, 80, 9, 10, 11, 200, 13, 14, 15, 16, 17, 18, 19, 20, 21};
	struct record files[3] = {{0}};
	for (uint32_t i = 0; i < 1 + MOST_CUT / 2; i++) {
		char path[] = "test-ranks-XXXXXX", chunk[4096];
		size_t n;
		struct tt_engine *engine = open_way(GOLDEN("tiny-llama"), (struct way){.n_ranks = 1 + i + i / 2});
		struct tt_policy *policy = make_policy(engine, TT_OP_ABLATE, 0, TT_GATE_PROBE, 1);
		const struct tt_steering steering = {policy, 1};
		const struct tt_capture_options options = {.size = sizeof options,
			.ids = ids,
			.n_ids = N(ids),
			.mean = true,
			.n_steering = 1,
			.steering = &steering};
		close(mkstemp(path));
		must(tt_capture(engine, &options, path, err));
		FILE *file = fopen(path, "rb");
		while ((n = fread(chunk, 1, sizeof chunk, file)) > 0)
			keep(&files[i], chunk, n);
		fclose(file);
		unlink(path);
		tt_engine_close(engine);
		tt_policy_free(policy);
		check_same(&files[i], &files[0], "a captured file", 1 + i + i / 2);
	}
	for (int i = 0; i < 3; i++)
		free(files[i].data);
}

/* ---- What each rank has ---- */

Test(ranks, pages_are_cut_by_key_heads)
{
	static const struct {
		const char *model;
		uint32_t n_ranks, parts;
	} cases[] = {{GOLDEN("tiny-llama"), 2, 2}, {GOLDEN("tiny-qwen2"), 2, 1}, {GOLDEN("tiny-llama"), 4, 2},
		{GOLDEN("tiny-qwen2"), 4, 1}};
	for (size_t i = 0; i < N(cases) && cases[i].n_ranks <= MOST_CUT; i++) {
		struct tt_engine *whole = open_way(cases[i].model, (struct way){.n_ranks = 1});
		struct tt_engine *engine = open_way(cases[i].model, (struct way){.n_ranks = cases[i].n_ranks});
		cr_expect_eq(engine->rank.kv.n_bytes * cases[i].parts, whole->rank.kv.n_bytes, "%s, rank 0 of %u",
			cases[i].model, cases[i].n_ranks);
		cr_expect_eq(tt_engine_info(engine)->kv_bytes,
			tt_engine_info(whole)->kv_bytes * cases[i].n_ranks / cases[i].parts);
		tt_engine_close(engine);
		tt_engine_close(whole);
	}
}

/* ---- What is refused; what fails is in test_ranks_failures ---- */

Test(ranks, what_cannot_be_is_refused_by_name)
{
	struct tt_engine_options options = options_of((struct way){.n_ranks = 3});
	struct tt_engine *engine = NULL;
	struct tt_backend *backend = NULL;
	struct tt_error error = {0};
	cr_assert_eq(tt_engine_open(&engine, GOLDEN("tiny-llama"), &options, &error), TT_ERR_UNSUPPORTED);
	cr_assert(strstr(error.message,
			  GRANULE ? "a hidden_size of 64 and an ffn_size of 160, in parts of 16x, cannot be cut into 3 "
				    "ranks (--tp), only into 1, 2"
				  : "cannot be cut into 3 ranks (--tp), only into 1, 2, 4"),
		"%s", error.message);
	options.n_ranks = 17;
	cr_assert_eq(tt_engine_open(&engine, GOLDEN("tiny-llama"), &options, &error), TT_ERR_ARGUMENT);
	cr_assert(strstr(error.message, "n_ranks must be at most 16"), "%s", error.message);
	options.n_ranks = 2;
	must(tt_cpu_open(&backend, 1, err));
	backend->join = NULL;
	backend->name = "cuda";
	cr_assert_eq(tt_engine_open_on(&engine, backend, GOLDEN("tiny-llama"), &options, &error), TT_ERR_UNSUPPORTED);
	cr_assert(strstr(error.message, "cuda runs on one rank (--tp)"), "%s", error.message);
}

#ifdef TT_TEST_CUDA
/* ---- What a step costs a GPU ---- */

struct cost {
	uint64_t exchanges, kernels, kv;
	uint64_t weights;           /* by products */
	struct tt_emu_counters emu; /* of one step, from a graph */
};

/* Bytes of weights that products have read. */
static uint64_t product_weights(void)
{
	static const char *const names[] = {"qkv", "o_proj", "gate_up", "down_proj", "logits"};
	const struct tt_emu_kernel *kernels;
	size_t n = tt_emu_kernels(&kernels);
	uint64_t sum = 0;
	for (size_t i = 0; i < n; i++)
		for (size_t k = 0; k < N(names); k++)
			sum += strcmp(kernels[i].name, names[k]) ? 0
								 : kernels[i].counters.loads[TT_TRAFFIC_WEIGHT].bytes;
	return sum;
}

/* Of rank 0, in a decode step. */
static struct cost cost_of(const char *model, uint32_t n_ranks, uint32_t n_rows)
{
	enum { ROWS = 3 };
	struct tt_engine *engine = open_way(model, (struct way){.n_ranks = n_ranks});
	struct tt_request *requests[ROWS];
	struct cost cost = {0};
	for (uint32_t i = 0; i < n_rows; i++) {
		int32_t ids[] = {(int32_t)i, 5, 6};
		struct tt_request_options options;
		tt_request_options_default(&options);
		options.ids = ids;
		options.n_ids = N(ids);
		options.max_tokens = 12;
		options.ignore_eos = true;
		must(tt_request_submit(&requests[i], engine, &options, err));
	}
	/* the prompts; a bucket's first step; the one that is captured; one more, since the host lags by a step */
	for (int i = 0; i < 4; i++)
		must(tt_engine_step(engine, err));
	cost.exchanges = engine->rank.backend->counters->exchanges;
	tt_emu_clear_counters();
	must(tt_engine_step(engine, err));
	cost.emu = *tt_emu_counted();
	cost.kernels = cost.emu.launches;
	cost.weights = product_weights();
	cost.kv = cost.emu.loads[TT_TRAFFIC_KV].bytes;
	for (uint32_t i = 0; i < n_rows; i++)
		tt_request_free(requests[i]);
	tt_engine_close(engine);
	return cost;
}

/* Four exchanges a layer and one for logits: of a step of prompts, one of the bucket's first, and one that is captured.
 * What was exchanged is added to h by a kernel of its own, or placed by one, where there is more than a single row. A
 * rank reads its share of weights and keys. */
Test(ranks, a_step_has_four_exchanges_a_layer)
{
	enum { LAYERS = 3, TRACED_STEPS = 3, KERNELS_A_LAYER = 7, OTHER_KERNELS = 6 };
	struct cost one = cost_of("dummy:tiny", 1, 3), two = cost_of("dummy:tiny", 2, 3);
	struct cost single = cost_of("dummy:tiny", 2, 1);
	cr_expect_eq(one.exchanges, 0);
	cr_expect_eq(
		two.exchanges, TRACED_STEPS * (4 * LAYERS + 1), "%llu exchanges", (unsigned long long)two.exchanges);
	cr_expect_eq(single.kernels, KERNELS_A_LAYER * LAYERS + OTHER_KERNELS, "%llu kernels",
		(unsigned long long)single.kernels);
	cr_expect_eq(two.kernels, single.kernels + 2 * LAYERS + 1, "%llu kernels", (unsigned long long)two.kernels);
	cr_expect(two.emu.copies_in == 1 && two.emu.graph_launches == 1 && two.emu.waits == 1);
	cr_expect_eq(two.emu.copies_out, 1, "the results, and with them the word that ranks agree on");
	cr_expect_eq(two.emu.host_launches, 0);
	if (!tt_emu_counts_traffic())
		cr_skip_test("PTX does not say what kind of data it moves");
	cr_expect_eq(2 * two.weights, one.weights);
	cr_expect_eq(2 * two.kv, one.kv);
}

/* A hundred tokens from graphs, with the emulator's threads forward, backward and at random: tiny-llama's ranks have
 * columns that end inside a chunk of K, and both of tiny-qwen2's have its only key head. */
Test(ranks, graphs_replayed_in_every_order_have_the_bits_of_one_rank)
{
	enum { TOKENS = 104 };
	const char *const models[] = {GOLDEN("tiny-llama"), GOLDEN("tiny-qwen2")};
	for (size_t m = 0; m < N(models); m++) {
		struct record want = {0};
		for (uint32_t order = 0; order < TT_EMU_ORDERS + 1; order++) {
			const char name[] = {(char)('0' + order - (order > 0)), 0};
			struct record got = {0};
			struct tt_request *request = NULL;
			struct tt_request_options options;
			int32_t ids[] = {5, 6, 7};
			setenv("TT_EMU_ORDER", name, 1); /* of the other rank */
			tt_emu_reset((enum tt_emu_order)(order - (order > 0)), 9);
			struct tt_engine *engine = open_way(models[m], (struct way){.n_ranks = order ? 2 : 1});
			tt_request_options_default(&options);
			options.ids = ids;
			options.n_ids = N(ids);
			options.max_tokens = TOKENS;
			options.ignore_eos = true;
			options.sampling.temperature = 0.9f;
			must(tt_request_submit(&request, engine, &options, err));
			must(tt_request_wait(request, err));
			keep_tokens(&got, request);
			cr_expect(engine->rank.backend->counters->graph_launches > TOKENS - 10);
			tt_request_free(request);
			tt_engine_close(engine);
			cr_assert_str_empty(tt_emu_report(), "%s", tt_emu_report());
			check_same(&got, order ? &want : &got, models[m], order ? 2 : 1);
			if (order == 0)
				want = got;
			else
				free(got.data);
		}
		free(want.data);
	}
	unsetenv("TT_EMU_ORDER");
}

/* --fast, whose products are of the rank's rows; the emulated cuBLASLt sums each output by itself. */
Test(ranks, fast_ranks_have_the_bits_of_one)
{
	cr_assert_eq(check_model("dummy:tiny", (struct way){.fast = true}), 1);
}

/* A dummy model's weights are made on the device, of a part's place in the whole. */
Test(ranks, dummies_have_the_bits_of_one_rank)
{
	cr_assert_eq(check_model("dummy:tiny", (struct way){.n_ranks = 1}), 1);
}

#ifdef TT_TEST_WRAPPED
/* ---- A machine without NCCL, or with another ---- */

static const char *missing; /* what the names of functions begin with that are not there */
static bool old;

static int old_version(int *version)
{
	*version = 21800;
	return 0;
}

void *__real_dlsym(void *, const char *);
void *__wrap_dlsym(void *, const char *);
void *__real_dlopen(const char *, int);
void *__wrap_dlopen(const char *, int);

void *__wrap_dlsym(void *library, const char *name)
{
	if (missing && !strncmp(name, missing, strlen(missing)))
		return NULL;
	return old && !strcmp(name, "ncclGetVersion") ? (void *)(uintptr_t)old_version : __real_dlsym(library, name);
}

void *__wrap_dlopen(const char *name, int flags)
{
	return missing && strstr(name, "nccl") ? NULL : __real_dlopen(name, flags);
}

static void check_refused(const char *want)
{
	struct tt_engine_options options = options_of((struct way){.n_ranks = 2});
	struct tt_engine *engine = NULL;
	struct tt_error error = {0};
	cr_expect_eq(tt_engine_open(&engine, GOLDEN("tiny-llama"), &options, &error), TT_ERR_UNSUPPORTED);
	cr_expect_not_null(strstr(error.message, want), "%s", error.message);
}

Test(ranks, gpus_without_nccl_are_refused_by_one_line)
{
	missing = "nccl";
	check_refused("--tp on GPUs needs NCCL 2.19 or newer, and there is no libnccl.so.2");
	missing = "ncclCommAbort";
	check_refused("this NCCL has no ncclCommAbort");
	missing = NULL;
	old = true;
	check_refused("--tp on GPUs needs NCCL 2.19 or newer, this one is version 21800");
}
#endif
#endif
