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
static const char PROMPT[] = "the rat number 0 bites", OTHER_PROMPT[] = "the rat number 8 bites";

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

/* Nine harmful rows that are answered, flagged all but the last, which is refused with the policy; one that is benign,
 * refused by the model alone. */
static const char *write_completions(struct scratch *s, int seed)
{
	struct tt_buffer text = {0};
	for (int i = 0; i < N_ROWS; i++)
		must(tt_buffer_print(&text, err,
			"{\"prompt\":\"%s\",\"label\":\"harmful\",\"unsteered\":\"a%d\",\"steered\":\"b%d\",\"seed\":%"
			"d,\"flagged\":true,\"refused_steered\":%s}\n",
			i == N_ROWS - 1 ? PROMPT : OTHER_PROMPT, i, i, seed, i == N_ROWS - 1 ? "true" : "false"));
	must(tt_buffer_print(&text, err,
		"{\"prompt\":\"hen\",\"label\":\"benign\",\"unsteered\":\"same\",\"steered\":\"same\",\"flagged\":"
		"false,"
		"\"refused_unsteered\":true,\"refused_by_phrases_unsteered\":false,"
		"\"refused_steered\":false,\"refused_by_phrases_steered\":true}\n"));
	const char *path = scratch_write(s, FILES[0], text.data, text.len);
	tt_buffer_free(&text);
	return path;
}

