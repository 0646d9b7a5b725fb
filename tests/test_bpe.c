/* Merging against its definition, written plainly: look through all pairs, merge the one of the lowest rank that comes
 * first, and look again. Words of every length about the border where the heap takes over, and long ones. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "random.h"
#include "runtime/text/tokenizer/bpe.h"

enum { MAX_MERGES = 400, LONGEST = 700, DENSE = 12 };

struct merge {
	int32_t left, right;
	uint32_t rank;
	int32_t id;
};

struct vocabulary {
	struct merge merges[MAX_MERGES];
	size_t n;
	struct tt_bpe bpe;
};

static uint32_t draw(uint64_t *state, uint32_t n)
{
	return next_random(state) % n;
}

/* The letters a.. are 0..n_letters - 1; each merge joins two ids that are there already. Where several merges share a
 * rank, the leftmost goes first. */
static void make(struct vocabulary *v, uint32_t n_letters, uint32_t n_merges, uint32_t per_rank, uint64_t seed)
{
	struct tt_error err = {0};
	memset(v, 0, sizeof *v);
	cr_assert_eq(tt_bpe_init(&v->bpe, n_merges, &err), TT_OK, "%s", err.message);
	for (uint32_t i = 0; i < n_letters; i++)
		v->bpe.byte_id['a' + i] = (int32_t)i;
	while (v->n < n_merges) {
		/* Where letters are few, most pairs of the first ids merge, so that pairs go and others take their
		 * place. */
		uint32_t n_ids = n_letters + (uint32_t)v->n, n_join = n_letters <= 3 && n_ids > DENSE ? DENSE : n_ids;
		struct merge m = {(int32_t)draw(&seed, n_join), (int32_t)draw(&seed, n_join), (uint32_t)v->n / per_rank,
			(int32_t)n_ids};
		bool known = false;
		for (size_t i = 0; i < v->n; i++)
			known |= v->merges[i].left == m.left && v->merges[i].right == m.right;
		if (known)
			continue;
		v->merges[v->n++] = m;
	}
	/* Ranks in another order than ids: what is merged late may be needed early, and pairs come and go. */
	for (size_t i = v->n; i > 1; i--) {
		size_t k = draw(&seed, (uint32_t)i);
		uint32_t swap = v->merges[i - 1].rank;
		v->merges[i - 1].rank = v->merges[k].rank;
		v->merges[k].rank = swap;
	}
	for (size_t i = 0; i < v->n; i++) {
		const struct merge *m = &v->merges[i];
		cr_assert_eq(
			tt_bpe_add_merge(&v->bpe, m->left, m->right, m->rank, m->id, &err), TT_OK, "%s", err.message);
	}
}

static const struct merge *find(const struct vocabulary *v, int32_t left, int32_t right)
{
	for (size_t i = 0; i < v->n; i++)
		if (v->merges[i].left == left && v->merges[i].right == right)
			return &v->merges[i];
	return NULL;
}

static size_t merge_plainly(const struct vocabulary *v, const char *word, size_t n, int32_t *ids)
{
	for (size_t i = 0; i < n; i++)
		ids[i] = word[i] - 'a';
	for (;;) {
		const struct merge *best = NULL;
		size_t at = 0;
		for (size_t i = 0; i + 1 < n; i++) {
			const struct merge *m = find(v, ids[i], ids[i + 1]);
			if (m && (!best || m->rank < best->rank)) {
				best = m;
				at = i;
			}
		}
		if (!best)
			return n;
		ids[at] = best->id;
		memmove(ids + at + 1, ids + at + 2, (n - at - 2) * sizeof *ids);
		n--;
	}
}

static void check_word(const struct vocabulary *v, struct tt_bpe_scratch *scratch, const char *word, size_t n)
{
	struct tt_error err = {0};
	struct tt_ids ids = {0};
	int32_t want[LONGEST];
	size_t n_want = merge_plainly(v, word, n, want);
	cr_assert_eq(tt_bpe_encode(&v->bpe, scratch, word, n, &ids, &err), TT_OK, "%s", err.message);
	cr_assert_eq(ids.len, n_want, "%zu letters: %zu ids, not %zu", n, ids.len, n_want);
	cr_assert_arr_eq(ids.data, want, n_want * sizeof *want, "%zu letters: other ids", n);
	tt_ids_free(&ids);
}

static void check_vocabulary(uint32_t n_letters, uint32_t n_merges, uint32_t per_rank, uint64_t seed)
{
	static struct vocabulary v;
	struct tt_bpe_scratch scratch = {0};
	char word[LONGEST];
	make(&v, n_letters, n_merges, per_rank, seed);
	for (size_t n = 1; n <= 60; n++)
		for (int round = 0; round < 4; round++) {
			for (size_t i = 0; i < n; i++)
				word[i] = (char)('a' + draw(&seed, n_letters));
			check_word(&v, &scratch, word, n);
		}
	for (size_t n = 61; n <= LONGEST; n += 71) {
		for (size_t i = 0; i < n; i++)
			word[i] = (char)('a' + draw(&seed, n_letters));
		check_word(&v, &scratch, word, n);
		memset(word, 'a', n);
		check_word(&v, &scratch, word, n);
	}
	tt_bpe_scratch_free(&scratch);
	tt_bpe_free(&v.bpe);
}

Test(bpe, merges_as_a_look_through_all_pairs_does)
{
	for (uint64_t seed = 1; seed <= 12; seed++) {
		check_vocabulary(2, 90, 1, seed);
		check_vocabulary(4, 120, 1, seed);
		check_vocabulary(9, 300, 1, seed);
	}
}

Test(bpe, of_pairs_that_share_a_rank_the_leftmost_goes_first)
{
	for (uint64_t seed = 1; seed <= 12; seed++) {
		check_vocabulary(3, 90, 3, seed);
		check_vocabulary(5, 200, 8, seed);
	}
}
