/* Runs a target once over each file that is named: the corpus as an ordinary test, with any compiler. */
#include <stdio.h>
#include <stdlib.h>

#include "target.h"

enum { MAX_BYTES = 1 << 20 };

int main(int argc, char **argv)
{
	for (int i = 1; i < argc; i++) {
		FILE *file = fopen(argv[i], "rb");
		uint8_t *room = malloc(MAX_BYTES), *data = NULL;
		size_t n = file && room ? fread(room, 1, MAX_BYTES, file) : 0;
		if (!file || !room || (n && !(data = malloc(n)))) {
			fprintf(stderr, "%s: cannot read\n", argv[i]);
			return 1;
		}
		/* Of exactly its size, so that a sanitizer sees a read behind it. */
		for (size_t k = 0; k < n; k++)
			data[k] = room[k];
		fclose(file);
		LLVMFuzzerTestOneInput(data, n);
		free(data);
		free(room);
	}
	printf("%d inputs\n", argc - 1);
	return argc > 1 ? 0 : 1;
}
