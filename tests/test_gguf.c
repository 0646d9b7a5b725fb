/* The GGUF reader: a file that gguf-py wrote, and what is left of it when it lies. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "base/fail.h"
#include "base/json.h"
#include "weights/gguf.h"
#include "weights/model.h"
#include "weights/quant.h"
#include "weights/safetensors.h"
#include "weights_files.h"

static struct tt_gguf *open_tiny(void)
{
	struct tt_gguf *file = NULL;
	struct tt_error err = {0};
	cr_assert_eq(tt_gguf_open(&file, TT_TEST_DATA "/weights/tiny.gguf", &err), TT_OK, "%s", err.message);
	return file;
}

Test(gguf, reads_scalars_of_every_kind)
{
	struct tt_gguf *file = open_tiny();
	struct tt_error err = {0};
	struct tt_gguf_string text = {"", 0};
	uint32_t u = 0;
	float f = 0;
	bool b = false;
	cr_expect_eq(file->version, 3);
	cr_expect_eq(tt_gguf_u32(file, "test.u8", 0, 255, &u, &err), TT_OK);
	cr_expect_eq(u, 200);
	cr_expect_eq(tt_gguf_u32(file, "test.u16", 0, 65535, &u, &err), TT_OK);
	cr_expect_eq(u, 60000);
	cr_expect_eq(tt_gguf_u32(file, "absent", 0, 1, &u, &err), TT_OK);
	cr_expect_eq(u, 60000, "absent leaves the value as it was");
	cr_expect_eq(tt_gguf_float(file, "llama.rope.freq_base", &f, &err), TT_OK);
	cr_expect_eq(f, 50000.0f);
	cr_expect_eq(tt_gguf_float(file, "test.f64", &f, &err), TT_OK);
	cr_expect_eq(f, 0.1f);
	cr_expect_eq(tt_gguf_bool(file, "tokenizer.ggml.add_bos_token", &b, &err), TT_OK);
	cr_expect(b);
	cr_expect_eq(tt_gguf_text(file, "test.string", &text, &err), TT_OK);
	cr_expect(text.len == 6 && memcmp(text.data, "na\xc3\xafve", 6) == 0);
	tt_gguf_close(file);
}

Test(gguf, refuses_scalars_of_the_wrong_kind_or_range)
{
	struct tt_gguf *file = open_tiny();
	struct tt_error err = {0};
	struct tt_gguf_string text;
	uint32_t u = 9;
	float f;
	bool b;
	static const char *const OUT_OF_RANGE[] = {"test.i8", "test.i16", "test.i32", "test.u64", "test.i64"};
	for (size_t i = 0; i < 5; i++) {
		int status = tt_gguf_u32(file, OUT_OF_RANGE[i], 0, UINT32_MAX, &u, &err);
		expect_refused(status, &err, OUT_OF_RANGE[i], OUT_OF_RANGE[i], "not from 0 to");
	}
	cr_expect_eq(u, 9);
	cr_expect_eq(tt_gguf_u32(file, "test.f64", 0, 1, &u, &err), TT_ERR_FORMAT);
	cr_expect_eq(tt_gguf_u32(file, "test.ints", 0, 1, &u, &err), TT_ERR_FORMAT);
	cr_expect_eq(tt_gguf_float(file, "test.u8", &f, &err), TT_ERR_FORMAT);
	cr_expect_eq(tt_gguf_bool(file, "test.u8", &b, &err), TT_ERR_FORMAT);
	cr_expect_eq(tt_gguf_text(file, "test.strings", &text, &err), TT_ERR_FORMAT);
	cr_expect_str_eq(err.message, "key test.strings is not a string");
	tt_gguf_close(file);
}

Test(gguf, reads_arrays)
{
	struct tt_gguf *file = open_tiny();
	static const char *const STRINGS[] = {"a", "", "bcd"};
	const struct tt_gguf_value *v = tt_gguf_find(file, "test.strings");
	cr_assert(v && v->kind == TT_GGUF_ARRAY && v->element == TT_GGUF_STRING && v->count == 3);
	const uint8_t *cursor = v->data;
	for (int i = 0; i < 3; i++) {
		struct tt_gguf_string s = tt_gguf_next_string(&cursor);
		cr_expect(s.len == strlen(STRINGS[i]) && memcmp(s.data, STRINGS[i], s.len) == 0, "%d", i);
	}
	cr_expect_eq((size_t)(cursor - v->data), v->n_bytes);
	v = tt_gguf_find(file, "test.ints");
	cr_expect(tt_gguf_number(v, 0) == 5 && tt_gguf_number(v, 1) == -6 && tt_gguf_number(v, 2) == 7);
	v = tt_gguf_find(file, "test.floats");
	cr_expect(tt_gguf_number(v, 0) == 0.5 && tt_gguf_number(v, 1) == -2.25 && tt_gguf_number(v, 2) == 0);
	v = tt_gguf_find(file, "test.bools");
	cr_expect(tt_gguf_number(v, 0) == 1 && tt_gguf_number(v, 1) == 0 && tt_gguf_number(v, 2) == 1);
	cr_expect_eq(tt_gguf_number(tt_gguf_find(file, "test.u64"), 0), 18446744073709551615.0);
	cr_expect_eq(tt_gguf_number(tt_gguf_find(file, "test.i64"), 0), -1099511627776.0);
	tt_gguf_close(file);
}

Test(gguf, finds_every_tensor_with_its_numbers)
{
	struct tt_gguf *file = open_tiny();
	struct tt_safetensors *want = NULL;
	struct tt_error err = {0};
	cr_assert_eq(tt_safetensors_open(&want, TT_TEST_DATA "/weights/tiny_want.safetensors", &err), TT_OK, "%s",
		err.message);
	cr_assert_eq(file->n_tensors, want->n_tensors);
	for (size_t i = 0; i < want->n_tensors; i++) {
		const struct tt_st_tensor *w = &want->tensors[i];
		const struct tt_gguf_tensor *t = tt_gguf_tensor(file, w->name);
		cr_assert(t && t->n_dims == w->n_dims, "%s", w->name);
		for (uint32_t j = 0; j < w->n_dims; j++)
			cr_expect_eq(t->shape[j], w->shape[j], "%s", w->name);
		float *got = calloc(w->n_elements, sizeof *got);
		tt_dequantise((enum tt_type)t->type, t->data, got, w->n_elements);
		cr_expect_eq(memcmp(got, w->data, w->n_bytes), 0, "%s", w->name);
		free(got);
	}
	cr_expect_null(tt_gguf_tensor(file, "blk.2.attn_q.weight"));
	tt_safetensors_close(want);
	tt_gguf_close(file);
}

/* The file in memory, and where things are in it. */
struct image {
	struct tt_buffer bytes;
};

