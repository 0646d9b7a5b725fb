/* The enumerations that the public API shares with the policy files, the kernels and the scheduler. This file is
 * installed beside trimtab.h. */
#ifndef TT_ENUMS_H
#define TT_ENUMS_H

/* How a policy changes the residual stream. kernels/steer.h has the formulas, controller/policy/operations.c the
 * words. */
enum tt_policy_op { TT_OP_ADD, TT_OP_ABLATE, TT_OP_CLAMP, TT_OP_AFFINE, TT_OP_ONE_SIDED, TT_OP_ROTATE };

/* The gate that decides whether and how hard a policy steers. kernels/steer.h has the formulas,
 * controller/policy/gates.c the words. */
enum tt_policy_gate { TT_GATE_ALWAYS, TT_GATE_PROBE, TT_GATE_MLP, TT_GATE_COSINE, TT_GATE_PROBE_MLP, TT_GATE_RULE };

enum { TT_MAX_CONDITIONS = 4 }; /* that the rule of a gate joins, at most */

/* Which states of each observed layer a gate reads: that of the last prompt token, the mean over the tokens of the last
 * user message, or first the one and then the other. */
enum tt_gate_pool { TT_POOL_LAST, TT_POOL_MEAN, TT_POOL_LAST_MEAN };

/* How a policy is fitted. controller/train/fit_modes.c has the words. */
enum tt_fit_mode {
	TT_FIT_CONTRAST,
	TT_FIT_PAPER,
	TT_FIT_RELEASED,
	TT_FIT_STYLE,
	TT_FIT_PCA,
	TT_FIT_MEAN,
	TT_FIT_AFFINE,
	TT_FIT_CAST,
};

/* The gate of a fitted policy. */
enum tt_fit_gate_choice {
	TT_FIT_GATE_OF_MODE,  /* as the mode says */
	TT_FIT_GATE_NONE,     /* always open */
	TT_FIT_GATE_DETECTOR, /* trained on labelled prompts */
};

/* What gives the layers their weights in a fit that searches. */
enum tt_fit_layer_weights { TT_WEIGHTS_SITE, TT_WEIGHTS_SEARCH, TT_WEIGHTS_PROMPT };

/* How far an operation moves h with a coefficient c. */
enum tt_change {
	TT_CHANGE_DIRECTION, /* by |c| times the length of the direction */
	TT_CHANGE_PART,  /* by the part that it takes out, at a right angle to the rest; both norms give its length */
	TT_CHANGE_OTHER, /* by the difference of the norms, or more */
};

/* What the products of a model are computed in. */
enum tt_compute {
	TT_COMPUTE_F32,
	TT_COMPUTE_Q8, /* the inputs of products as eight-bit integers, 32 with one scale */
};

/* What the KV cache holds its numbers in. */
enum tt_kv_type {
	TT_KV_DEFAULT, /* the device's own: f32 on a CPU, bf16 on CUDA */
	TT_KV_F32,
	TT_KV_F16,
	TT_KV_BF16,
	TT_KV_Q8,  /* whole numbers of eight bits, a scale for each 32: heads must be multiples of 32 */
	TT_KV_FP8, /* E4M3 */
};

/* Which tokens a policy steers. */
enum tt_policy_when {
	TT_WHEN_POLICY = -1,    /* on a request: what the policy says */
	TT_WHEN_GENERATION = 0, /* generated tokens only */
	TT_WHEN_LAST = 1,       /* from the last prompt token on */
	TT_WHEN_ALL = 2,        /* prompt and generation */
};

/* Why a request ended. */
enum tt_finish {
	TT_RUNNING,
	TT_FINISH_STOP,    /* an end token, a stop id or a stop string */
	TT_FINISH_LENGTH,  /* max_tokens, or nothing was to be generated */
	TT_FINISH_CONTEXT, /* no room for another token */
	TT_FINISH_CANCELLED,
	TT_FINISH_DEADLINE,
	TT_FINISH_FAILED, /* the engine could not run a step */
};

#endif
