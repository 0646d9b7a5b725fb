/* What a word that is no option or command may have been meant for. */
#include <string.h>

#include "cli.h"

enum { MAX_WORD = 40 };

/* Levenshtein's distance with neighbours that have changed places as one step; MAX_WORD for a long word. */
static int distance(const char *a, const char *b)
{
	int rows[3][MAX_WORD + 1], n = (int)strlen(a), m = (int)strlen(b);
	if (n >= MAX_WORD || m >= MAX_WORD)
		return MAX_WORD;
	for (int k = 0; k <= m; k++)
		rows[0][k] = k;
	for (int i = 1; i <= n; i++) {
		int *row = rows[i % 3], *above = rows[(i + 2) % 3], *two_above = rows[(i + 1) % 3];
		row[0] = i;
		for (int k = 1; k <= m; k++) {
			int best = above[k - 1] + (a[i - 1] != b[k - 1]);
			best = above[k] + 1 < best ? above[k] + 1 : best;
			best = row[k - 1] + 1 < best ? row[k - 1] + 1 : best;
			bool swapped = i > 1 && k > 1 && a[i - 1] == b[k - 2] && a[i - 2] == b[k - 1];
			row[k] = swapped && two_above[k - 2] + 1 < best ? two_above[k - 2] + 1 : best;
		}
	}
	return rows[n % 3][m];
}

void cli_consider(struct cli_nearest *nearest, const char *word, const char *candidate)
{
	int d = candidate ? distance(word, candidate) : MAX_WORD;
	/* A third of the word may be wrong, and one letter always. */
	if (d > 1 && d > (int)strlen(word) / 3)
		return;
	if (!nearest->word || d < nearest->distance)
		*nearest = (struct cli_nearest){candidate, d};
}

#define TOKENS_OF_A_STEP "tokens of a step are --max-step-tokens, of batch and serve"

/* Names that other programs have for what is called or given otherwise here. */
static const struct {
	const char *name, *here;
} foreign[] = {
	{"model", "MODEL is an argument without an option"},
	{"hf-repo", "MODEL is a file or a directory, or a name in a folder of TRIMTAB_MODELS"},
	{"hf", "MODEL is a file or a directory, or a name in a folder of TRIMTAB_MODELS"},
	{"control-vector", "it is --policy F.gguf"},
	{"control-vector-scaled", "it is --policy F.gguf:SCALE"},
	{"control-vector-layer-range", "it is --layers A-B"},
	{"n-gpu-layers", "it is --device cuda"},
	{"ngl", "it is --device cuda"},
	{"dev", "it is --device"},
	{"batch-size", TOKENS_OF_A_STEP},
	{"ubatch-size", TOKENS_OF_A_STEP},
	{"ub", TOKENS_OF_A_STEP},
	{"parallel", "requests at once are --max-batch, of batch and serve"},
	{"np", "requests at once are --max-batch, of batch and serve"},
	{"max-model-len", "it is --ctx-size"},
	{"cache-type-k", "it is --kv"},
	{"ctk", "it is --kv"},
	{"cache-type-v", "it is --kv"},
	{"ctv", "it is --kv"},
	{"kv-cache-dtype", "it is --kv"},
	{"system-prompt", "it is --system"},
	{"sys", "it is --system"},
	{"no-conversation", "it is --raw"},
	{"no-cnv", "it is --raw"},
	{"conversation", "it is trimtab chat"},
	{"cnv", "it is trimtab chat"},
	{"jinja", "the model's template is always taken"},
	{"log-disable", "it is --quiet"},
	{"log-file", "messages go to standard error"},
	{"repeat-last-n", "the whole prompt and answer count"},
	{"grammar", "it is not supported"},
	{"json-schema", "it is not supported"},
	{"logit-bias", "it is not supported"},
	{"steering-vector", "it is --policy"},
	{"lora", "it is not supported"},
};

const char *cli_foreign_option(const char *name)
{
	for (size_t i = 0; i < sizeof foreign / sizeof *foreign; i++)
		if (!strcmp(name, foreign[i].name))
			return foreign[i].here;
	return NULL;
}

const char *cli_foreign_letter(int letter)
{
	switch (letter) {
	case 'm':
		return "MODEL is an argument without one";
	case 'b': /* of llama.cpp, and of earlier builds */
		return TOKENS_OF_A_STEP "; requests at once, --max-batch";
	}
	return NULL;
}
