/* The error codes and the message that every fallible trimtab function fills. Installed beside trimtab.h.
 *
 * A function that can fail returns 0 (TT_OK) or one of the negative codes below and, when it was given a
 * struct tt_error, writes one line that names what was wrong: the file, the field, the value. Nothing in the
 * library aborts, exits or asserts on input. */
#ifndef TT_ERROR_H
#define TT_ERROR_H

enum tt_status {
	TT_OK = 0,
	TT_ERR_ARGUMENT = -1,    /* the caller asked for something that has no meaning */
	TT_ERR_MEMORY = -2,      /* an allocation failed, or its size overflowed */
	TT_ERR_IO = -3,          /* a file could not be opened, read, mapped or written */
	TT_ERR_FORMAT = -4,      /* a file or text breaks its own format */
	TT_ERR_UNSUPPORTED = -5, /* valid, but not something this build does */
	TT_ERR_MISMATCH = -6,    /* a policy does not belong to the loaded model */
	TT_ERR_LIMIT = -7,       /* a stated limit (context, pages, steps, depth) was reached */
	TT_ERR_DEVICE = -8,      /* the accelerator reported an error */
};

struct tt_error {
	int code;          /* enum tt_status; 0 when nothing failed */
	char message[500]; /* one line, no newline, always terminated */
};

#endif
