/* The page of an evaluation: which completions are on it, and that its maps and bars say where the policy pushes and
 * what the gate reads. tests/test_cli.sh holds that nothing in it breaks out. */
#include <criterion/criterion.h>
#include <jansson.h>

#include "golden.h"
#include "runtime/page/report.h"
#include "weights_files.h"

#define TINY GOLDEN("tiny-llama")

enum { N_LAYERS = 3, WIDTH = 64, N_ROWS = 9, MAX_TOKENS = 128 };
static const char *const FILES[] = {"completions.jsonl", "page.html"};
static const char PROMPT[] = "the rat number 0 bites";

/* Reads layers 0 and 1 with a gate that is always open; pushes after layers 1 and 2, the second half as hard. */
static struct tt_policy *make_gated(struct tt_engine *engine, enum tt_policy_gate kind, uint32_t form, uint32_t n_units)
{
	static const uint32_t observed[] = {0, 1};
	struct tt_policy *p = NULL;
	must(tt_policy_new(&p, N_LAYERS, WIDTH, 1, err));
	const struct tt_gate_choice gate = {
		.gate = kind, .form = form, .observed = observed, .n_observed = 2, .n_units = n_units};
	must(tt_policy_set_gate(p, &gate, err));
	p->gate_bias = 5;
	p->when = TT_WHEN_ALL;
	p->alpha = 0.5f;
	p->weights[1] = 1;
	p->weights[2] = 0.5f;
	p->directions[WIDTH] = 3;
	p->directions[WIDTH + 1] = 4;
	p->directions[2 * WIDTH] = 5;
	must(tt_policy_set_text(&p->name, "two bands", err));
	policy_adopt(engine, p);
	return p;
}

static struct tt_policy *make_policy(struct tt_engine *engine)
{
	return make_gated(engine, TT_GATE_PROBE, 0, 0);
}

/* Nine harmful rows, one that is benign. */
static const char *write_completions(struct scratch *s, int seed)
{
	struct tt_buffer text = {0};
	for (int i = 0; i < N_ROWS; i++)
		must(tt_buffer_print(&text, err,
			"{\"prompt\":\"%s\",\"label\":\"harmful\",\"unsteered\":\"a%d\",\"steered\":\"b%d\",\"seed\":%"
			"d}\n",
			PROMPT, i, i, seed));
	must(tt_buffer_print(&text, err,
		"{\"prompt\":\"hen\",\"label\":\"benign\",\"unsteered\":\"same\",\"steered\":\"same\","
		"\"refused_unsteered\":true,\"refused_by_phrases_unsteered\":false,"
		"\"refused_steered\":false,\"refused_by_phrases_steered\":true}\n"));
	const char *path = scratch_write(s, FILES[0], text.data, text.len);
	tt_buffer_free(&text);
	return path;
}

static char *write_sampled_page(struct tt_engine *engine, struct tt_policy *policy, float temperature, int seed)
{
	struct scratch s;
	char completions[512], path[512];
	const struct tt_steering steering = {policy, 1};
	struct tt_buffer text = {0};
	scratch_make(&s);
	snprintf(completions, sizeof completions, "%s", write_completions(&s, seed));
	snprintf(path, sizeof path, "%s", scratch_write(&s, FILES[1], "", 0));
	json_t *eval = json_pack("{s:[], s:[], s:{}}", "labels", "groups", "speed");
	const struct tt_page_report report = {.path = path,
		.completions = completions,
		.eval = eval,
		.engine = engine,
		.steering = &steering,
		.n_steering = 1,
		.sampling = {.top_p = 1, .temperature = temperature},
		.when = TT_WHEN_POLICY};
	must(tt_page_write(&report, err));
	must(tt_file_read(&text, path, 1 << 24, err));
	json_decref(eval);
	scratch_remove(&s, FILES, 2);
	return text.data;
}

static char *write_page(struct tt_engine *engine, struct tt_policy *policy)
{
	return write_sampled_page(engine, policy, 0, 0);
}

static size_t count(const char *text, const char *what)
{
	size_t n = 0;
	for (const char *at = text; (at = strstr(at, what)); at += strlen(what))
		n++;
	return n;
}

