#include "controller/measure/prompts.h"

#include <stdlib.h>
#include <string.h>

#include "base/fail.h"
#include "base/file.h"
#include "base/json.h"
#include "base/sha256.h"
#include "runtime/text/chat.h"

static const char *const label_names[TT_N_LABELS] = {"harmful", "benign", "borderline"};

const char *tt_prompts_file_name(const struct tt_prompts *prompts, size_t file)
{
	return tt_file_name(prompts->files[file].path);
}

const char *tt_label_name(enum tt_label label)
{
	return label_names[label];
}

/* val has other names where data sets are published. */
static enum tt_split split_of(const char *name)
{
	static const char *const names_of_val[] = {"val", "validation", "valid", "dev"};
	for (size_t i = 0; i < sizeof names_of_val / sizeof *names_of_val; i++)
		if (strcmp(name, names_of_val[i]) == 0)
			return TT_VAL;
	return strcmp(name, "train") == 0 ? TT_TRAIN : strcmp(name, "test") == 0 ? TT_TEST : TT_OTHER_SPLIT;
}

static int need_string(const json_t *row, const char *key, const char **out, struct tt_error *err)
{
	TT_TRY(tt_json_string(row, key, out, err));
	if (!*out)
		return tt_fail(err, TT_ERR_FORMAT, "%s is missing", key);
	if (!**out)
		return tt_fail(err, TT_ERR_FORMAT, "%s is empty", key);
	return TT_OK;
}

static const char *word_of(const struct tt_prompt_form *form, enum tt_label label)
{
	const char *own = label == TT_HARMFUL ? form->harmful : label == TT_BENIGN ? form->benign : NULL;
	return own ? own : label_names[label];
}

/* Of two labels with one word the first would have the rows of both. */
static int check_words(const struct tt_prompt_form *form, struct tt_error *err)
{
	for (int i = 0; i < TT_N_LABELS; i++)
		for (int j = 0; j < i; j++)
			if (!strcmp(word_of(form, (enum tt_label)i), word_of(form, (enum tt_label)j)))
				return tt_fail(err, TT_ERR_ARGUMENT, "\"%.40s\" is the word for two labels",
					word_of(form, (enum tt_label)i));
	return TT_OK;
}

static bool find_label(const struct tt_prompt_form *form, const char *word, enum tt_label *out)
{
	for (int i = 0; i < TT_N_LABELS; i++) {
		if (strcmp(word, word_of(form, (enum tt_label)i)) == 0) {
			*out = (enum tt_label)i;
			return true;
		}
	}
	return false;
}

static int read_label(const json_t *row, const struct tt_prompt_form *form, enum tt_label *out, struct tt_error *err)
{
	const char *label = NULL;
	TT_TRY(need_string(row, "label", &label, err));
	if (find_label(form, label, out))
		return TT_OK;
	return tt_fail(err, TT_ERR_FORMAT,
		form->reviewed ? "label must be %.40s, %.40s or %s, not \"%.40s\""
			       : "label must be %.40s, %.40s, %s or text, not \"%.40s\"",
		word_of(form, TT_HARMFUL), word_of(form, TT_BENIGN), word_of(form, TT_BORDERLINE), label);
}

/* A word of the form's own for another label wins. */
static bool is_text(const json_t *row, const struct tt_prompt_form *form)
{
	const char *label = json_string_value(json_object_get(row, "label"));
	enum tt_label other;
	return label && !form->take && !form->reviewed && !find_label(form, label, &other) &&
	       strcmp(label, "text") == 0;
}

/* *holds: there is a verdict, by which the row's label may change. */
static int read_verdict(
	const json_t *row, const struct tt_prompt_form *form, enum tt_label *label, bool *holds, struct tt_error *err)
{
	const char *verdict = NULL;
	if (!json_is_object(row))
		return tt_fail(err, TT_ERR_FORMAT, "not a JSON object");
	TT_TRY(tt_json_string(row, "verdict", &verdict, err));
	*holds = verdict && *verdict;
	if (!*holds || find_label(form, verdict, label))
		return TT_OK;
	if (strcmp(verdict, "keep") == 0)
		return read_label(row, form, label, err);
	return tt_fail(
		err, TT_ERR_FORMAT, "verdict must be harmful, benign, borderline or keep, not \"%.40s\"", verdict);
}

