/* A model's weights as they are in its file, found by name, with every shape checked against the configuration. */
#ifndef WEIGHTS_MODEL_H
#define WEIGHTS_MODEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "weights/config.h"
#include "weights/quant.h"

/* A weight matrix, row-major [n_out][n_in], rows contiguous. data NULL: the model has none. */
struct tt_matrix {
	const void *data;
	enum tt_type type;
	uint32_t n_out, n_in;
	uint32_t first_row; /* of a part, its first row in the whole matrix */
};

struct tt_layer {
	const float *attn_norm, *ffn_norm;   // [hidden_size]
	struct tt_matrix wq;                 // [n_heads * head_dim][hidden_size]
	struct tt_matrix wk, wv;             // [n_kv_heads * head_dim][hidden_size]
	struct tt_matrix wo;                 // [hidden_size][n_heads * head_dim]
	struct tt_matrix w_gate, w_up;       // [ffn_size][hidden_size]
	struct tt_matrix w_down;             // [hidden_size][ffn_size]
	const float *bq, *bk, *bv, *bo;      // [n_out], or NULL
	const float *b_gate, *b_up, *b_down; // [n_out], or NULL
	// [hidden_size], or both NULL: the norms of what is added to the residual
	const float *attn_post_norm, *ffn_post_norm;
	const float *q_norm, *k_norm; // [head_dim], or both NULL: the norm of each head of q and k before rotation
};

/* One open model. Vectors (norms, biases) are f32 copies, matrices of eight bits with scales copies as blocks (until
 * tt_model_drop_blocks); other matrices point into the mappings. */
struct tt_model {
	struct tt_config config;
	struct tt_matrix embedding; // [vocab_size][hidden_size]
	struct tt_matrix output;    // [vocab_size][hidden_size]; equal to embedding when tied
	const float *output_norm;   // [hidden_size]
	struct tt_layer *layers;    // [n_layers]
	uint64_t n_parameters;      /* weights, a tied matrix counted once */
	uint64_t n_weight_bytes;    /* their bytes in the file */
	/* SHA-256 over name, type, shape and first 4096 bytes of each tensor that is used, sorted by name */
	char weights_digest[65];
	struct tt_gguf *gguf;             /* open while the model is, or NULL */
	char *directory;                  /* the Hugging Face directory, or NULL */
	struct tt_model_storage *storage; /* private: mappings and copies */
};

/* path: a .gguf file, a Hugging Face directory (config.json, with model.safetensors or its sharded index), or
 * "dummy:NAME", a model without a file, for timing (dummy.h). */
int tt_model_open(struct tt_model **out, const char *path, struct tt_error *err);
void tt_model_close(struct tt_model *model); /* NULL is fine */

/* Writes a row of a matrix to out [n_in] as f32, with the bits of tt_dequantise. TT_ERR_ARGUMENT for a row that is not
 * there; TT_ERR_UNSUPPORTED for a matrix without data, as those of a dummy model. */
int tt_matrix_row(const struct tt_matrix *matrix, uint32_t row, float *out, struct tt_error *err);

/* Frees the blocks that a layer's matrices of F8_E4M3 are in, whose data is NULL then: for a device that has them in
 * its own memory. Embedding and output stay. No part of the model (shard.h) may be read after. */
void tt_model_drop_blocks(struct tt_model *model);

/* Allocates n bytes, aligned to 64, that live as long as the model. */
int tt_model_own(struct tt_model *model, void *out_pointer, size_t n, struct tt_error *err);

#endif
