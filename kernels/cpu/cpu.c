/* The backend: its table of functions, memory, threads, and the choice of the body that fits the machine. */
#define _GNU_SOURCE /* sched_getaffinity, madvise */
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/exchange.h"
#include "kernels/cpu/q8.h"

#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/fail.h"
#include "base/memory.h"
#include "kernels/cpu/quota.h"
#include "weights/dummy.h"

#if defined(__x86_64__) || defined(__i386__)
#include <cpuid.h>
#elif defined(__aarch64__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

enum { MAX_THREADS = 1024, CACHE_LINE = 64, HUGE_PAGE = 1 << 21 };

/* Zeroed. Large memory is fresh from the system, so that a page costs nothing until it is touched. Huge pages where the
 * system gives them, because the keys of a batch are scattered over the KV pages: they took attention from 12.3 to 11.0
 * ms in a step of 32 rows. The word before the returned memory holds the address to free. */
static int cpu_allocate(struct tt_backend *backend, void *out_pointer, size_t count, size_t size, struct tt_error *err)
{
	size_t bytes, room, alignment;
	char *block;
	(void)backend;
	if (!tt_mul_size(count, size, &bytes))
		return tt_fail(err, TT_ERR_MEMORY, "%zu elements of %zu bytes do not fit", count, size);
	alignment = bytes >= HUGE_PAGE ? HUGE_PAGE : CACHE_LINE;
	if (!tt_add_size(bytes, alignment + sizeof block, &room))
		return tt_fail(err, TT_ERR_MEMORY, "%zu bytes do not fit", bytes);
	TT_TRY(tt_alloc(&block, room, 1, err));
	uintptr_t start = (uintptr_t)block + sizeof block;
	char *memory = block + sizeof block + (alignment - start % alignment) % alignment;
	if (bytes >= HUGE_PAGE)
		/* only a hint: without it all is slower */
		(void)madvise(memory, bytes / HUGE_PAGE * HUGE_PAGE, MADV_HUGEPAGE);
	memcpy(memory - sizeof block, &block, sizeof block);
	memcpy(out_pointer, &memory, sizeof memory);
	return TT_OK;
}

static void cpu_release(struct tt_backend *backend, void *memory)
{
	void *block;
	(void)backend;
	if (!memory)
		return;
	memcpy(&block, (char *)memory - sizeof block, sizeof block);
	free(block);
}

static void cpu_close(struct tt_backend *backend)
{
	struct tt_cpu *cpu = (struct tt_cpu *)backend;
	tt_threads_close(cpu->threads);
	for (int i = 0; i < TT_CPU_N_SCRATCH; i++)
		free(cpu->scratch[i].memory);
	free(cpu);
}

int tt_cpu_scratch(struct tt_cpu *cpu, enum tt_cpu_scratch which, size_t count, size_t size, void *out_pointer,
	struct tt_error *err)
{
	size_t bytes, wanted;
	if (!tt_mul_size(count, size, &bytes))
		return tt_fail(err, TT_ERR_MEMORY, "scratch of %zu elements of %zu bytes does not fit", count, size);
	if (bytes > cpu->scratch[which].bytes) {
		/* Half as much again, so that steps that grow by a token do not allocate each time. */
		if (!tt_add_size(bytes, bytes / 2, &wanted))
			wanted = bytes;
		free(cpu->scratch[which].memory);
		cpu->scratch[which].memory = NULL;
		cpu->scratch[which].bytes = 0;
		TT_TRY(tt_alloc_aligned(&cpu->scratch[which].memory, wanted, 1, err));
		cpu->scratch[which].bytes = wanted;
	}
	memcpy(out_pointer, &cpu->scratch[which].memory, sizeof(void *));
	return TT_OK;
}

int tt_cpu_thread_scratch(struct tt_cpu *cpu, size_t n, float **out, size_t *stride, struct tt_error *err)
{
	size_t floats;
	if (!tt_add_size(n, 16, &floats))
		return tt_fail(err, TT_ERR_MEMORY, "a thread's scratch of %zu numbers does not fit", n);
	*stride = floats / 16 * 16;
	if (!tt_mul_size(*stride, cpu->n_threads, &floats))
		return tt_fail(
			err, TT_ERR_MEMORY, "scratch of %zu numbers for %u threads does not fit", n, cpu->n_threads);
	return tt_cpu_scratch(cpu, TT_CPU_SCRATCH_THREADS, floats, sizeof(float), out, err);
}

static int cpu_upload(struct tt_backend *backend, void *to, const void *from, size_t n_bytes, struct tt_error *err)
{
	(void)backend;
	(void)err;
	memcpy(to, from, n_bytes);
	return TT_OK;
}