Test(html_page, shows_the_first_six_of_a_label)
{
	struct tt_engine *engine = engine_open(TINY, 4, 64);
	struct tt_policy *policy = make_policy(engine);
	char *page = write_page(engine, policy);
	cr_expect_eq(count(page, "<article>"), 7, "six harmful and the benign one, not %zu", count(page, "<article>"));
	cr_expect_not_null(strstr(page, "<p>a5</p>"));
	cr_expect_null(strstr(page, "<p>a6</p>"));
	cr_expect_eq(count(page, "<small>the same text</small>"), 1);
	cr_expect_eq(
		count(page, "<h4>Unsteered <span class=refused>refused</span> <small>not by phrases</small></h4>"), 1);
	cr_expect_eq(count(page, "<h4>Steered <small>by phrases only</small></h4>"), 1);
	cr_expect_eq(count(page, "<h4>Steered</h4>"), 6);
	cr_expect_eq(count(page, "<figure>"), 2, "a map of the first prompt of each label");
	free(page);
	tt_engine_close(engine);
	tt_policy_free(policy);
}

/* The map shows the completion that was measured, which its seed repeats. */
Test(html_page, maps_are_sampled_with_the_seed_of_the_row)
{
	struct tt_engine *engine = engine_open(TINY, 4, 64);
	struct tt_policy *policy = make_policy(engine);
	char *pages[5];
	for (int i = 0; i < 5; i++)
		pages[i] = write_sampled_page(engine, policy, i < 3 ? 2 : 0, i == 1 || i == 4 ? 2 : 1);
	cr_expect_str_neq(pages[0], pages[1], "another seed");
	cr_expect_str_eq(pages[0], pages[2], "the same seed");
	cr_expect_str_neq(pages[0], pages[3], "sampled and not");
	cr_expect_str_eq(pages[3], pages[4], "greedy, whatever the seed");
	for (int i = 0; i < 5; i++)
		free(pages[i]);
	tt_engine_close(engine);
	tt_policy_free(policy);
}

Test(html_page, says_which_layers_are_pushed_and_read)
{
	struct tt_engine *engine = engine_open(TINY, 4, 64);
	struct tt_policy *policy = make_policy(engine);
	char *page = write_page(engine, policy);
	cr_expect_not_null(strstr(page, " after layers 1 to 2</dd>"));
	cr_expect_not_null(strstr(page, " on the last prompt token, layers 0, 1; it steers above 0.5"));
	/* Both directions are 5 long. */
	cr_expect_not_null(strstr(page, "<span class=reads title=\"layer 0: weight 0, direction of length 0, the gate "
					"reads here\"><i style=\"height:0%\">"));
	cr_expect_not_null(strstr(page, "<span class=reads title=\"layer 1: weight 1, direction of length 5, the gate "
					"reads here\"><i style=\"height:100%\">"));
	cr_expect_not_null(
		strstr(page, "<span title=\"layer 2: weight 0.5, direction of length 5\"><i style=\"height:50%\">"));
	free(page);
	tt_engine_close(engine);
	tt_policy_free(policy);
}

Test(html_page, says_what_hidden_units_give)
{
	static const struct {
		enum tt_policy_gate gate;
		uint32_t form;
		const char *expected;
	} gates[] = {
		{TT_GATE_MLP, 0, "; its 4 hidden units give the strength and each layer's weight</dd>"},
		{TT_GATE_PROBE_MLP, 0, "; it steers above 0.5; its 4 hidden units give a part of the probability</dd>"},
		{TT_GATE_PROBE_MLP, 1, "units give a part of the probability and each layer's weight</dd>"},
	};
	for (size_t i = 0; i < sizeof gates / sizeof *gates; i++) {
		struct tt_engine *engine = engine_open(TINY, 4, 64);
		struct tt_policy *policy = make_gated(engine, gates[i].gate, gates[i].form, 4);
		char *page = write_page(engine, policy);
		cr_expect_not_null(strstr(page, gates[i].expected), "%s", gates[i].expected);
		free(page);
		tt_engine_close(engine);
		tt_policy_free(policy);
	}
}

/* The ids of the prompt as a chat. */
static size_t encode(struct tt_engine *engine, int32_t **ids)
{
	char *messages = NULL;
	size_t n = 0;
	must(tt_text_user_message(PROMPT, strlen(PROMPT), NULL, &messages, err));
	must(tt_text_encode_chat(tt_engine_text(engine), messages, NULL, ids, &n, err));
	tt_free(messages);
	return n;
}

