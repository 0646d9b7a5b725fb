/* Bytes as lower-case hexadecimal digits. */
#ifndef BASE_HEX_H
#define BASE_HEX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Writes 2 n digits and a 0 to out. */
void tt_hex(char *out, const void *data, size_t n);
/* Reads n bytes from exactly 2 n digits of n_text; upper case is none. */
bool tt_hex_parse(uint8_t *out, size_t n, const char *text, size_t n_text);

#endif