/* Files that were not made for trimtab have other things than text under such keys. */
static int copy_if_text(char **out, const json_t *row, const char *key, struct tt_error *err)
{
	const char *text = json_string_value(json_object_get(row, key));
	text = text ? text : "";
	return tt_copy_string(out, text, strlen(text), err);
}

/* The messages of a conversation: *text is the last one's, borrowed, and *before, a new reference, has the others. */
static int read_messages(const json_t *messages, const char **text, json_t **before, struct tt_error *err)
{
	const char *role = NULL;
	size_t i;
	json_t *message;
	if (!json_is_array(messages) || json_array_size(messages) == 0)
		return tt_fail(err, TT_ERR_FORMAT, "messages must be a list, and not an empty one");
	json_array_foreach(messages, i, message)
	{
		role = json_string_value(json_object_get(message, "role"));
		*text = json_string_value(json_object_get(message, "content"));
		if (!role || !*text)
			return tt_fail(
				err, TT_ERR_FORMAT, "messages[%zu] must have a role and a content, both text", i);
	}
	if (strcmp(role, "user") != 0 || !**text)
		return tt_fail(err, TT_ERR_FORMAT, "the last of the messages must be a user's, and not empty");
	*before = json_deep_copy(messages);
	if (!*before || json_array_remove(*before, i - 1) != 0)
		return tt_fail(err, TT_ERR_MEMORY, "out of memory: messages");
	json_array_foreach(*before, i, message)
	{
		role = json_string_value(json_object_get(message, "role"));
		if (json_object_set_new(message, "role", json_string(tt_chat_role(role))) != 0)
			return tt_fail(err, TT_ERR_MEMORY, "out of memory: messages");
	}
	return TT_OK;
}

/* The prompt, and what was said before it. A table with both columns has null where a row lacks one. */
static int read_text(struct tt_prompt *out, const json_t *row, struct tt_error *err)
{
	const char *text = NULL;
	json_t *before = NULL;
	const json_t *messages = json_object_get(row, "messages");
	bool is_talk = tt_json_has(row, "messages") && !tt_json_has(row, "prompt");
	int status = is_talk ? read_messages(messages, &text, &before, err) : need_string(row, "prompt", &text, err);
	if (status == TT_OK)
		status = tt_copy_string(&out->text, text, strlen(text), err);
	if (status == TT_OK && json_array_size(before) > 0)
		return tt_json_dump(&out->before, before, JSON_COMPACT, err);
	json_decref(before);
	return status;
}

static int read_row(struct tt_prompt *out, const json_t *row, const struct tt_prompt_form *form, struct tt_error *err)
{
	const char *id = NULL, *split = NULL;
	if (!json_is_object(row))
		return tt_fail(err, TT_ERR_FORMAT, "not a JSON object");
	TT_TRY(need_string(row, "id", &id, err));
	TT_TRY(read_text(out, row, err));
	if (!form->take && !form->reviewed && !out->is_text)
		TT_TRY(read_label(row, form, &out->label, err));
	TT_TRY(tt_json_string(row, "split", &split, err));
	out->split = split ? split_of(split) : TT_NO_SPLIT;
	if (out->split == TT_OTHER_SPLIT && !form->any_split)
		return tt_fail(err, TT_ERR_FORMAT, "split must be train, val or test, not \"%.40s\"", split);
	if (split)
		TT_TRY(tt_copy_string(&out->split_name, split, strlen(split), err));
	TT_TRY(copy_if_text(&out->source, row, "source", err));
	TT_TRY(copy_if_text(&out->kind, row, "kind", err));
	return tt_copy_string(&out->id, id, strlen(id), err);
}

struct reader {
	struct tt_prompts *prompts;
	uint32_t file;
	const struct tt_prompt_form *form;
};

