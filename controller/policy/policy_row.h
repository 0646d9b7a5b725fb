/* What the tables of operations and gates are made of: a row has its word, its tensors and the words of its forms. The policy
 * file, the copy in a backend's memory, the identity of shared pages, inspect and the reports all go by them. */
#ifndef CONTROLLER_POLICY_POLICY_ROW_H
#define CONTROLLER_POLICY_POLICY_ROW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/tt_error.h"

struct tt_policy;
struct tt_steer_slot;

enum {
	TT_MAX_ROW_TENSORS = 4, /* of one operation or gate */
	TT_MAX_ROW_FORMS = 2,   /* words that one of them has to choose from */
};

/* L layers, r directions a layer, width d, o observed layers, u hidden units. */
enum tt_tensor_shape {
	TT_SHAPE_LAYER_MATRIX,  /* a layer: [r][d] */
	TT_SHAPE_LAYER_ROW,     /* a layer: [r] */
	TT_SHAPE_INPUT,         /* [o * d] */
	TT_SHAPE_NUMBER,        /* [1], kept in the policy and in the slot as a float, not behind a pointer */
	TT_SHAPE_UNITS_INPUT,   /* [u][o * d] */
	TT_SHAPE_UNITS,         /* [u] */
	TT_SHAPE_OUTPUTS_UNITS, /* [1 + L][u] */
	TT_SHAPE_OUTPUTS,       /* [1 + L] */
};

struct tt_policy_tensor {
	const char *name; /* in the file; a tensor of a layer has %u in it */
	enum tt_tensor_shape shape;
	size_t member; /* its offset in struct tt_policy: a float *, or a float */
	size_t slot;   /* its offset in struct tt_steer_slot: a const float *, or a float */
	/* What h is read with is the tensor less the directions, and that is what the slot holds. */
	bool less_directions;
	/* [r] projections wanted on the rows as the file gives them: they change when the rows are made orthonormal. */
	bool follows_rows;
	bool not_zero; /* a part that is all zeros is refused: of the layers, those that have directions */
};

/* The words of one metadata key that choose between the forms of an operation or gate; the first is the default. */
struct tt_policy_form {
	const char *key; /* NULL: there is one form */
	const char *words[TT_MAX_ROW_FORMS];
	const char *sentences[TT_MAX_ROW_FORMS]; /* what a form adds to the row's sentence; NULL: nothing */
	uint32_t format;                         /* the least trimtab.format that has the key */
};

struct tt_policy_row {
	const char *word; /* of the file and of every report */
	const char *
		sentence; /* of the page: "adds a direction ...", "a linear probe"; NULL for a gate that reads nothing */
	uint32_t format;  /* the least trimtab.format that has it */
	struct tt_policy_form form;
	uint32_t n_tensors;
	struct tt_policy_tensor tensors[TT_MAX_ROW_TENSORS]; /* an operation's directions come first */
};

/* True for a tensor of each layer. */
bool tt_tensor_is_layered(enum tt_tensor_shape shape);

/* The dimensions in a file (of one layer's part where it is layered) and their number. */
uint32_t tt_tensor_dims(const struct tt_policy *p, enum tt_tensor_shape shape, uint64_t dims[2]);

/* Numbers of one layer's part, or of all of it where it is not layered. */
size_t tt_tensor_part(const struct tt_policy *p, enum tt_tensor_shape shape);
/* Numbers in memory. */
size_t tt_tensor_size(const struct tt_policy *p, enum tt_tensor_shape shape);

/* Its name in a file, of that layer where it is layered; cut at n bytes. */
void tt_tensor_name(char *out, size_t n, const struct tt_policy_tensor *tensor, uint32_t layer);

/* Its numbers in the policy; NULL while there is no room for them. */
float *tt_tensor_values(const struct tt_policy *p, const struct tt_policy_tensor *tensor);

/* Makes room, zeroed, for those of the row's tensors that have none. */
int tt_policy_row_allocate(struct tt_policy *p, const struct tt_policy_row *row, struct tt_error *err);
/* Frees the row's tensors. */
void tt_policy_row_free(struct tt_policy *p, const struct tt_policy_row *row);

/* Index of a word among the forms, or -1. */
int tt_form_find(const struct tt_policy_form *form, const char *word);
/* Whether a file names the row's form of that index: always where the key is as old as the row, else only where it is not the
 * default, so that older files are written as they were. */
bool tt_form_is_written(const struct tt_policy_row *row, uint32_t index);
/* The least trimtab.format of a file with this row in that form. */
uint32_t tt_policy_row_format(const struct tt_policy_row *row, uint32_t index);

#endif
