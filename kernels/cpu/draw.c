/* A draw from a distribution that is cut to its likeliest tokens, without sorting the tokens that the cuts drop. */
#include <stdlib.h>

#include "kernels/cpu/cpu.h"

/* Likelier first, then the lower id: a total order, so that qsort has one result. */
static int compare(const void *left, const void *right)
{
	const struct tt_cpu_candidate *a = left, *b = right;
	if (a->weight != b->weight)
		return a->weight > b->weight ? -1 : 1;
	return a->id < b->id ? -1 : a->id > b->id;
}

/* Moves the count likeliest of candidates[n] to the front, in any order (Hoare's selection, with the middle as
 * pivot). */
static void select_front(struct tt_cpu_candidate *candidates, uint32_t n, uint32_t count)
{
	int64_t low = 0, high = (int64_t)n - 1, target = (int64_t)count - 1;
	while (low < high) {
		struct tt_cpu_candidate pivot = candidates[low + (high - low) / 2];
		int64_t i = low, j = high;
		while (i <= j) {
			while (compare(&candidates[i], &pivot) < 0)
				i++;
			while (compare(&candidates[j], &pivot) > 0)
				j--;
			if (i <= j) {
				struct tt_cpu_candidate swap = candidates[i];
				candidates[i++] = candidates[j];
				candidates[j--] = swap;
			}
		}
		if (target <= j)
			high = j;
		else if (target >= i)
			low = i;
		else
			return;
	}
}

/* The candidates that weigh at least floor. A NaN, which compares false, is not among them. */
static uint32_t gather(const float *weights, uint32_t n, float floor, struct tt_cpu_candidate *out)
{
	uint32_t count = 0;
	for (uint32_t i = 0; i < n; i++)
		if (weights[i] >= floor && weights[i] > 0)
			out[count++] = (struct tt_cpu_candidate){weights[i], i};
	return count;
}

static double total(const struct tt_cpu_candidate *candidates, uint32_t n)
{
	double sum = 0;
	for (uint32_t i = 0; i < n; i++)
		sum += (double)candidates[i].weight;
	return sum;
}

/* The fewest of the sorted candidates that hold that share of sum; at least one. */
static uint32_t nucleus(const struct tt_cpu_candidate *sorted, uint32_t n, double sum, double share)
{
	double held = 0;
	uint32_t count = 0;
	while (count < n && (count == 0 || held < share * sum))
		held += (double)sorted[count++].weight;
	return count;
}

uint32_t tt_cpu_draw(const struct tt_sample_plan *plan, const float *weights, uint32_t n, double uniform,
	struct tt_cpu_candidate *scratch)
{
	bool by_count = plan->sampling.top_k && plan->sampling.top_k < n, by_share = plan->sampling.top_p < 1;
	float floor = plan->sampling.min_p > 0 ? plan->sampling.min_p : 0,
	      share = plan->sampling.top_p > 0 ? plan->sampling.top_p : 0;
	floor = floor < 1 ? floor : 1; /* the largest weight is 1, and stays */
	/* top-k and top-p need the sorted order, so min-p comes after them; alone it needs none. */
	uint32_t count = gather(weights, n, by_count || by_share ? 0 : floor, scratch);
	if (by_count && plan->sampling.top_k < count) {
		select_front(scratch, count, plan->sampling.top_k);
		count = plan->sampling.top_k;
	}
	if (by_share) {
		double sum = total(scratch, count);
		/* All candidates lighter than this together weigh less than 1 - top_p of the sum: they are never in the
		 * nucleus. */
		float least = (float)((1 - (double)share) * sum / count * 0.999);
		uint32_t kept = 0;
		for (uint32_t i = 0; i < count; i++)
			if (scratch[i].weight >= least)
				scratch[kept++] = scratch[i];
		qsort(scratch, kept, sizeof *scratch, compare);
		count = nucleus(scratch, kept, sum, (double)share);
	} else if (by_count) {
		qsort(scratch, count, sizeof *scratch, compare);
	}
	if (by_count || by_share)
		while (count > 1 && scratch[count - 1].weight < floor)
			count--;
	double target = uniform * total(scratch, count), passed = 0;
	for (uint32_t i = 0; i < count; i++) {
		passed += (double)scratch[i].weight;
		if (passed > target)
			return scratch[i].id;
	}
	return count ? scratch[count - 1].id : 0;
}