static int take_row(void *user, const struct tt_json_line *line, struct tt_error *err)
{
	struct reader *r = user;
	struct tt_prompts *out = r->prompts;
	bool holds_prompt = true;
	enum tt_label label = TT_HARMFUL;
	if (r->form->take)
		TT_TRY(r->form->take(r->form->user, line, &holds_prompt, err));
	if (r->form->reviewed)
		TT_TRY(read_verdict(line->value, r->form, &label, &holds_prompt, err));
	out->files[r->file].n_rows++;
	bool text = is_text(line->value, r->form);
	if (!holds_prompt || (text && !r->form->texts))
		return TT_OK;
	TT_TRY(tt_grow(&out->rows, &out->capacity, out->n_rows + 1, sizeof *out->rows, err));
	/* Counted before it is read, so that tt_prompts_free also releases a row that was only partly read. */
	struct tt_prompt *prompt = &out->rows[out->n_rows++];
	*prompt = (struct tt_prompt){.file = r->file,
		.line = line->number,
		.label = text ? TT_BENIGN : label,
		.is_text = text,
		.reviewed = r->form->reviewed};
	TT_TRY(tt_copy_string(&prompt->bytes, line->text, line->n, err));
	return read_row(prompt, line->value, r->form, err);
}

static int read_file(struct tt_prompts *out, const char *path, const struct tt_prompt_form *form, struct tt_error *err)
{
	struct tt_mapping mapping;
	struct tt_prompt_file *file = &out->files[out->n_files];
	TT_TRY(tt_copy_string(&file->path, path, strlen(path), err));
	out->n_files++;
	TT_TRY(tt_file_map(&mapping, path, err));
	int status = tt_sha256(file->sha256, mapping.data, mapping.size, err);
	struct reader reader = {out, (uint32_t)out->n_files - 1, form};
	if (status == TT_OK)
		status = tt_json_lines(path, (const char *)mapping.data, mapping.size, take_row, &reader, err);
	tt_file_unmap(&mapping);
	if (status == TT_OK && file->n_rows == 0)
		status = tt_fail(err, TT_ERR_FORMAT, "%s: no rows", path);
	return status;
}

static int compare_ids(const void *a, const void *b)
{
	const struct tt_prompt *const *x = a, *const *y = b;
	int order = strcmp((*x)->id, (*y)->id);
	return order ? order : (*x > *y) - (*x < *y);
}

static int refuse_duplicates(const struct tt_prompts *prompts, struct tt_error *err)
{
	const struct tt_prompt **sorted = NULL;
	int status = TT_OK;
	TT_TRY(tt_alloc(&sorted, prompts->n_rows, sizeof *sorted, err));
	for (size_t i = 0; i < prompts->n_rows; i++)
		sorted[i] = &prompts->rows[i];
	qsort(sorted, prompts->n_rows, sizeof *sorted, compare_ids);
	for (size_t i = 1; status == TT_OK && i < prompts->n_rows; i++) {
		const struct tt_prompt *a = sorted[i - 1], *b = sorted[i];
		if (strcmp(a->id, b->id) == 0)
			status = tt_fail(err, TT_ERR_FORMAT, "%s:%u: id %.80s is already in %s:%u",
				prompts->files[b->file].path, b->line, b->id, prompts->files[a->file].path, a->line);
	}
	free(sorted);
	return status;
}

static int compare_origins(const struct tt_prompt *a, const struct tt_prompt *b)
{
	if (a->file != b->file)
		return a->file < b->file ? -1 : 1;
	return strcmp(a->source, b->source);
}

static int compare_groups(const struct tt_prompt *a, const struct tt_prompt *b)
{
	int order = compare_origins(a, b);
	return order ? order : strcmp(a->kind, b->kind);
}

static int by_group(const void *a, const void *b)
{
	const struct tt_prompt *x = *(struct tt_prompt *const *)a, *y = *(struct tt_prompt *const *)b;
	int order = compare_groups(x, y);
	return order ? order : (x > y) - (x < y);
}