/* figures: the report, NULL for one without figures. */
static char *write_figures(struct tt_engine *engine, struct tt_policy *policy, const char *figures, size_t n_arms,
	float temperature, int seed)
{
	struct scratch s;
	char completions[512], path[512];
	struct tt_eval_arm arms[3];
	for (int i = 0; i < 3; i++)
		arms[i] = (struct tt_eval_arm){.steering = {{policy, 1 / (float)(1 + i)}}, .n_steering = 1};
	if (n_arms > 1)
		arms[0].name = "<one>", arms[1].name = "two", arms[2].name = "three";
	struct tt_buffer text = {0};
	scratch_make(&s);
	snprintf(completions, sizeof completions, "%s", write_completions(&s, seed));
	snprintf(path, sizeof path, "%s", scratch_write(&s, FILES[1], "", 0));
	json_t *eval =
		figures ? json_loads(figures, 0, NULL) : json_pack("{s:[], s:[], s:{}}", "labels", "groups", "speed");
	cr_assert_not_null(eval);
	json_object_set_new(eval, "max_tokens", json_integer(8));
	const struct tt_page_report report = {.path = path,
		.completions = completions,
		.eval = eval,
		.engine = engine,
		.arms = arms,
		.n_arms = n_arms,
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
	return write_figures(engine, policy, NULL, 1, 0, 0);
}

static size_t count(const char *text, const char *what)
{
	size_t n = 0;
	for (const char *at = text; (at = strstr(at, what)); at += strlen(what))
		n++;
	return n;
}

Test(html_page, shows_the_first_four_of_an_outcome)
{
	struct tt_engine *engine = engine_open(TINY, 4, 64);
	struct tt_policy *policy = make_policy(engine);
	char *page = write_page(engine, policy);
	cr_expect_eq(count(page, "<article>"), 6, "five harmful and the benign one, not %zu", count(page, "<article>"));
	cr_expect_not_null(strstr(page, "harmful</span>, answered by the model, refused with the policy: 1 of 9</h3>"));
	cr_expect_not_null(strstr(page, "harmful</span>, answered by both, in other words: 8 of 9</h3>"));
	cr_expect_not_null(strstr(page, "benign</span>, refused by the model, answered with the policy: 1 of 1</h3>"));
	cr_expect_not_null(strstr(page, "4 more are in the file of completions"));
	cr_expect(strstr(page, "<p>b8</p>") < strstr(page, "<p>b0</p>"), "what the policy turned comes first");
	cr_expect_not_null(strstr(page, "<p>b3</p>"));
	cr_expect_null(strstr(page, "<p>b4</p>"));
	cr_expect_eq(count(page, "<small>the same text</small>"), 1);
	cr_expect_eq(
		count(page, "<h4>Unsteered <span class=refused>refused</span> <small>not by phrases</small></h4>"), 1);
	cr_expect_eq(count(page, "<h4>Steered <small>by phrases only</small></h4>"), 1);
	cr_expect_eq(count(page, "<h4>Steered</h4>"), 4);
	cr_expect_eq(count(page, "<figure>"), 2, "a map of a flagged prompt and of one that was let pass");
	cr_expect_not_null(strstr(page, "harmful</span> the rat number 0 bites<small>strongest push"),
		"the flagged one that the policy turned");
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
		pages[i] = write_figures(engine, policy, NULL, 1, i < 3 ? 2 : 0, i == 1 || i == 4 ? 2 : 1);
	cr_expect_str_neq(pages[0], pages[1], "another seed");
	cr_expect_str_eq(pages[0], pages[2], "the same seed");
	cr_expect_str_neq(pages[0], pages[3], "sampled and not");
	cr_expect_str_eq(pages[3], pages[4], "greedy, whatever the seed");
	for (int i = 0; i < 5; i++)
		free(pages[i]);
	tt_engine_close(engine);
	tt_policy_free(policy);
}

/* A group of the report: a label of one file, refused before and after, with intervals. */
#define GROUP(label, steered)                                                                                          \
	"{\"label\":\"" label "\",\"file\":\"f.jsonl\",\"n\":50,\"flagged\":0.5,\"flagged_interval\":[0.37,0.63],"     \
	"\"changed\":0.25,\"refused\":{\"unsteered\":0.04,\"steered\":" steered                                        \
	"},\"refused_interval\":{\"unsteered\":"                                                                       \
	"[0.01,0.13],\"steered\":[0.79,0.96]},\"paired\":{\"refused\":{\"p\":1e-9}},\"paired_with_first\":"            \
	"{\"refused\":{\"p\":0.0313}}}"
#define GATE                                                                                                           \
	"{\"type\":\"probe\",\"threshold\":0.75,\"opens\":\"above\",\"histogram\":{\"from\":0.5,\"to\":1.5,"           \
	"\"harmful\":"                                                                                                 \
	"[1,0,3],\"benign\":[8,0,0],\"borderline\":[0,0,0]},\"curves\":[{\"against\":\"benign\",\"n_harmful\":4,"      \
	"\"n_against\":8,\"auc\":0.875,\"auc_interval\":[0.6,0.97],\"points\":[{\"flagged\":0.75,\"flagged_"           \
	"interval\":"                                                                                                  \
	"[0.3,0.95]}]}],\"costs\":{\"price_false_refusal\":1,\"price_miss\":4,\"as_it_is\":{\"cost\":0.5,\"missed\":"  \
	"1,"                                                                                                           \
	"\"false_refusals\":2},\"cheapest\":{\"from\":1.25,\"cost\":0.25,\"missed\":1,\"false_refusals\":0},"          \
	"\"curve\":"                                                                                                   \
	"[{\"from\":null,\"cost\":1},{\"from\":1.25,\"cost\":0.25}]}}"

Test(html_page, shows_intervals_gates_and_costs)
{
	static const char figures[] =
		"{\"labels\":[],\"groups\":[" GROUP("harmful", "0.9") "],\"speed\":{},\"gate\":" GATE "}";
	static const char *const expected[] = {
		"<td class=n>4.0%<small>1–13</small></td><td class=n><b>90.0%<small>79–96</small></b></td>"
		"<td class=n>&lt;.0001</td>",
		"<td class=n>50.0%<small>37–63</small></td><td class=n>25.0%</td>", "<h2>The gate</h2>",
		/* Three of four and eight of eight, as high as their share of the label. */
		"harmful</span> 4 prompts</h3><div class=harmful><div class=bins aria-hidden=true><i "
		"style=\"height:25%\"></i><i style=\"height:0%\"></i><i style=\"height:75%\"></i><b "
		"style=\"left:25.0%\"></b></div>",
		"benign</span> 8 prompts</h3><div class=benign><div class=bins aria-hidden=true><i "
		"style=\"height:100%\"></i>",
		"the line is the threshold, 0.75, above which it opens",
		"<td>all files</td><td class=n>4 + 8</td><td class=n><b>0.875</b><small>0.60–0.97</small></td>"
		"<td class=n>75.0%<small>30–95</small></td>",
		"at 1 a false refusal and 4 a miss</h3><p>As it is: <b>0.5</b> a prompt (2 false refusals, 1 missed). "
		"Least: <b>0.25</b> a prompt (0 false refusals, 1 missed), from a gate of 1.25 on.</p>",
		"<div class=\"bins costs\" aria-hidden=true><i style=\"height:100.0%\"></i><i "
		"style=\"height:25.0%\"></i>"};
	struct tt_engine *engine = engine_open(TINY, 4, 64);
	struct tt_policy *policy = make_policy(engine);
	char *page = write_figures(engine, policy, figures, 1, 0, 0);
	for (size_t i = 0; i < sizeof expected / sizeof *expected; i++)
		cr_expect_not_null(strstr(page, expected[i]), "%s", expected[i]);
	cr_expect_null(strstr(page, "borderline</span> 0 prompts"), "a label without prompts");
	cr_expect_null(strstr(page, "<h2>Arms</h2>"));
	free(page);
	tt_engine_close(engine);
	tt_policy_free(policy);
}

/* A row for the model alone and one for each arm; a gate that two arms have, once; the policy with all its scales. */
Test(html_page, compares_arms)
{
	static const char figures[] = "{\"labels\":[],\"groups\":[" GROUP(
		"harmful", "0.9") "],\"speed\":{},\"arms\":["
				  "{\"name\":\"<one>\",\"groups\":[" GROUP("harmful",
					  "0.9") "],\"gate\":" GATE "},"
						 "{\"name\":\"two\",\"groups\":[" GROUP("harmful",
							 "0.7") "],\"gate\":" GATE "},"
								"{\"name\":\"three\",\"groups\":[" GROUP(
									"harmful", "0.3") "],\"gate\":null}]}";
	static const char *const expected[] = {"<b>&lt;one&gt;</b>, <b>two</b>, <b>three</b> on ",
		"<tr><td>unsteered</td><td class=n>4.0%<small>1–13</small></td><td class=n></td></tr>",
		"<tr><td>&lt;one&gt;</td><td class=n>90.0%<small>79–96</small></td>",
		"<tr><td>two</td><td class=n>70.0%<small>79–96</small></td><td class=n>0.031</td></tr>",
		"<tr><td>three</td><td class=n>30.0%<small>79–96</small></td>", "<h2>The gate of &lt;one&gt;</h2>",
		"<dt>Strength</dt><dd>0.5 × scale 1, 0.5, 0.333333</dd>"};
	struct tt_engine *engine = engine_open(TINY, 4, 64);
	struct tt_policy *policy = make_policy(engine);
	char *page = write_figures(engine, policy, figures, 3, 0, 0);
	for (size_t i = 0; i < sizeof expected / sizeof *expected; i++)
		cr_expect_not_null(strstr(page, expected[i]), "%s", expected[i]);
	cr_expect_eq(count(page, "<h2>The gate of "), 1);
	cr_expect_eq(count(page, "<dt>Strength</dt>"), 1);
	free(page);
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
