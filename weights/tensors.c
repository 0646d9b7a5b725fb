#include "weights/tensors.h"

#include <stdlib.h>
#include <string.h>

#include "base/fail.h"
#include "base/json.h"
#include "base/memory.h"
#include "weights/quant.h"

enum { MAX_INDEX = 32 << 20, MAX_SHARDS = 1024 };

static const char INDEX[] = "model.safetensors.index.json";

static int compare_names(const void *a, const void *b)
{
	return strcmp(((const struct tt_tensor *)a)->name, ((const struct tt_tensor *)b)->name);
}

int tt_tensors_from_gguf(struct tt_tensors *out, const struct tt_gguf *file, struct tt_error *err)
{
	*out = (struct tt_tensors){0};
	TT_TRY(tt_alloc(&out->list, file->n_tensors, sizeof *out->list, err));
	for (size_t i = 0; i < file->n_tensors; i++) {
		const struct tt_gguf_tensor *t = &file->tensors[i];
		struct tt_tensor *to = &out->list[out->n++];
		*to = (struct tt_tensor){.name = t->name,
			.type = tt_type_in_gguf(t->type) ? t->type : (uint32_t)TT_TENSOR_UNREADABLE,
			.n_dims = t->n_dims,
			.data = t->data,
			.n_bytes = t->n_bytes};
		memcpy(to->shape, t->shape, sizeof to->shape);
	}
	qsort(out->list, out->n, sizeof *out->list, compare_names);
	return TT_OK;
}

static uint32_t type_of_dtype(enum tt_dtype dtype)
{
	switch (dtype) {
	case TT_DTYPE_F32:
		return TT_TYPE_F32;
	case TT_DTYPE_F16:
		return TT_TYPE_F16;
	case TT_DTYPE_BF16:
		return TT_TYPE_BF16;
	case TT_DTYPE_F8_E4M3:
		return TT_TENSOR_F8_E4M3;
	default:
		return TT_TENSOR_UNREADABLE;
	}
}

/* One list over all shards. A name that is in two shards is refused: the model would depend on their order. */
static int list_shards(struct tt_tensors *out, struct tt_error *err)
{
	size_t n = 0;
	for (size_t i = 0; i < out->n_shards; i++)
		n += out->shards[i]->n_tensors;
	TT_TRY(tt_alloc(&out->list, n, sizeof *out->list, err));
	for (size_t i = 0; i < out->n_shards; i++)
		for (size_t j = 0; j < out->shards[i]->n_tensors; j++) {
			const struct tt_st_tensor *t = &out->shards[i]->tensors[j];
			struct tt_tensor *to = &out->list[out->n++];
			*to = (struct tt_tensor){.name = t->name,
				.type = type_of_dtype(t->dtype),
				.n_dims = t->n_dims,
				.data = t->data,
				.n_bytes = t->n_bytes};
			memcpy(to->shape, t->shape, sizeof to->shape);
		}
	qsort(out->list, out->n, sizeof *out->list, compare_names);
	for (size_t i = 1; i < out->n; i++)
		if (compare_names(&out->list[i - 1], &out->list[i]) == 0)
			return tt_fail(err, TT_ERR_FORMAT, "tensor %s is in two files", out->list[i].name);
	return TT_OK;
}

static int add_shard(struct tt_tensors *out, const char *directory, const char *name, struct tt_error *err)
{
	char *path = NULL;
	TT_TRY(tt_file_join(&path, directory, name, err));
	int status = tt_safetensors_open(&out->shards[out->n_shards], path, err);
	if (status == TT_OK)
		out->n_shards++;
	free(path);
	return status;
}

