/* The completions of an evaluation side by side, by what the policy did to them. */
#include "runtime/page/report_completions.h"

#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "runtime/page/html.h"
#include "runtime/page/report_figures.h"

enum { MAX_SHOWN = 4, MAX_LINE = 16 << 20 };

/* What became of a prompt, by its two completions. */
enum outcome { NOW_REFUSED, NOW_ANSWERED, STILL_ANSWERED, SAME_ANSWER, STILL_REFUSED, N_OUTCOMES };

static const char *const titles[N_OUTCOMES] = {
	[NOW_REFUSED] = "answered by the model, refused with the policy",
	[NOW_ANSWERED] = "refused by the model, answered with the policy",
	[STILL_ANSWERED] = "answered by both, in other words",
	[SAME_ANSWER] = "answered by both, in the same words",
	[STILL_REFUSED] = "refused by both",
};

const char *tt_page_prompt(const json_t *row)
{
	const json_t *messages = json_object_get(row, "messages");
	size_t n = json_array_size(messages);
	return n ? tt_json_string_or(json_array_get(messages, n - 1), "content", "")
		 : tt_json_string_or(row, "prompt", "");
}

json_t *tt_page_completions_read(const char *path, const char *arm)
{
	json_t *list = json_array();
	FILE *file = fopen(path, "r");
	char *line = NULL;
	size_t capacity = 0;
	ssize_t n;
	while (file && (n = getline(&line, &capacity, file)) > 0 && n < MAX_LINE) {
		json_t *object = json_loadb(line, (size_t)n, 0, NULL);
		bool is_arms = !arm || strcmp(tt_json_string_or(object, "arm", ""), arm) == 0;
		bool is_plain = !json_object_get(object, "variant");
		if (is_arms && is_plain && *tt_page_prompt(object))
			json_array_append(list, object);
		json_decref(object);
	}
	free(line);
	if (file)
		fclose(file);
	return list;
}

static bool is_same(const json_t *row)
{
	return strcmp(tt_json_string_or(row, "unsteered", ""), tt_json_string_or(row, "steered", "")) == 0;
}

static enum outcome outcome_of(const json_t *row)
{
	bool before = json_is_true(json_object_get(row, "refused_unsteered"));
	bool after = json_is_true(json_object_get(row, "refused_steered"));
	if (before != after)
		return after ? NOW_REFUSED : NOW_ANSWERED;
	return before ? STILL_REFUSED : is_same(row) ? SAME_ANSWER : STILL_ANSWERED;
}

const json_t *tt_page_completions_choose(const json_t *completions, bool flagged)
{
	/* First the label that shows the policy at its work, last the one that shows an error. */
	static const char *const wanted[2][3] = {
		{"benign", "borderline", "harmful"}, {"harmful", "borderline", "benign"}};
	const json_t *found = NULL;
	size_t i;
	json_t *row;
	for (size_t k = 0; k < 3 && !found; k++)
		json_array_foreach(completions, i, row)
		{
			if (json_is_true(json_object_get(row, "flagged")) != flagged ||
				strcmp(tt_json_string_or(row, "label", ""), wanted[flagged][k]) != 0)
				continue;
			if (!found || (outcome_of(found) != NOW_REFUSED && outcome_of(row) == NOW_REFUSED))
				found = row;
		}
	return found;
}

/* side: unsteered or steered. */
static void write_completion(FILE *to, const json_t *row, const char *side, const char *title)
{
	static const char *const marks[2][2] = {
		{"", " <small>by phrases only</small>"}, {" <small>not by phrases</small>", ""}};
	char key[64];
	snprintf(key, sizeof key, "refused_%s", side);
	bool refused = json_is_true(json_object_get(row, key));
	snprintf(key, sizeof key, "refused_by_phrases_%s", side);
	bool by_phrases = json_is_true(json_object_get(row, key));
	fprintf(to, "<div><h4>%s%s%s</h4><p>", title, refused ? " <span class=refused>refused</span>" : "",
		marks[refused][by_phrases]);
	tt_page_html_text(to, tt_json_string_or(row, side, ""));
	fputs("</p></div>", to);
}

static void write_article(FILE *to, const json_t *row, const char *label)
{
	fprintf(to, "<article><header><span class=\"tag %s\">%s</span> ", label, label);
	tt_page_html_text(to, tt_page_prompt(row));
	if (is_same(row))
		fputs(" <small>the same text</small>", to);
	fputs("</header><div class=pair>", to);
	write_completion(to, row, "unsteered", "Unsteered");
	write_completion(to, row, "steered", "Steered");
	fputs("</div></article>\n", to);
}

/* The first prompts of a label that had this outcome, under a title that says how many there are. */
static void write_outcome(FILE *to, const json_t *completions, const char *label, enum outcome outcome)
{
	size_t i, n = 0, n_label = 0;
	json_t *row;
	json_array_foreach(completions, i, row)
	{
		bool is_label = strcmp(tt_json_string_or(row, "label", ""), label) == 0;
		n_label += is_label;
		n += is_label && outcome_of(row) == outcome;
	}
	if (n == 0)
		return;
	fprintf(to, "<h3 class=outcome><span class=%s>%s</span>, %s: %zu of %zu</h3>\n", label, label, titles[outcome],
		n, n_label);
	size_t n_shown = 0;
	json_array_foreach(completions, i, row)
	{
		if (n_shown == MAX_SHOWN || strcmp(tt_json_string_or(row, "label", ""), label) != 0 ||
			outcome_of(row) != outcome)
			continue;
		n_shown++;
		write_article(to, row, label);
	}
	if (n > n_shown)
		fprintf(to, "<p class=note>%zu more are in the file of completions.</p>\n", n - n_shown);
}

void tt_page_completions_write(FILE *to, const json_t *completions)
{
	fprintf(to,
		"<section><h2>Side by side</h2>\n<p>By what the policy did. Of each kind the first %d in the order of "
		"the file, not picked.</p>\n",
		MAX_SHOWN);
	for (size_t k = 0; k < TT_PAGE_LABELS; k++)
		for (enum outcome outcome = 0; outcome < N_OUTCOMES; outcome++)
			write_outcome(to, completions, tt_page_labels[k], outcome);
	fputs("</section>\n", to);
}
