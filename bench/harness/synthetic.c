#include "bench/harness/synthetic.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fail.h"
#include "base/memory.h"
#include "bench/harness/harness.h"

/* The seed goes through one draw before it is used, because adjacent seeds would give shifted streams. */
static void fill_direction(float *out, uint32_t n, uint64_t seed)
{
	uint64_t state = tt_bench_draw(&seed);
	double norm = 0;
	for (uint32_t i = 0; i < n; i++) {
		out[i] = (float)((double)(tt_bench_draw(&state) >> 11) * 0x1p-52 - 1);
		norm += (double)out[i] * out[i];
	}
	for (uint32_t i = 0; i < n; i++)
		out[i] = (float)(out[i] / sqrt(norm));
}

static json_t *tensor(uint32_t n_dims, uint32_t n, size_t offset)
{
	json_t *shape = n_dims == 2 ? json_pack("[i, i]", 1, (int)n) : json_pack("[i]", (int)n);
	return json_pack("{s:s, s:o, s:[I, I]}", "dtype", "F32", "shape", shape, "data_offsets", (json_int_t)offset,
		(json_int_t)(offset + n * sizeof(float)));
}

/* The file's header: directions in order of layers, then the layer weights. */
static char *header(const struct tt_model_info *info)
{
	char name[32], layers[32];
	size_t row = info->hidden_size * sizeof(float);
	snprintf(layers, sizeof layers, "0-%u", info->n_layers - 1);
	json_t *all = json_pack("{s:{s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s}}", "__metadata__", "trimtab.format",
		"1", "trimtab.name", "synthetic", "trimtab.fingerprint", info->fingerprint, "trimtab.weights_digest",
		info->weights_digest, "trimtab.op", "add", "trimtab.when", "all", "trimtab.gate", "always",
		"trimtab.alpha", "1", "trimtab.layers", layers);
	int failed = 0;
	for (uint32_t l = 0; l < info->n_layers; l++) {
		snprintf(name, sizeof name, "direction.%u", l);
		failed |= json_object_set_new(all, name, tensor(2, info->hidden_size, l * row));
	}
	failed |= json_object_set_new(all, "weight", tensor(1, info->n_layers, info->n_layers * row));
	char *text = failed ? NULL : json_dumps(all, JSON_COMPACT);
	json_decref(all);
	return text;
}

static int fill_data(
	struct tt_buffer *file, const struct tt_model_info *info, int layer, uint64_t seed, struct tt_error *err)
{
	float *row = NULL;
	int status = tt_alloc(&row, info->hidden_size, sizeof *row, err);
	for (uint32_t l = 0; status == TT_OK && l < info->n_layers; l++) {
		fill_direction(row, info->hidden_size, seed + l);
		status = tt_buffer_add(file, row, info->hidden_size * sizeof *row, err);
	}
	for (uint32_t l = 0; status == TT_OK && l < info->n_layers; l++) {
		float weight = layer == TT_BENCH_ALL_LAYERS || l == (uint32_t)layer;
		status = tt_buffer_add(file, &weight, sizeof weight, err);
	}
	free(row);
	return status;
}

/* A safetensors file: the header's length as 8 little-endian bytes, the header padded to whole words, the data. */
static int make_file(
	struct tt_buffer *file, const struct tt_model_info *info, int layer, uint64_t seed, struct tt_error *err)
{
	unsigned char length[8];
	char *text = header(info);
	if (!text)
		return tt_fail(err, TT_ERR_MEMORY, "the header of the synthetic policy could not be made");
	size_t n = strlen(text), n_padded = (n + 7) / 8 * 8;
	for (size_t i = 0; i < 8; i++)
		length[i] = (unsigned char)(n_padded >> (8 * i));
	int status = tt_buffer_add(file, length, sizeof length, err);
	if (status == TT_OK)
		status = tt_buffer_add(file, text, n, err);
	if (status == TT_OK)
		status = tt_buffer_add(file, "       ", n_padded - n, err);
	free(text);
	return status == TT_OK ? fill_data(file, info, layer, seed, err) : status;
}

/* Loads the policy from a file without a name; its descriptor gives it a path while it is open. */
static int load_through_file(struct tt_policy **out, const struct tt_buffer *content, struct tt_error *err)
{
	char path[64];
	FILE *file = tmpfile();
	if (!file)
		return tt_fail(err, TT_ERR_IO, "there is no room for a temporary file");
	int status = TT_OK;
	if (fwrite(content->data, 1, content->len, file) != content->len || fflush(file))
		status = tt_fail(err, TT_ERR_IO, "the synthetic policy cannot be written to a temporary file");
	snprintf(path, sizeof path, "/proc/self/fd/%d", fileno(file));
	if (status == TT_OK)
		status = tt_policy_load(out, path, err);
	fclose(file);
	return status;
}

int tt_bench_synthetic_policy(
	struct tt_policy **out, const struct tt_model_info *info, int layer, uint64_t seed, struct tt_error *err)
{
	struct tt_buffer file = {0};
	int status = make_file(&file, info, layer, seed, err);
	if (status == TT_OK)
		status = load_through_file(out, &file, err);
	tt_buffer_free(&file);
	return status;
}
