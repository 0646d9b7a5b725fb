/* Devices by name, in a program that has no CUDA in it, and which models the CUDA kernels take.
 * tests/emu/test_emu_engine.c has the program that has it. */
#include <criterion/criterion.h>
#include <string.h>

#include "kernels/backend.h"

static struct tt_backend *must_open(const char *device, const struct tt_config *config)
{
	struct tt_backend *backend = NULL;
	struct tt_error note = {.message = "old"}, err = {0};
	cr_assert_eq(tt_device_open(&backend, device, 1, config, &note, &err), TT_OK, "%s", err.message);
	cr_expect_str_empty(note.message, "%s", note.message);
	return backend;
}

Test(device, auto_is_the_cpu_without_a_word_where_there_is_no_cuda)
{
	const struct tt_config plain = {.head_dim = 16}, capped = {.logit_soft_cap = 30};
	const struct tt_config *configs[] = {NULL, &plain, &capped};
	static const char *const names[] = {NULL, "auto", "cpu"};
	for (int i = 0; i < 3; i++)
		for (int k = 0; k < 3; k++) {
			struct tt_backend *backend = must_open(names[i], configs[k]);
			cr_expect_str_eq(backend->name, "cpu");
			backend->close(backend);
		}
}

Test(device, names_that_are_none)
{
	static const char *const names[] = {"", "gpu", "cpu:0", "cpu ", "Cuda", "cud", "cuda0", "cuda:", "cuda:x",
		"cuda:-1", "cuda:+1", "cuda:1x", "cuda:1024", "cuda:18446744073709551616", "auto:0"};
	for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
		struct tt_backend *backend = NULL;
		struct tt_error note, err = {0};
		cr_expect_eq(tt_device_open(&backend, names[i], 1, NULL, &note, &err), TT_ERR_ARGUMENT, "%s", names[i]);
		cr_expect_null(backend);
		cr_expect_not_null(strstr(err.message, "\" is none of auto, cuda, cuda:N, cpu"), "%s", err.message);
	}
}

Test(device, cuda_by_name_says_that_it_is_not_in_the_program)
{
	static const char *const names[] = {"cuda", "cuda:0", "cuda:1023"};
	for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
		struct tt_backend *backend = NULL;
		struct tt_error note, err = {0};
		cr_expect_eq(tt_device_open(&backend, names[i], 1, NULL, &note, &err), TT_ERR_UNSUPPORTED);
		cr_expect_not_null(strstr(err.message, "built without CUDA"), "%s", err.message);
	}
}

/* Each property that only some families have, alone. */
Test(device, cuda_can_run_the_parts_of_every_family)
{
	const struct tt_config plain = {.arch = TT_ARCH_QWEN3,
		.head_norms = true,
		.sliding_window = 4,
		.attention_bias = true,
		.rope_interleaved = true,
		.activation = TT_SILU};
	struct tt_config c[6] = {plain, plain, plain, plain, plain, plain};
	struct tt_error err = {0};
	c[1].post_norms = true;
	c[2].activation = TT_GELU_TANH;
	c[3].attention_soft_cap = 50;
	c[4].logit_soft_cap = 30;
	c[5].embedding_scale = 8;
	for (int i = 0; i < 6; i++)
		cr_expect_eq(tt_cuda_can_run(&c[i], &err), TT_OK, "%d: %s", i, err.message);
}

/* What would only fail in the first step, if "auto" took the GPU. */
Test(device, cuda_can_run_models_of_the_sizes_that_its_kernels_have)
{
	const struct tt_config good = {
		.hidden_size = 64, .ffn_size = 96, .head_dim = 256, .vocab_size = 1048560, .activation = TT_SILU};
	struct tt_config c[5] = {good, good, good, good, good};
	static const char *const says[] = {"hidden_size", "ffn_size", "head_dim", "heads of up to 256", "vocabulary"};
	struct tt_error err = {0};
	cr_assert_eq(tt_cuda_can_run(&good, &err), TT_OK, "%s", err.message);
	c[0].hidden_size = 72;
	c[1].ffn_size = 100;
	c[2].head_dim = 24;
	c[3].head_dim = 272;
	c[4].vocab_size++;
	for (int i = 0; i < 5; i++) {
		cr_expect_eq(tt_cuda_can_run(&c[i], &err), TT_ERR_UNSUPPORTED, "%d", i);
		cr_expect_not_null(strstr(err.message, says[i]), "%s", err.message);
	}
}