static int number_groups(struct tt_prompts *prompts, struct tt_error *err)
{
	struct tt_prompt **sorted = NULL;
	TT_TRY(tt_alloc(&sorted, prompts->n_rows, sizeof(struct tt_prompt *), err));
	for (size_t i = 0; i < prompts->n_rows; i++)
		sorted[i] = &prompts->rows[i];
	qsort(sorted, prompts->n_rows, sizeof *sorted, by_group);
	for (size_t i = 0; i < prompts->n_rows; i++) {
		prompts->n_origins += i == 0 || compare_origins(sorted[i - 1], sorted[i]) != 0;
		prompts->n_groups += i == 0 || compare_groups(sorted[i - 1], sorted[i]) != 0;
		sorted[i]->origin = prompts->n_origins - 1;
		sorted[i]->group = prompts->n_groups - 1;
	}
	free(sorted);
	return TT_OK;
}

int tt_prompts_read(struct tt_prompts *out, const char *const *paths, size_t n_paths, const char *harmful,
	const char *benign, struct tt_error *err)
{
	const struct tt_prompt_form form = {.harmful = harmful, .benign = benign, .any_split = true};
	return tt_prompts_read_as(out, paths, n_paths, &form, err);
}

/* Reads files behind those that were read already; there is room for n_paths more. */
static int read_files(struct tt_prompts *out, const char *const *paths, size_t n_paths, const char *name,
	const struct tt_prompt_form *form, struct tt_error *err)
{
	TT_TRY(check_words(form, err));
	TT_TRY(tt_need_list(paths, n_paths, name, err));
	for (size_t i = 0; i < n_paths; i++)
		if (!paths[i])
			return tt_fail(err, TT_ERR_ARGUMENT, "%s[%zu] must not be NULL", name, i);
	for (size_t i = 0; i < n_paths; i++)
		TT_TRY(read_file(out, paths[i], form, err));
	return TT_OK;
}

/* Called when all rows are there; releases them where status, that of reading them, or something else is no success. */
static int finish(struct tt_prompts *out, int status, struct tt_error *err)
{
	if (status == TT_OK)
		status = refuse_duplicates(out, err);
	if (status == TT_OK)
		status = number_groups(out, err);
	if (status != TT_OK)
		tt_prompts_free(out);
	return status;
}

int tt_prompts_read_as(struct tt_prompts *out, const char *const *paths, size_t n_paths,
	const struct tt_prompt_form *form, struct tt_error *err)
{
	*out = (struct tt_prompts){0};
	if (n_paths == 0)
		return tt_fail(err, TT_ERR_ARGUMENT, "no prompt files given");
	int status = tt_alloc(&out->files, n_paths, sizeof *out->files, err);
	if (status == TT_OK)
		status = read_files(out, paths, n_paths, "data", form, err);
	return finish(out, status, err);
}

/* ---- Reviewed files */

static int compare_texts(const struct tt_prompt *x, const struct tt_prompt *y)
{
	int order = strcmp(x->text, y->text);
	return order ? order : strcmp(x->before ? x->before : "", y->before ? y->before : "");
}

/* Prompts by their text, of equal ones those that were reviewed first. */
static int by_text(const void *a, const void *b)
{
	const struct tt_prompt *x = *(struct tt_prompt *const *)a, *y = *(struct tt_prompt *const *)b;
	int order = compare_texts(x, y);
	return order ? order : x->reviewed != y->reviewed ? (x->reviewed ? -1 : 1) : (x > y) - (x < y);
}

static int remove_replaced(struct tt_prompts *prompts, size_t *n_replaced, struct tt_error *err)
{
	struct tt_prompt **sorted = NULL;
	bool *replaced = NULL; // [n_rows]
	*n_replaced = 0;
	int status = tt_alloc(&sorted, prompts->n_rows, sizeof(struct tt_prompt *), err);
	if (status == TT_OK)
		status = tt_alloc(&replaced, prompts->n_rows, sizeof *replaced, err);
	for (size_t i = 0; status == TT_OK && i < prompts->n_rows; i++)
		sorted[i] = &prompts->rows[i];
	if (status == TT_OK)
		qsort(sorted, prompts->n_rows, sizeof *sorted, by_text);
	const struct tt_prompt *reviewed = NULL;
	for (size_t i = 0; status == TT_OK && i < prompts->n_rows; i++) {
		if (sorted[i]->reviewed) {
			reviewed = sorted[i];
		} else if (reviewed && compare_texts(reviewed, sorted[i]) == 0) {
			replaced[sorted[i] - prompts->rows] = true;
			++*n_replaced;
		}
	}
	if (status == TT_OK)
		tt_prompts_remove(prompts, replaced);
	free(sorted);
	free(replaced);
	return status;
}