/* A shard must be in the folder of its index. Any other name could reach any file of the machine. */
static int check_shard_name(const char *tensor, const char *name, struct tt_error *err)
{
	size_t n = name ? strlen(name) : 0;
	if (!name)
		return tt_fail(err, TT_ERR_FORMAT, "weight_map: the file of %s is not a string", tensor);
	if (n == 0 || n > 255 || strchr(name, '/') || strchr(name, '\\') || name[0] == '.')
		return tt_fail(err, TT_ERR_FORMAT,
			"weight_map: the file of %s, \"%s\", must be a plain name in the same directory", tensor, name);
	return TT_OK;
}

/* Opens every file that the map names, once, in the order of first mention. files holds the names: one slot for each
 * shard, borrowed from the map. */
static int open_shards(
	struct tt_tensors *out, const char **files, json_t *map, const char *directory, struct tt_error *err)
{
	const char *tensor;
	json_t *value;
	json_object_foreach(map, tensor, value)
	{
		const char *name = json_string_value(value);
		size_t shard = 0;
		TT_TRY(check_shard_name(tensor, name, err));
		while (shard < out->n_shards && strcmp(files[shard], name))
			shard++;
		if (shard == MAX_SHARDS)
			return tt_fail(err, TT_ERR_LIMIT, "weight_map: more than %d files", MAX_SHARDS);
		if (shard == out->n_shards) {
			files[shard] = name;
			TT_TRY(add_shard(out, directory, name, err));
		}
		if (!tt_safetensors_find(out->shards[shard], tensor))
			return tt_fail(err, TT_ERR_FORMAT, "weight_map: %s is not in %s", tensor, name);
	}
	return TT_OK;
}

static int read_index(struct tt_tensors *out, const char *directory, json_t *index, struct tt_error *err)
{
	const char **files = NULL;
	json_t *map = json_object_get(index, "weight_map");
	if (!json_is_object(map))
		return tt_fail(err, TT_ERR_FORMAT, "weight_map is missing or not an object");
	TT_TRY(tt_alloc(&out->shards, MAX_SHARDS, sizeof *out->shards, err));
	TT_TRY(tt_alloc(&files, MAX_SHARDS, sizeof *files, err));
	int status = open_shards(out, files, map, directory, err);
	free(files);
	return status == TT_OK ? list_shards(out, err) : status;
}

static int from_index(struct tt_tensors *out, const char *directory, const char *path, struct tt_error *err)
{
	json_t *index = NULL;
	TT_TRY(tt_json_load(&index, path, MAX_INDEX, err));
	int status = tt_within(read_index(out, directory, index, err), err, path);
	json_decref(index);
	return status;
}

int tt_tensors_from_directory(struct tt_tensors *out, const char *directory, struct tt_error *err)
{
	static const char SINGLE[] = "model.safetensors";
	char *single = NULL, *index = NULL;
	*out = (struct tt_tensors){0};
	int status = tt_file_join(&single, directory, SINGLE, err);
	if (status == TT_OK)
		status = tt_file_join(&index, directory, INDEX, err);
	if (status != TT_OK)
		goto out;
	if (tt_file_exists(single)) {
		status = tt_alloc(&out->shards, 1, sizeof *out->shards, err);
		if (status == TT_OK)
			status = add_shard(out, directory, SINGLE, err);
		if (status == TT_OK)
			status = list_shards(out, err);
	} else if (tt_file_exists(index)) {
		status = from_index(out, directory, index, err);
	} else {
		status = tt_fail(err, TT_ERR_IO, "%s: neither %s nor %s is there", directory, SINGLE, INDEX);
	}
out:
	free(single);
	free(index);
	return status;
}

void tt_tensors_free(struct tt_tensors *tensors)
{
	for (size_t i = 0; i < tensors->n_shards; i++)
		tt_safetensors_close(tensors->shards[i]);
	free(tensors->shards);
	free(tensors->list);
	*tensors = (struct tt_tensors){0};
}

struct tt_tensor *tt_tensors_find(const struct tt_tensors *tensors, const char *name)
{
	struct tt_tensor wanted = {.name = name};
	return bsearch(&wanted, tensors->list, tensors->n, sizeof wanted, compare_names);
}