static size_t find_name(const struct image *m, const char *name)
{
	uint64_t n = strlen(name);
	for (size_t i = 0; i + 8 + n <= m->bytes.len; i++)
		if (memcmp(m->bytes.data + i, &n, 8) == 0 && memcmp(m->bytes.data + i + 8, name, n) == 0)
			return i;
	cr_assert_fail("no %s in the golden", name);
	return 0;
}

/* The place after the name: a key's type, or a tensor's number of dimensions. */
static size_t after(const struct image *m, const char *name)
{
	return find_name(m, name) + 8 + strlen(name);
}

static void put(struct image *m, size_t at, const void *value, size_t n)
{
	cr_assert(at + n <= m->bytes.len);
	memcpy(m->bytes.data + at, value, n);
}

static void put_u32(struct image *m, size_t at, uint32_t value)
{
	put(m, at, &value, sizeof value);
}

static void put_u64(struct image *m, size_t at, uint64_t value)
{
	put(m, at, &value, sizeof value);
}

static void set_key(struct image *m, const char *key, uint32_t value)
{
	put_u32(m, after(m, key) + 4, value);
}

static void set_float(struct image *m, const char *key, float value)
{
	put(m, after(m, key) + 4, &value, sizeof value);
}

static void rename_to(struct image *m, const char *from, const char *to)
{
	cr_assert_eq(strlen(from), strlen(to));
	put(m, find_name(m, from) + 8, to, strlen(to));
}

