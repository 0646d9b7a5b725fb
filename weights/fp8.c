#include "weights/fp8.h"

#include <stdio.h>
#include <string.h>

#include "base/fail.h"
#include "base/memory.h"
#include "weights/quant.h"

enum { SPAN = 128, BLOCK = 32, MAX_NAME = 160 };

static const char *const SUFFIXES[] = {"_scale_inv", "_scale"};

/* How many weights beside each other share a scale. */
struct grid {
	uint64_t columns; /* of scales */
	uint64_t row_step, column_step;
};

static uint64_t spans(uint64_t n)
{
	return n / SPAN + (n % SPAN != 0);
}

static bool read_grid(struct grid *out, const struct tt_tensor *weight, const struct tt_tensor *scales)
{
	uint64_t n_out = weight->shape[0], n_in = weight->shape[1];
	uint64_t rows = scales->n_dims > 0 ? scales->shape[0] : 1, columns = scales->n_dims > 1 ? scales->shape[1] : 1;
	bool row_spans = scales->n_dims == 2 && rows == spans(n_out), column_spans = columns == spans(n_in);
	out->columns = columns;
	out->row_step = rows == n_out ? 1 : row_spans ? SPAN : n_out;
	out->column_step = column_spans ? SPAN : n_in;
	return scales->n_dims <= 2 && (rows == 1 || rows == n_out || row_spans) && (columns == 1 || column_spans);
}

static bool is_plain(const struct tt_tensor *t)
{
	return t->type == TT_TYPE_F32 || t->type == TT_TYPE_F16 || t->type == TT_TYPE_BF16;
}

static int check_scales(const struct tt_tensor *weight, const struct tt_tensor *scales, struct tt_error *err)
{
	struct grid grid;
	if (!is_plain(scales))
		return tt_fail(err, TT_ERR_UNSUPPORTED,
			"tensor %s has a number type that is not supported for scales (supported: F32, F16, BF16)",
			scales->name);
	if (!read_grid(&grid, weight, scales))
		return tt_fail(err, TT_ERR_UNSUPPORTED,
			"tensor %s has scales for neither the whole of [%llu][%llu] nor its rows, nor for %d rows and "
			"columns each",
			scales->name, (unsigned long long)weight->shape[0], (unsigned long long)weight->shape[1], SPAN);
	return TT_OK;
}

int tt_fp8_find_scales(
	struct tt_tensor **out, const struct tt_tensors *all, const struct tt_tensor *weight, struct tt_error *err)
{
	*out = NULL;
	for (size_t i = 0; i < 2; i++) {
		char name[MAX_NAME];
		snprintf(name, sizeof name, "%s%s", weight->name, SUFFIXES[i]);
		struct tt_tensor *found = tt_tensors_find(all, name);
		if (found && *out)
			return tt_fail(err, TT_ERR_FORMAT, "tensor %s has scales twice, in %s too", weight->name, name);
		*out = found ? found : *out;
	}
	if (!*out)
		return tt_fail(err, TT_ERR_FORMAT,
			"tensor %s is F8_E4M3, and its scales are missing: %s_scale_inv or %s_scale", weight->name,
			weight->name, weight->name);
	return check_scales(weight, *out, err);
}

static int read_scale(float *out, const struct tt_tensor *scales, uint64_t i, struct tt_error *err)
{
	enum tt_type type = (enum tt_type)scales->type;
	tt_dequantise(type, (const uint8_t *)scales->data + i * tt_type_block_bytes(type), out, 1);
	if (!(*out >= 0 && *out < TT_FP8_MAX_SCALE)) /* NaN too */
		return tt_fail(err, TT_ERR_UNSUPPORTED,
			"tensor %s holds a scale of %g, supported are those from 0 to below %d", scales->name,
			(double)*out, TT_FP8_MAX_SCALE);
	return TT_OK;
}

/* One row of numbers to blocks. */
static int make_row(uint8_t *out, const uint8_t *numbers, uint64_t row, const struct tt_tensor *weight,
	const struct tt_tensor *scales, struct tt_error *err)
{
	struct grid grid;
	read_grid(&grid, weight, scales);
	uint64_t first = row / grid.row_step * grid.columns;
	float scale = 0;
	for (uint64_t k = 0; k < weight->shape[1]; k += BLOCK, out += sizeof scale + BLOCK) {
		if (k % grid.column_step == 0)
			TT_TRY(read_scale(&scale, scales, first + k / grid.column_step, err));
		memcpy(out, &scale, sizeof scale);
		memcpy(out + sizeof scale, numbers + k, BLOCK);
		for (uint64_t i = k; i < k + BLOCK; i++)
			if ((numbers[i] & 0x7f) == 0x7f)
				return tt_fail(err, TT_ERR_FORMAT, "tensor %s: weight %llu of row %llu is NaN",
					weight->name, (unsigned long long)i, (unsigned long long)row);
	}
	return TT_OK;
}

int tt_fp8_blocks(uint8_t *out, const struct tt_tensor *weight, const struct tt_tensor *scales, struct tt_error *err)
{
	uint64_t n_in = weight->shape[1];
	if (n_in % BLOCK)
		return tt_fail(err, TT_ERR_UNSUPPORTED, "tensor %s: rows of %llu F8_E4M3 are not whole blocks of %d",
			weight->name, (unsigned long long)n_in, BLOCK);
	size_t row_bytes = tt_type_row_bytes(TT_TYPE_F8_E4M3, (size_t)n_in);
	for (uint64_t row = 0; row < weight->shape[0]; row++)
		TT_TRY(make_row(
			out + row * row_bytes, (const uint8_t *)weight->data + row * n_in, row, weight, scales, err));
	return TT_OK;
}

bool tt_fp8_are_scales(const char *name, const char *weight)
{
	size_t n = strlen(weight);
	return strncmp(name, weight, n) == 0 && (!strcmp(name + n, SUFFIXES[0]) || !strcmp(name + n, SUFFIXES[1]));
}

bool tt_fp8_of_activations(const char *name)
{
	static const char *const ends[] = {
		".input_scale", ".activation_scale", ".output_scale", ".k_scale", ".v_scale"};
	for (size_t i = 0; i < sizeof ends / sizeof *ends; i++)
		if (tt_ends_with(name, ends[i]))
			return true;
	return false;
}