/* Matrices are used as they are in the file, except by the twin; of several ranks, each has its rows of them. */
static int cpu_load(struct tt_backend *backend, struct tt_model *host, const struct tt_limits *limits,
	const struct tt_model **out, struct tt_error *err)
{
	struct tt_cpu *cpu = (struct tt_cpu *)backend;
	TT_TRY(tt_activations_open(backend, &host->config, limits, sizeof(float), err));
	TT_TRY(tt_model_fill_dummy(host, err));
	cpu->limits = *limits;
	cpu->config = host->config;
	cpu->compute = limits->compute;
	TT_TRY(tt_shard_open(&cpu->shard, &host->config, cpu->shard.rank, cpu->shard.n_ranks, err));
	const struct tt_model *model = host;
	if (cpu->meeting) {
		TT_TRY(tt_shard_model_open(&cpu->part, host, &cpu->shard, err));
		model = cpu->part;
	}
	if (cpu->body->keep)
		return tt_cpu_load_bf16(model, out, err);
	*out = cpu->model = model;
	return TT_OK;
}

static void cpu_unload(struct tt_backend *backend, const struct tt_model *loaded)
{
	struct tt_cpu *cpu = (struct tt_cpu *)backend;
	tt_activations_close(backend);
	if (cpu->body->keep)
		tt_cpu_unload_bf16(loaded);
	tt_shard_model_close(cpu->part);
	cpu->part = NULL;
	cpu->model = NULL;
}

static int cpu_begin(struct tt_backend *backend, const struct tt_step_plan *step, bool *recorded, struct tt_error *err)
{
	(void)backend;
	(void)step;
	(void)err;
	*recorded = false;
	return TT_OK;
}

/* The ops have run. With steps in flight the next step writes where this one did, so results that the host has yet to
 * read are copied aside. A step that wants captured rows or logits is always finished before the next begins. */
static int cpu_end(struct tt_backend *backend, const struct tt_step_plan *step, const struct tt_results *outputs,
	struct tt_error *err)
{
	struct tt_cpu *cpu = (struct tt_cpu *)backend;
	struct tt_results *own = &cpu->finished[cpu->n_ended % 2];
	*own = *outputs;
	if (cpu->meeting)
		own->word = tt_results_word(outputs, backend->activations.h, step, &cpu->config);
	if (backend->in_flight > 1 && !(step->wants & (TT_WANT_CAPTURED | TT_WANT_LOGITS))) {
		struct tt_results_part span = tt_results_span(step, &cpu->config, &cpu->limits);
		enum tt_cpu_scratch which = TT_CPU_SCRATCH_RESULTS + cpu->n_ended % 2;
		char *block;
		TT_TRY(tt_cpu_scratch(
			cpu, which, tt_results_layout(NULL, NULL, &cpu->config, &cpu->limits), 1, &block, err));
		memcpy(block + span.first, (const char *)outputs->decided + span.first, span.n_bytes);
		tt_results_layout(own, block, &cpu->config, &cpu->limits);
	}
	cpu->n_ended++;
	return TT_OK;
}

static int cpu_finish(struct tt_backend *backend, struct tt_results *results, struct tt_error *err)
{
	struct tt_cpu *cpu = (struct tt_cpu *)backend;
	if (cpu->n_finished == cpu->n_ended)
		return tt_fail(err, TT_ERR_ARGUMENT, "no step is under way");
	*results = cpu->finished[cpu->n_finished++ % 2];
	return TT_OK;
}

/* NULL where this machine cannot run it. Every processor with AVX2 has F16C, a name that not every compiler knows. */
static const struct tt_cpu_body *machine_body(enum tt_cpu_body_choice choice)
{
#if defined(__x86_64__) || defined(__i386__)
	__builtin_cpu_init();
	bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
	bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
		      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
	if (choice == TT_CPU_BODY_AVX512)
		return avx512 ? tt_cpu_body_avx512() : NULL;
	if (choice == TT_CPU_BODY_AVX2)
		return avx2 ? tt_cpu_body_avx2() : NULL;
#endif
	if (choice == TT_CPU_BODY_NEON)
		return tt_cpu_body_neon();
	return choice == TT_CPU_BODY_PORTABLE ? tt_cpu_body_portable()
	       : choice == TT_CPU_BODY_BF16   ? tt_cpu_body_bf16()
					      : NULL;
}

#if defined(__x86_64__) || defined(__i386__)
/* A name that not every compiler knows. The system has enabled AVX where it supports AVX2. */
static bool has_avxvnni(void)
{
	unsigned a = 0, b = 0, c = 0, d = 0;
	return __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a >> 4 & 1);
}
#endif

/* The integers of a body: the best of its kind. */
static const struct tt_q8_body *machine_q8(enum tt_cpu_body_choice choice)
{
	const struct tt_q8_body *q8 = NULL;
#if defined(__x86_64__) || defined(__i386__)
	if (choice == TT_CPU_BODY_AVX512 && __builtin_cpu_supports("avx512vnni") &&
		__builtin_cpu_supports("avx512vbmi"))
		q8 = tt_q8_body_vnni();
	if (!q8 && (choice == TT_CPU_BODY_AVX512 || choice == TT_CPU_BODY_AVX2))
		q8 = has_avxvnni() && tt_q8_body_avxvnni() ? tt_q8_body_avxvnni() : tt_q8_body_avx2();
#elif defined(__aarch64__)
	if (choice == TT_CPU_BODY_NEON && (getauxval(AT_HWCAP) & HWCAP_ASIMDDP))
		q8 = tt_q8_body_dotprod();
	if (!q8 && choice == TT_CPU_BODY_NEON)
		q8 = tt_q8_body_neon();
#else
	(void)choice;
#endif
	return q8 ? q8 : tt_q8_body_portable();
}