static int read_reviewed(struct tt_prompts *out, const char *const *reviewed, size_t n_reviewed,
	const char *const *replay, size_t n_replay, const struct tt_prompt_form *form, size_t *n_replaced,
	struct tt_error *err)
{
	const struct tt_prompt_form verdicts = {.reviewed = true};
	TT_TRY(tt_alloc(&out->files, n_reviewed + n_replay, sizeof *out->files, err));
	TT_TRY(read_files(out, reviewed, n_reviewed, "data", &verdicts, err));
	for (size_t file = 0, row = 0; file < n_reviewed; file++) {
		if (row == out->n_rows || out->rows[row].file != file)
			return tt_fail(err, TT_ERR_FORMAT,
				"%s: no row has a verdict (harmful, benign, borderline or keep)", reviewed[file]);
		while (row < out->n_rows && out->rows[row].file == file)
			row++;
	}
	TT_TRY(read_files(out, replay, n_replay, "replay", form, err));
	return remove_replaced(out, n_replaced, err);
}

int tt_prompts_read_reviewed(struct tt_prompts *out, const char *const *reviewed, size_t n_reviewed,
	const char *const *replay, size_t n_replay, const struct tt_prompt_form *form, size_t *n_replaced,
	struct tt_error *err)
{
	*out = (struct tt_prompts){0};
	if (n_reviewed == 0)
		return tt_fail(err, TT_ERR_ARGUMENT, "no reviewed files given");
	return finish(out, read_reviewed(out, reviewed, n_reviewed, replay, n_replay, form, n_replaced, err), err);
}

static void free_row(struct tt_prompt *row)
{
	free(row->id);
	free(row->text);
	free(row->before);
	free(row->bytes);
	free(row->source);
	free(row->kind);
	free(row->split_name);
}

void tt_prompts_remove(struct tt_prompts *prompts, const bool *marked)
{
	size_t n = 0;
	for (size_t i = 0; i < prompts->n_rows; i++) {
		if (marked[i])
			free_row(&prompts->rows[i]);
		else
			prompts->rows[n++] = prompts->rows[i];
	}
	prompts->n_rows = n;
}

static bool is_in(const struct tt_prompt *row, const char *split)
{
	enum tt_split wanted = split ? split_of(split) : TT_NO_SPLIT;
	return wanted == TT_NO_SPLIT ||
	       (row->split == wanted && (wanted != TT_OTHER_SPLIT || strcmp(row->split_name, split) == 0));
}

static void choose(const struct tt_prompts *prompts, const char *split, uint32_t limit, const struct tt_prompt **out,
	size_t *n, size_t *taken)
{
	*n = 0;
	for (size_t i = 0; i < prompts->n_rows; i++) {
		const struct tt_prompt *row = &prompts->rows[i];
		size_t *n_taken = &taken[row->file * TT_N_LABELS + row->label];
		if (!is_in(row, split) || (limit && *n_taken >= limit))
			continue;
		++*n_taken;
		out[(*n)++] = row;
	}
}

int tt_prompts_choose(const struct tt_prompts *prompts, const char *split, uint32_t limit,
	const struct tt_prompt ***out, size_t *n, struct tt_error *err)
{
	size_t *taken = NULL; // [n_files][TT_N_LABELS]
	*out = NULL;
	*n = 0;
	TT_TRY(tt_alloc(&taken, prompts->n_files * TT_N_LABELS, sizeof *taken, err));
	int status = tt_alloc(out, prompts->n_rows, sizeof(struct tt_prompt *), err);
	if (status == TT_OK)
		choose(prompts, split, limit, *out, n, taken);
	free(taken);
	if (status == TT_OK && *n == 0)
		status = tt_fail(
			err, TT_ERR_ARGUMENT, "no row to run%s%s", split ? " in split " : "", split ? split : "");
	if (status != TT_OK) {
		free(*out);
		*out = NULL;
	}
	return status;
}