/* Fields of a matrix's description: n_dims 4, two dimensions of 8, type 4, offset 8. */
enum { DIM0 = 4, DIM1 = 12, TYPE = 20, OFFSET = 24, VECTOR_OFFSET = 16 };

#define Q "blk.0.attn_q.weight"
#define K "blk.1.attn_k.weight"

/* A change named in full, and the words that the message must hold. X(name, words, statements on m) */
#define HOSTILE(X)                                                                                                     \
	X(no_magic, "magic", put(m, 0, "GGML", 4))                                                                     \
	X(version_1, "GGUF version 1", put_u32(m, 4, 1))                                                               \
	X(version_4, "GGUF version 4", put_u32(m, 4, 4))                                                               \
	X(other_byte_order, "big-endian", put_u32(m, 4, 0x03000000))                                                   \
	X(tensors_2_60, "tensor count", put_u64(m, 8, 1ull << 60))                                                     \
	X(tensors_one_more, "tensor", put_u64(m, 8, 2000))                                                             \
	X(keys_2_60, "key count", put_u64(m, 16, 1ull << 60))                                                          \
	X(keys_all_ones, "key count", put_u64(m, 16, ~0ull))                                                           \
	X(key_length_2_63, "metadata key 0", put_u64(m, 24, 1ull << 63))                                               \
	X(key_length_all_ones, "metadata key 0", put_u64(m, 24, ~0ull))                                                \
	X(key_length_0, "metadata key 0 has a name of 0 bytes", put_u64(m, 24, 0))                                     \
	X(key_with_0, "metadata key 0 has a name", put(m, 33, "", 1))                                                  \
	X(key_kind, "test.u8: type 13", put_u32(m, after(m, "test.u8"), 13))                                           \
	X(key_kind_wide, "test.u8: type 4294967295", put_u32(m, after(m, "test.u8"), ~0u))                             \
	X(array_kind, "test.ints: array type 13", put_u32(m, after(m, "test.ints") + 4, 13))                           \
	X(array_nested, "test.ints: arrays of arrays", put_u32(m, after(m, "test.ints") + 4, 9))                       \
	X(array_2_60, "test.ints", put_u64(m, after(m, "test.ints") + 8, 1ull << 60))                                  \
	X(array_wraps, "test.ints", put_u64(m, after(m, "test.ints") + 8, 1ull << 62))                                 \
	X(array_of_strings_2_60, "test.strings", put_u64(m, after(m, "test.strings") + 8, 1ull << 60))                 \
	X(string_2_62, "test.string:", put_u64(m, after(m, "test.string") + 4, 1ull << 62))                            \
	X(string_all_ones, "test.string:", put_u64(m, after(m, "test.string") + 4, ~0ull))                             \
	X(string_in_array, "test.strings", put_u64(m, after(m, "test.strings") + 16, 1ull << 62))                      \
	X(bool_2, "add_bos_token: a bool is 2", put(m, after(m, "tokenizer.ggml.add_bos_token") + 4, "\2", 1))         \
	X(bool_255, "test.bools: a bool is 255", put(m, after(m, "test.bools") + 17, "\377", 1))                       \
	X(key_twice, "test.u16 is there twice", rename_to(m, "test.i16", "test.u16"))                                  \
	X(tensor_twice, "blk.0.attn_k.weight is there twice", rename_to(m, K, "blk.0.attn_k.weight"))                  \
	X(tensor_name_65, "has a name of 65 bytes", put_u64(m, find_name(m, Q), 65))                                   \
	X(tensor_name_0, "has a name of 0 bytes", put_u64(m, find_name(m, Q), 0))                                      \
	X(tensor_name_2_63, "tensor name", put_u64(m, find_name(m, Q), 1ull << 63))                                    \
	X(dimensions_5, Q ": 5 dimensions", put_u32(m, after(m, Q), 5))                                                \
	X(dimensions_all_ones, Q ": 4294967295 dim", put_u32(m, after(m, Q), ~0u))                                     \
	X(dimension_0, Q ": dimension 1 is 0", put_u64(m, after(m, Q) + DIM0, 0))                                      \
	X(product_wraps, Q ": the product", put_u64(m, after(m, Q) + DIM0, 1ull << 60))                                \
	X(bytes_wrap, "token_embd.weight: its size",                                                                   \
		(put_u64(m, after(m, "token_embd.weight") + DIM0, 1ull << 62),                                         \
			put_u64(m, after(m, "token_embd.weight") + DIM1, 2)))                                          \
	X(half_a_block, "rows of 48 are not whole Q4_1 blocks",                                                        \
		(put_u64(m, after(m, Q) + DIM0, 48), put_u32(m, after(m, Q) + TYPE, TT_TYPE_Q4_1)))                    \
	X(half_a_k_block, "rows of 32 are not whole Q6_K blocks of 256", put_u32(m, after(m, Q) + TYPE, TT_TYPE_Q6_K)) \
	X(k_block_within, "overlap",                                                                                   \
		(put_u32(m, after(m, Q) + TYPE, TT_TYPE_Q6_K), put_u64(m, after(m, Q) + DIM0, 256)))                   \
	X(k_block_cut, "run past the end",                                                                             \
		(put_u32(m, after(m, Q) + TYPE, TT_TYPE_Q6_K), put_u64(m, after(m, Q) + DIM0, 4096)))                  \
	X(alignment_0, "general.alignment is 0", set_key(m, "general.alignment", 0))                                   \
	X(alignment_12, "general.alignment 12", set_key(m, "general.alignment", 12))                                   \
	X(alignment_2_31, "general.alignment", set_key(m, "general.alignment", 1u << 31))                              \
	X(alignment_kind, "general.alignment", put_u32(m, after(m, "general.alignment"), TT_GGUF_F32))                 \
	X(offset_odd, Q ": offset", put_u64(m, after(m, Q) + OFFSET, 33))                                              \
	X(offset_wraps, Q ": offset", put_u64(m, after(m, Q) + OFFSET, -64ull))                                        \
	X(offset_far, Q ": offset", put_u64(m, after(m, Q) + OFFSET, 1ull << 40))                                      \
	X(offset_at_end, Q ": offset", put_u64(m, after(m, Q) + OFFSET, m->bytes.len / 64 * 64))                       \
	X(offset_shared, "overlap", put_u64(m, after(m, Q) + OFFSET, 0))                                               \
	X(offset_within, "overlap", put_u64(m, after(m, Q) + OFFSET, 128))                                             \
	X(architecture, "\"qwen9\" is not supported (supported: llama, qwen2, qwen3", rename_to(m, "llama", "qwen9"))  \
	X(layers_0, "llama.block_count is 0", set_key(m, "llama.block_count", 0))                                      \
	X(layers_many, "llama.block_count", set_key(m, "llama.block_count", 1u << 20))                                 \
	X(layers_3, "tensor blk.2.attn_norm.weight is missing", set_key(m, "llama.block_count", 3))                    \
	X(layers_1, "tensor blk.1.attn_k.weight has no place", set_key(m, "llama.block_count", 1))                     \
	X(layers_kind, "llama.block_count is not an integer", put_u32(m, after(m, "llama.block_count"), TT_GGUF_F32))  \
	X(layers_missing, "llama.block_count is missing", rename_to(m, "llama.block_count", "llama.block_cound"))      \
	X(width_64, "token_embd.weight has shape [40][32]",                                                            \
		(set_key(m, "llama.embedding_length", 64), set_key(m, "llama.attention.head_count", 4)))               \
	X(width_0, "llama.embedding_length is 0", set_key(m, "llama.embedding_length", 0))                             \
	X(ffn_0, "llama.feed_forward_length is 0", set_key(m, "llama.feed_forward_length", 0))                         \
	X(ffn_96, "blk.0.ffn_gate.weight has shape [64][32]", set_key(m, "llama.feed_forward_length", 96))             \
	X(heads_0, "llama.attention.head_count is 0", set_key(m, "llama.attention.head_count", 0))                     \
	X(heads_negative, "llama.attention.head_count is -2",                                                          \
		(put_u32(m, after(m, "llama.attention.head_count"), TT_GGUF_I32),                                      \
			set_key(m, "llama.attention.head_count", (uint32_t)-2)))                                       \
	X(heads_3, "head_count 3", set_key(m, "llama.attention.head_count", 3))                                        \
	X(heads_32, "rope.dimension_count 16", set_key(m, "llama.attention.head_count", 32))                           \
	X(kv_heads_0, "llama.attention.head_count_kv is 0", set_key(m, "llama.attention.head_count_kv", 0))            \
	X(kv_heads_3, "not a multiple of n_kv_heads 3", set_key(m, "llama.attention.head_count_kv", 3))                \
	X(kv_heads_2, "blk.0.attn_k.weight has shape [16][32]", set_key(m, "llama.attention.head_count_kv", 2))        \
	X(context_0, "llama.context_length is 0", set_key(m, "llama.context_length", 0))                               \
	X(partial_rotation, "llama.rope.dimension_count 8", set_key(m, "llama.rope.dimension_count", 8))               \
	X(theta_0, "rope_theta", set_float(m, "llama.rope.freq_base", 0))                                              \
	X(theta_nan, "llama.rope.freq_base", set_key(m, "llama.rope.freq_base", 0x7fc00000))                           \
	X(eps_0, "rms_norm_eps", set_float(m, "llama.attention.layer_norm_rms_epsilon", 0))                            \
	X(eps_negative, "rms_norm_eps", set_float(m, "llama.attention.layer_norm_rms_epsilon", -1))                    \
	X(vocab_39, "token_embd.weight has shape [40][32]", set_key(m, "llama.vocab_size", 39))                        \
	X(vocab_0, "llama.vocab_size is 0", set_key(m, "llama.vocab_size", 0))                                         \
	X(eos_40, "eos token 40", set_key(m, "tokenizer.ggml.eos_token_id", 40))                                       \
	X(bos_40, "bos token 40", set_key(m, "tokenizer.ggml.bos_token_id", 40))                                       \
	X(shape_turned, Q " has shape [64][16]",                                                                       \
		(put_u32(m, after(m, Q) + TYPE, TT_TYPE_F16), put_u64(m, after(m, Q) + DIM0, 16),                      \
			put_u64(m, after(m, Q) + DIM1, 64)))                                                           \
	X(type_q2_k, Q " has a number type that is not supported (supported: F32, F16, BF16, Q4_0, ",                  \
		put_u32(m, after(m, Q) + TYPE, 10))                                                                    \
	X(type_of_no_file, "Q6_K, IQ4_NL)", put_u32(m, after(m, Q) + TYPE, TT_TYPE_F8_E4M3))                           \
	X(type_all_ones, Q " has a number type", put_u32(m, after(m, Q) + TYPE, ~0u))                                  \
	X(norm_missing, "tensor output_norm.weight is missing",                                                        \
		rename_to(m, "output_norm.weight", "output_norm.weighs"))                                              \
	X(factor_0, "rope_freqs.weight: factor 0 is 0", zero_first_factor(m))                                          \
	X(factors_shape, "rope_freqs.weight must be F32 [8]", put_u64(m, after(m, "rope_freqs.weight") + DIM0, 4))

