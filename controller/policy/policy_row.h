/* The rows of the tables of operations and gates: a word, the tensors, and the words of the forms. The policy file, the
 * copy in a backend's memory, the digest that decides whether pages are shared, inspect and the reports all use
 * them. */
#ifndef CONTROLLER_POLICY_POLICY_ROW_H
#define CONTROLLER_POLICY_POLICY_ROW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/tt_error.h"

struct tt_policy;
struct tt_steer_slot;

enum {
	TT_MAX_ROW_TENSORS = 6, /* at most in one operation or gate */
	TT_MAX_ROW_FORMS = 2,   /* at most for one operation or gate */
};

/* L: layers; r: directions a layer; d: width of the stream; v: vectors that the gate reads (tt_gate_vectors); u: hidden
 * units; k: conditions of its rule; n: outputs of its network, 1 + L, or 1 if it gives no weights of layers. */
enum tt_tensor_shape {
	TT_SHAPE_LAYER_MATRIX,     /* [r][d] for each layer */
	TT_SHAPE_LAYER_ROW,        /* [r] for each layer */
	TT_SHAPE_INPUT,            /* [v * d] */
	TT_SHAPE_NUMBER,           /* [1]; the policy and the slot hold the float itself, not a pointer */
	TT_SHAPE_UNITS_INPUT,      /* [u][v * d] */
	TT_SHAPE_UNITS,            /* [u] */
	TT_SHAPE_OUTPUTS_UNITS,    /* [n][u] */
	TT_SHAPE_OUTPUTS,          /* [n] */
	TT_SHAPE_CONDITIONS_INPUT, /* [k][v * d] */
	TT_SHAPE_CONDITIONS,       /* [k] */
};

struct tt_policy_tensor {
	const char *name; /* in the file; %u stands for the layer of a layered tensor */
	enum tt_tensor_shape shape;
	size_t member; /* its offset in struct tt_policy: a float *, or a float */
	size_t slot;   /* its offset in struct tt_steer_slot: a const float *, or a float */
	/* The slot holds the tensor less the directions; h is multiplied with this difference. */
	bool less_directions;
	/* The numbers are projections wanted on the rows as the file gives them, so they change when the rows are made
	 * orthonormal. */
	bool follows_rows;
	/* It must not be all zeros; if layered, on no layer that has directions; of several rows, in none. */
	bool not_zero;
};

/* The words of one metadata key that choose between the forms of an operation or gate; the first is the default. */
struct tt_policy_form {
	const char *key; /* NULL if there is one form only */
	const char *words[TT_MAX_ROW_FORMS];
	const char *sentences[TT_MAX_ROW_FORMS]; /* what a form adds to the row's sentence, or NULL */
	uint32_t format;                         /* the oldest trimtab.format that has the key */
};

struct tt_policy_row {
	const char *word; /* in the file and in every report */
	/* For the page: "adds a direction ...", "a linear probe"; NULL for a gate that reads nothing. */
	const char *sentence;
	uint32_t format; /* the oldest trimtab.format that has it */
	struct tt_policy_form form;
	uint32_t n_tensors;
	struct tt_policy_tensor tensors[TT_MAX_ROW_TENSORS]; /* an operation has its directions first */
};

/* True for a tensor that every layer has its own part of. */
bool tt_tensor_is_layered(enum tt_tensor_shape shape);

/* Returns the number of dimensions that the tensor has in a file, and fills dims. A layered tensor is in the file layer
 * by layer: then they are those of one layer's part. */
uint32_t tt_tensor_dims(const struct tt_policy *p, enum tt_tensor_shape shape, uint64_t dims[2]);

/* How many floats one layer's part has, or the whole tensor if it is not layered. */
size_t tt_tensor_part(const struct tt_policy *p, enum tt_tensor_shape shape);
/* How many floats the whole tensor has in memory. */
size_t tt_tensor_size(const struct tt_policy *p, enum tt_tensor_shape shape);

/* Prints the tensor's name in a file, for that layer if it is layered, into out, cut at n bytes. */
void tt_tensor_name(char *out, size_t n, const struct tt_policy_tensor *tensor, uint32_t layer);

/* The tensor's floats in the policy; NULL if they have not been allocated. */
float *tt_tensor_values(const struct tt_policy *p, const struct tt_policy_tensor *tensor);

/* Allocates the tensors of the row that the policy does not have yet, all 0. */
int tt_policy_row_allocate(struct tt_policy *p, const struct tt_policy_row *row, struct tt_error *err);
/* Frees the tensors of the row, and sets the policy's pointers to them to NULL. */
void tt_policy_row_free(struct tt_policy *p, const struct tt_policy_row *row);

/* The index of a word among the forms, or -1. */
int tt_form_find(const struct tt_policy_form *form, const char *word);
/* Whether a file with the row's form of that index names it: always if the key is as old as the row, else only if it is
 * not the default, so that policies of an older format are written byte for byte as before. */
bool tt_form_is_written(const struct tt_policy_row *row, uint32_t index);
/* The oldest trimtab.format that has this row in that form. */
uint32_t tt_policy_row_format(const struct tt_policy_row *row, uint32_t index);

#endif
