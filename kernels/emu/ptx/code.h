/* PTX as it is run. A kernel's text is decoded once: registers become places in a warp's register file, where a
 * register is its 32 lanes side by side, constants become registers that are filled beforehand, and labels numbers of
 * instructions. An instruction is run for all lanes of a mask at once. */
#ifndef KERNELS_EMU_PTX_CODE_H
#define KERNELS_EMU_PTX_CODE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	PTX_LANES = 32,
	PTX_ALL = -1,         /* the mask of all lanes, as int */
	PTX_SHARED = 1024,    /* where a block's memory begins in the shared space: 0 is no valid address */
	PTX_LOCAL = 1024,     /* a thread's, in the local space */
	PTX_REGISTER = 64,    /* registers are aligned to it */
	PTX_ANY_LENGTH = 160, /* the longest name of an instruction or a symbol, and room for a message */
	PTX_MAX_OPERANDS = 80,
};

/* Generic addresses of the shared space have this bit, as the emulator's pointers do. */
#define PTX_GENERIC_SHARED ((uint64_t)1 << 53)

struct ptx_warp;
struct ptx_instruction;
/* Runs an instruction for the lanes of the mask, which is not empty. */
typedef void ptx_run(struct ptx_warp *warp, const struct ptx_instruction *i, uint32_t mask);

/* How an instruction goes on. */
enum ptx_flow {
	PTX_PLAIN,     /* the next one follows */
	PTX_BRANCH,    /* to its target */
	PTX_END,       /* the lanes are at their end */
	PTX_MEET,      /* the lanes that its last operand names run it together */
	PTX_MEET_ALL,  /* all lanes of the warp run it together */
	PTX_MEET_WAIT, /* the same, and may then have to wait */
	PTX_WAIT,      /* lanes may have to wait after it */
	PTX_AGAIN,     /* lanes may have to wait, and then run it again */
};

/* An instruction as the manual names it, with all its modifiers: what is not in a table is not known. The operands are
 * a letter each, vectors written out, braces and bars left out: p, h, w, q a register of a predicate, of 16, 32 or 64
 * bits or a constant; the same as capitals a register that is written (or _); s, g, l, a an address in shared, global,
 * local or parameter space; n a number; t a label; _ nothing. */
struct ptx_row {
	const char *name, *operands;
	ptx_run *run;
	uint8_t flow; /* enum ptx_flow */
	uint8_t size; /* of an element in memory */
};

struct ptx_instruction {
	ptx_run *run;
	const struct ptx_row *row;
	/* registers: their place in the register file in bytes; an address: the place of its base and the offset; a
	 * number itself; a label: a number of an instruction */
	const int32_t *operands;
	int32_t guard; /* the place of the predicate, or -1 */
	bool unless;   /* the guard is negated */
	uint8_t flow;
	uint32_t line;
};

struct ptx_constant {
	uint64_t value;
	uint32_t at;
	uint8_t size; /* 0: a predicate, otherwise bytes of a lane */
};

enum ptx_special {
	PTX_TID_X,
	PTX_ZERO, /* tid.y and the like: blocks have one dimension */
	PTX_ONE,
	PTX_NTID_X,
	PTX_CTAID_X,
	PTX_CTAID_Y,
	PTX_CTAID_Z,
	PTX_NCTAID_X,
	PTX_NCTAID_Y,
	PTX_NCTAID_Z,
	PTX_LANEID,
	PTX_SPECIALS
};

/* An entry of a file of PTX. */
struct ptx_code {
	const char *file, *entry;
	struct ptx_instruction *instructions; // [n_instructions]
	size_t n_instructions;
	int32_t *operands;              /* of all of them */
	struct ptx_constant *constants; // [n_constants]
	size_t n_constants;
	int32_t specials[PTX_SPECIALS]; /* their places, or -1 */
	uint32_t register_bytes;        /* of a warp */
	uint32_t parameter_bytes, local_bytes;
	uint32_t *parameters; // [n_parameters][2]: offset, size
	size_t n_parameters;
	unsigned char *data; /* the constants of its file in global memory */
	size_t data_bytes;
	uint64_t executed;        /* instructions, of a warp each */
	struct ptx_warp *warps;   // [MAX_CLUSTER * MAX_WARPS]
	unsigned char *arguments; // [parameter_bytes] of the running launch
};

/* A warp that runs the code. */
struct ptx_warp {
	struct ptx_code *code;
	unsigned char *registers;
	unsigned char *local; // [32][code->local_bytes]
	const unsigned char *parameters;
	uint32_t at[PTX_LANES]; /* the instruction that each lane runs next */
	struct warp *of;        /* the emulator's */
};

/* Why the running instruction cannot go on, for the lane that emu.running is; does not return. */
void ptx_fail(const struct ptx_instruction *i, const char *format, ...) __attribute__((noreturn, format(printf, 2, 3)));

/* The tables of instructions, each ended by a row without a name. */
extern const struct ptx_row ptx_rows_arithmetic[], ptx_rows_avx2[], ptx_rows_memory[], ptx_rows_warp[], ptx_rows_flow[];

/* An entry within the text of a file. */
struct ptx_text {
	const char *file;                /* its name, for messages; kept */
	const char *header, *header_end; /* what the file declares before its entries */
	const char *entry, *end;         /* from `.entry` on */
	uint32_t line;                   /* the entry's */
};

/* parse.c: decodes an entry, by the rows of some tables, the last of which is NULL. On failure NULL, and a message of
 * at most 2 * PTX_ANY_LENGTH bytes that names the line. ptx_free takes what it gives, or NULL. */
struct ptx_code *ptx_parse(const struct ptx_text *text, const struct ptx_row *const *tables, char *message);
void ptx_free(struct ptx_code *code);

#endif