static void zero_first_factor(struct image *m)
{
	/* The data section begins where the reader finds the tensor that has offset 0: the factors themselves. */
	struct tt_gguf *file = open_tiny();
	const struct tt_gguf_tensor *t = tt_gguf_tensor(file, "rope_freqs.weight");
	size_t at = (size_t)((const uint8_t *)t->data - file->mapping.data);
	tt_gguf_close(file);
	put_u32(m, at, 0);
}

#define DEFINE(label, words, change)                                                                                   \
	static void hostile_##label(struct image *m)                                                                   \
	{                                                                                                              \
		change;                                                                                                \
	}
HOSTILE(DEFINE)

static const struct {
	const char *label, *words;
	void (*change)(struct image *m);
} HOSTILE_FILES[] = {
#define ROW(label, words, change) {#label, words, hostile_##label},
	HOSTILE(ROW)};

static const char *const FILES[] = {"model.gguf"};

Test(gguf, refuses_hostile_files_by_field)
{
	struct scratch s;
	scratch_make(&s);
	for (size_t i = 0; i < sizeof HOSTILE_FILES / sizeof *HOSTILE_FILES; i++) {
		struct image m = {golden("tiny.gguf")};
		struct tt_model *model = NULL;
		struct tt_error err = {0};
		HOSTILE_FILES[i].change(&m);
		const char *path = scratch_write(&s, FILES[0], m.bytes.data, m.bytes.len);
		int status = tt_model_open(&model, path, &err);
		expect_refused(status, &err, HOSTILE_FILES[i].label, path, HOSTILE_FILES[i].words);
		cr_expect_null(model);
		tt_model_close(model);
		tt_buffer_free(&m.bytes);
	}
	scratch_remove(&s, FILES, 1);
}

