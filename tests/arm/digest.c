/* Prints a digest of what every type's products give, in f32 and in q8, and of softmax weights and norms: the same
 * lines on every processor. Numbers are made without the C library's functions, whose last bits may differ. */
#include "test_kernels.h"

enum { N_OUT = 37, N_ROWS = 33 };

static uint64_t digest(const float *x, size_t n, uint64_t hash)
{
	for (size_t i = 0; i < n; i++) {
		uint32_t bits;
		memcpy(&bits, &x[i], sizeof bits);
		hash = (hash ^ bits) * 0x100000001b3;
	}
	return hash;
}

/* All rows at once, then three, two and one, which other code computes. */
static uint64_t product_digest(struct tt_backend *backend, enum tt_type type)
{
	static const uint32_t counts[] = {N_ROWS, 3, 2, 1};
	struct test_matrix m = random_matrix(type, N_OUT, 512, 7);
	float *x = random_floats((size_t)N_ROWS * 512, 1, 8), *h = must_alloc((size_t)N_ROWS * N_OUT, sizeof *h);
	uint64_t hash = 0;
	for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
		run_o_proj(backend, &m.matrix, NULL, x, counts[i], h);
		hash = digest(h, (size_t)counts[i] * N_OUT, hash);
	}
	free_matrix(&m);
	free(x);
	free(h);
	return hash;
}

Test(digest, of_products)
{
	static const enum tt_compute computes[] = {TT_COMPUTE_F32, TT_COMPUTE_Q8};
	struct tt_backend *backend = open_cpu(2, TT_CPU_BODY_BEST);
	for (int c = 0; c < 2; c++)
		for (int t = 0; t < N_TYPES; t++) {
			((struct tt_cpu *)backend)->compute = computes[c];
			printf("digest %s %s %016llx\n", c ? "q8" : "f32", tt_type_name(TYPES[t]),
				(unsigned long long)product_digest(backend, TYPES[t]));
		}
	backend->close(backend);
}

Test(digest, of_vectors)
{
	struct tt_backend *backend = open_cpu(1, TT_CPU_BODY_BEST);
	const struct tt_cpu_body *body = ((struct tt_cpu *)backend)->body;
	float *x = random_floats(1001, 30, 1), *w = random_floats(1001, 1, 2), *y = must_alloc(1008, sizeof *y);
	float sum = (float)body->exp_sum(x, 29, 1.25f, 1001, y);
	printf("digest exp %016llx\n", (unsigned long long)digest(y, 1001, digest(&sum, 1, 0)));
	body->rmsnorm(x, w, 1e-5f, 1001, y);
	printf("digest norm %016llx\n", (unsigned long long)digest(y, 1001, 0));
	body->soft_cap(x, 1001, 20);
	printf("digest cap %016llx\n", (unsigned long long)digest(x, 1001, 0));
	free(x);
	free(w);
	free(y);
	backend->close(backend);
}
