/* Files that are compiled into the program (cmake/embed.cmake). */
#ifndef BASE_EMBEDDED_H
#define BASE_EMBEDDED_H

#include <stddef.h>

struct tt_file {
	const char *data; // [n] and a zero byte
	size_t n;
};

#endif