Test(gguf, refuses_a_key_longer_than_the_format_allows)
{
	struct scratch s;
	struct image m = {golden("tiny.gguf")};
	struct tt_gguf *file = NULL;
	struct tt_error err = {0};
	char filling[1000];
	memset(filling, 'a', sizeof filling);
	scratch_make(&s);
	for (int i = 0; i < 70; i++)
		cr_assert_eq(tt_buffer_add(&m.bytes, filling, sizeof filling, &err), TT_OK);
	memset(m.bytes.data + 32, 'k', m.bytes.len - 32);
	put_u64(&m, 24, 65536);
	const char *path = scratch_write(&s, FILES[0], m.bytes.data, m.bytes.len);
	expect_refused(tt_gguf_open(&file, path, &err), &err, "key of 65536", path, "a name of 65536 bytes");
	tt_buffer_free(&m.bytes);
	scratch_remove(&s, FILES, 1);
}

/* Where the last tensor ends: from there on only padding is cut off. */
static size_t data_end(void)
{
	struct tt_gguf *file = open_tiny();
	size_t end = 0;
	for (size_t i = 0; i < file->n_tensors; i++) {
		const struct tt_gguf_tensor *t = &file->tensors[i];
		size_t at = (size_t)((const uint8_t *)t->data - file->mapping.data) + t->n_bytes;
		end = at > end ? at : end;
	}
	tt_gguf_close(file);
	return end;
}