/* Length of what comes out of a layer at the last token of ids, unsteered. */
static double stream_norm(struct tt_engine *engine, const int32_t *ids, size_t n, uint32_t layer)
{
	struct tt_request_options options;
	const uint64_t layers = (uint64_t)1 << layer;
	double squares = 0;
	tt_request_options_default(&options);
	options.ids = ids;
	options.n_ids = n;
	options.keep_layers = &layers;
	struct tt_request *request = request_run(engine, &options);
	const float *h = tt_request_hidden(request, layer) + (n - 1) * WIDTH;
	for (int i = 0; i < WIDTH; i++)
		squares += (double)h[i] * (double)h[i];
	tt_request_free(request);
	return sqrt(squares);
}

/* The cells of a layer in the first map: their classes, and the push of the titled ones, in percent. */
struct cells {
	size_t n;
	bool read[MAX_TOKENS], first[MAX_TOKENS], shaded[MAX_TOKENS];
	double push[MAX_TOKENS];
};

static struct cells read_cells(const char *page, uint32_t layer)
{
	struct cells c = {0};
	char head[40];
	snprintf(head, sizeof head, "<tr><th scope=row>%u</th>", layer);
	const char *at = strstr(page, head);
	cr_assert_not_null(at, "no row of layer %u", layer);
	const char *end = strstr(at, "</tr>");
	for (at = strstr(at, "<td class=\""); at && at < end; at = strstr(at, "<td class=\""), c.n++) {
		const char *class = at + strlen("<td class=\""), *close = strstr(at, "></td>");
		const char *class_end = strchr(class, '"'), *pushed = strstr(at, "pushed by ");
		char words[40];
		cr_assert_lt(c.n, MAX_TOKENS);
		snprintf(words, sizeof words, "%.*s", (int)(class_end - class), class);
		c.read[c.n] = strstr(words, " read");
		c.first[c.n] = strstr(words, " first");
		c.shaded[c.n] = strncmp(words, "c0", 2) != 0;
		c.push[c.n] = pushed && pushed < close ? strtod(pushed + strlen("pushed by "), NULL) : 0;
		at = close;
	}
	return c;
}

/* The gate reads its layers at the last prompt token alone; a cell's push is the length of what was added over the
 * stream's. */
Test(html_page, a_map_has_each_push_in_its_cell)
{
	struct tt_engine *engine = engine_open(TINY, 4, 64);
	struct tt_policy *policy = make_policy(engine);
	int32_t *ids = NULL;
	char *page = write_page(engine, policy);
	size_t n_prompt = encode(engine, &ids);
	for (uint32_t layer = 0; layer < N_LAYERS; layer++) {
		const struct cells c = read_cells(page, layer);
		cr_assert_eq(c.n, n_prompt + 23, "the prompt, and what was generated but for the last");
		for (size_t p = 0; p < c.n; p++) {
			cr_expect_eq(c.read[p], layer < 2 && p + 1 == n_prompt, "layer %u, token %zu", layer, p);
			cr_expect_eq(c.first[p], p == n_prompt, "layer %u, token %zu", layer, p);
			cr_expect_eq(c.shaded[p], layer > 0, "layer %u, token %zu", layer, p);
		}
		if (layer == 1) {
			double want = 100 * 0.5 * 5 / stream_norm(engine, ids, n_prompt, 1);
			cr_expect_float_eq(c.push[n_prompt - 1], want, 0.06, "%g, not %g", c.push[n_prompt - 1], want);
			want = 100 * 0.5 * 5 / stream_norm(engine, ids, 2, 1);
			cr_expect_float_eq(c.push[1], want, 0.06, "%g, not %g", c.push[1], want);
		}
	}
	tt_free(ids);
	free(page);
	tt_engine_close(engine);
	tt_policy_free(policy);
}

/* A page that cannot be written is an error with a message. */
Test(html_page, an_error_names_the_page)
{
	struct tt_error err = {0};
	const struct tt_page_report report = {.path = "/nowhere/page.html", .completions = "/nowhere/c.jsonl"};
	cr_expect_eq(tt_page_write(&report, &err), TT_ERR_IO);
	cr_expect_not_null(strstr(err.message, "/nowhere/page.html"), "%s", err.message);
}