void tt_prompts_free(struct tt_prompts *prompts)
{
	for (size_t i = 0; i < prompts->n_rows; i++)
		free_row(&prompts->rows[i]);
	for (size_t i = 0; i < prompts->n_files; i++)
		free(prompts->files[i].path);
	free(prompts->rows);
	free(prompts->files);
	*prompts = (struct tt_prompts){0};
}

/* The messages of a row with this text, as a new reference; NULL without memory. */
static json_t *messages_of(const struct tt_prompt *row, const char *text)
{
	json_t *list = json_loads(row->before, 0, NULL);
	if (json_array_append_new(list, json_pack("{s:s, s:s}", "role", "user", "content", text)) == 0)
		return list;
	json_decref(list);
	return NULL;
}

int tt_prompt_put(json_t *object, const struct tt_prompt *row, const char *text, struct tt_error *err)
{
	int status = row->before ? json_object_set_new(object, "messages", messages_of(row, text))
				 : json_object_set_new(object, "prompt", json_string(text));
	return status == 0 ? TT_OK : tt_fail(err, TT_ERR_MEMORY, "out of memory: a prompt");
}

/* Takes over messages; NULL: the prompt alone. */
static int encode(const struct tt_text *text, const char *prompt, char *messages, int32_t **ids,
	struct tt_request_options *request, struct tt_error *err)
{
	const struct tt_chat_options options = {.size = sizeof options, .now = TT_FIXED_DATE};
	if (!tt_text_has_template(text))
		return tt_text_encode(text, prompt, strlen(prompt), TT_TEXT_BOS, ids, &request->n_ids, err);
	if (!messages)
		TT_TRY(tt_text_user_message(prompt, strlen(prompt), NULL, &messages, err));
	int status = tt_text_encode_chat_span(
		text, messages, &options, ids, &request->n_ids, &request->mean_from, &request->mean_to, err);
	tt_free(messages);
	return status;
}

int tt_encode_prompt(struct tt_engine *engine, const char *prompt, const char *what, size_t room, int32_t **ids,
	struct tt_request_options *request, struct tt_error *err)
{
	const struct tt_prompt row = {.text = (char *)(uintptr_t)prompt, .id = (char *)(uintptr_t)what};
	return tt_encode_row(engine, &row, NULL, room, ids, request, err);
}

int tt_encode_row(struct tt_engine *engine, const struct tt_prompt *row, const char *prompt, size_t room, int32_t **ids,
	struct tt_request_options *request, struct tt_error *err)
{
	const struct tt_text *text = tt_engine_text(engine);
	char *messages = NULL;
	*ids = NULL;
	prompt = prompt ? prompt : row->text;
	if (!tt_text_has_tokenizer(text))
		return tt_fail(err, TT_ERR_UNSUPPORTED, "the model has no tokenizer");
	if (row->before && !tt_text_has_template(text))
		return tt_fail(
			err, TT_ERR_UNSUPPORTED, "%s has messages, and the model no chat template: give one", row->id);
	if (row->before)
		TT_TRY(tt_json_dump(&messages, messages_of(row, prompt), JSON_COMPACT, err));
	int status = encode(text, prompt, messages, ids, request, err);
	uint32_t context = tt_engine_info(engine)->context;
	if (status == TT_OK && (room > context || request->n_ids > context - room)) {
		status = tt_fail(err, TT_ERR_LIMIT, "%zu tokens and %zu after them do not fit the context of %u",
			request->n_ids, room, context);
		tt_free(*ids);
		*ids = NULL;
	}
	request->ids = *ids;
	return status == TT_OK ? TT_OK : tt_fail_within(err, row->id);
}