Test(gguf, refuses_a_file_cut_off_anywhere)
{
	struct scratch s;
	struct image m = {golden("tiny.gguf")};
	size_t header = after(&m, "blk.1.ffn_down.weight") + 64, end = data_end();
	scratch_make(&s);
	const char *path = scratch_write(&s, FILES[0], m.bytes.data, m.bytes.len);
	for (size_t n = end; n-- > 0;) {
		struct tt_gguf *file = NULL;
		struct tt_error err = {0};
		if (n > header && n % 101 && n + 1 != end)
			continue;
		cr_assert_eq(truncate(path, (off_t)n), 0);
		expect_refused(tt_gguf_open(&file, path, &err), &err, "cut off", path, "");
		tt_gguf_close(file);
	}
	tt_buffer_free(&m.bytes);
	scratch_remove(&s, FILES, 1);
}

/* Nothing to compare with: that it neither crashes nor reads astray is what the sanitizers watch. */
Test(gguf, survives_random_changes_of_the_header)
{
	struct scratch s;
	struct tt_buffer good = golden("tiny.gguf");
	struct image m = {golden("tiny.gguf")};
	size_t header = after(&m, "blk.1.ffn_down.weight") + 32, refused = 0;
	uint64_t state = 1;
	scratch_make(&s);
	for (int round = 0; round < 3000; round++) {
		struct tt_model *model = NULL;
		struct tt_error err = {0};
		memcpy(m.bytes.data, good.data, good.len);
		for (uint32_t i = 1 + next_random(&state) % 3; i-- > 0;) {
			static const uint8_t EDGES[] = {0, 1, 0x7f, 0x80, 0xff};
			uint32_t pick = next_random(&state) % 10;
			m.bytes.data[next_random(&state) % header] =
				(char)(pick < 5 ? EDGES[pick] : next_random(&state) & 0xff);
		}
		int status = tt_model_open(&model, scratch_write(&s, FILES[0], m.bytes.data, m.bytes.len), &err);
		if (status != TT_OK) {
			expect_refused(status, &err, "random change", s.path, "");
			refused++;
		}
		tt_model_close(model);
	}
	cr_expect(refused > 1000 && refused < 3000, "%zu of 3000 refused", refused);
	tt_buffer_free(&m.bytes);
	tt_buffer_free(&good);
	scratch_remove(&s, FILES, 1);
}