static enum tt_cpu_body_choice best_body(void)
{
	return machine_body(TT_CPU_BODY_AVX512) ? TT_CPU_BODY_AVX512
	       : machine_body(TT_CPU_BODY_AVX2) ? TT_CPU_BODY_AVX2
	       : machine_body(TT_CPU_BODY_NEON) ? TT_CPU_BODY_NEON
						: TT_CPU_BODY_PORTABLE;
}

const char *tt_cpu_body_name(void)
{
	return machine_body(best_body())->name;
}

/* The cores that this process may run on, and has the time of, not all that the machine has. More threads than a
 * container's share of time would wait for each other at every barrier. */
static uint32_t n_cores(void)
{
	cpu_set_t set;
	int n = sched_getaffinity(0, sizeof set, &set) ? 1 : CPU_COUNT(&set);
	uint32_t quota = tt_cpu_quota("/sys/fs/cgroup", "/proc/self/cgroup");
	n = quota > 0 && quota < (uint32_t)n ? (int)quota : n;
	return n < 1 ? 1 : n > MAX_THREADS ? MAX_THREADS : (uint32_t)n;
}

int tt_cpu_take_threads(struct tt_cpu *cpu, uint32_t n, struct tt_error *err)
{
	tt_threads_close(cpu->threads);
	cpu->threads = NULL;
	cpu->n_threads = cpu->base.n_threads = n;
	return tt_threads_open(&cpu->threads, n, err);
}

int tt_cpu_open_body(struct tt_backend **out, uint32_t n_threads, enum tt_cpu_body_choice choice, struct tt_error *err)
{
	bool twin = choice == TT_CPU_BODY_BF16;
	if (choice == TT_CPU_BODY_BEST)
		choice = best_body();
	const struct tt_cpu_body *body = machine_body(choice);
	struct tt_cpu *cpu;
	if (!body)
		return tt_fail(err, TT_ERR_UNSUPPORTED, "this machine has no %s",
			choice == TT_CPU_BODY_AVX512 ? "AVX-512 (F, BW, DQ, VL)"
			: choice == TT_CPU_BODY_AVX2 ? "AVX2 with FMA"
						     : "NEON");
	if (n_threads > MAX_THREADS)
		return tt_fail(err, TT_ERR_ARGUMENT, "%u threads, more than %d", n_threads, MAX_THREADS);
	if (n_threads == 0)
		n_threads = n_cores();
	TT_TRY(tt_alloc(&cpu, 1, sizeof *cpu, err));
	*cpu = (struct tt_cpu){
		.base = {.name = "cpu",
			.variant = choice,
			.in_flight = 1,
			.has_penalties = true,
			.has_q8 = !twin,
			.kv_type = twin ? TT_KV_BF16 : TT_KV_F32,
			.kv_types = twin ? 1u << TT_KV_FP8 : 1u << TT_KV_F16 | 1u << TT_KV_Q8 | 1u << TT_KV_FP8,
			.allocate = cpu_allocate,
			.release = cpu_release,
			.upload = cpu_upload,
			.load = cpu_load,
			.unload = cpu_unload,
			.shared_bytes = tt_cpu_shared_bytes,
			.join = tt_cpu_join,
			.begin = cpu_begin,
			.end = cpu_end,
			.finish = cpu_finish,
			.embed = tt_cpu_embed,
			.qkv = tt_cpu_qkv,
			.narrow = tt_cpu_narrow,
			.attention = tt_cpu_attention,
			.o_proj = tt_cpu_o_proj,
			.gate_up = tt_cpu_gate_up,
			.down_proj = tt_cpu_down_proj,
			.pool = tt_cpu_pool,
			.control = tt_cpu_control,
			.logits = tt_cpu_logits,
			.sample = tt_cpu_sample,
			.close = cpu_close},
		.body = body,
		.q8 = machine_q8(choice),
		.shard = {.n_ranks = 1},
	};
	int status = tt_cpu_take_threads(cpu, n_threads, err);
	if (status != TT_OK) {
		cpu_close(&cpu->base);
		return status;
	}
	*out = &cpu->base;
	return TT_OK;
}

int tt_cpu_open(struct tt_backend **out, uint32_t n_threads, struct tt_error *err)
{
	return tt_cpu_open_body(out, n_threads, TT_CPU_BODY_BEST, err);
}

int tt_cpu_open_bf16(struct tt_backend **out, uint32_t n_threads, struct tt_error *err)
{
	return tt_cpu_open_body(out, n_threads, TT_CPU_BODY_BF16, err);
}