Test(gguf, version_2_reads_the_same)
{
	struct scratch s;
	struct image m = {golden("tiny.gguf")};
	struct tt_gguf *file = NULL;
	struct tt_error err = {0};
	scratch_make(&s);
	put_u32(&m, 4, 2);
	cr_assert_eq(tt_gguf_open(&file, scratch_write(&s, FILES[0], m.bytes.data, m.bytes.len), &err), TT_OK, "%s",
		err.message);
	cr_expect_eq(file->version, 2);
	cr_expect_not_null(tt_gguf_tensor(file, Q));
	tt_gguf_close(file);
	tt_buffer_free(&m.bytes);
	scratch_remove(&s, FILES, 1);
}

Test(gguf, a_number_type_it_does_not_know_is_listed_without_data)
{
	struct scratch s;
	struct image m = {golden("tiny.gguf")};
	struct tt_gguf *file = NULL;
	struct tt_error err = {0};
	scratch_make(&s);
	put_u32(&m, after(&m, Q) + TYPE, 10);
	cr_assert_eq(tt_gguf_open(&file, scratch_write(&s, FILES[0], m.bytes.data, m.bytes.len), &err), TT_OK, "%s",
		err.message);
	const struct tt_gguf_tensor *t = tt_gguf_tensor(file, Q);
	cr_expect(t->type == 10 && t->data == NULL && t->n_bytes == 0);
	tt_gguf_close(file);
	tt_buffer_free(&m.bytes);
	scratch_remove(&s, FILES, 1);
}

Test(gguf, names_a_big_endian_file_as_such)
{
	struct tt_gguf *file = NULL;
	struct tt_error err = {0};
	const char *path = TT_TEST_DATA "/weights/big_endian.gguf";
	expect_refused(tt_gguf_open(&file, path, &err), &err, "big-endian", path, "big-endian");
}

Test(gguf, refuses_what_is_no_file)
{
	struct tt_gguf *file = NULL;
	struct tt_error err = {0};
	cr_expect_eq(tt_gguf_open(&file, TT_TEST_DATA, &err), TT_ERR_IO);
	cr_expect_eq(tt_gguf_open(&file, TT_TEST_DATA "/weights/absent.gguf", &err), TT_ERR_IO);
}
