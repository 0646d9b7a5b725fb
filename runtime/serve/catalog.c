#include "runtime/serve/catalog.h"

#include <stdlib.h>
#include <string.h>

#include "base/fail.h"
#include "base/sha256.h"
#include "runtime/serve/server.h"

/* ---- Policies on the engine */

static struct tt_loaded *make_loaded(const char *name, const char *label, struct tt_error *err)
{
	struct tt_loaded *loaded;
	if (tt_alloc(&loaded, 1, sizeof *loaded, err) != TT_OK)
		return NULL;
	snprintf(loaded->name, sizeof loaded->name, "%s", name);
	snprintf(loaded->label, sizeof loaded->label, "%s", label ? label : "");
	loaded->named.name = loaded->name;
	loaded->named.label = label ? loaded->label : NULL;
	return loaded;
}

int tt_loaded_make(struct tt_loaded **out, struct tt_server *server, struct tt_store *store, const char *policy,
	const char *label, const char *sha256, struct tt_error *err)
{
	const char *warning = NULL;
	*out = NULL;
	struct tt_loaded *loaded = make_loaded(policy, label, err);
	if (!loaded)
		return TT_ERR_MEMORY;
	snprintf(loaded->named.sha256, sizeof loaded->named.sha256, "%s", sha256);
	int status = tt_version_load(&loaded->named.policy, &store->db, store->directory, sha256, err);
	if (status == TT_OK)
		status = tt_engine_add_policy(server->engine, loaded->named.policy, &warning, err);
	if (status != TT_OK) {
		tt_policy_free(loaded->named.policy);
		free(loaded);
		return status;
	}
	if (warning)
		tt_server_note(server, "%s", warning);
	*out = loaded;
	return TT_OK;
}

void tt_loaded_free(struct tt_loaded *loaded, struct tt_server *server)
{
	tt_engine_remove_policy(server->engine, loaded->named.policy, NULL);
	tt_policy_free(loaded->named.policy);
	free(loaded);
}

static struct tt_loaded *find_loaded(struct tt_loaded *list, const char *policy, const char *label, const char *sha256)
{
	while (list && (strcmp(list->name, policy) != 0 || strcmp(list->label, label) != 0 ||
			       (sha256 && strcmp(list->named.sha256, sha256) != 0)))
		list = list->next;
	return list;
}

/* ---- Making one */

static int allocate(struct tt_catalog **out, const struct tt_server *server, size_t n, struct tt_error *err)
{
	struct tt_catalog *catalog;
	TT_TRY(tt_alloc(&catalog, 1, sizeof *catalog, err));
	catalog->context = (struct tt_api_context){
		.text = tt_engine_text(server->engine),
		.policies = &catalog->policies,
		.serves = true,
		.lenient = server->options->lenient,
		.timeout = (double)server->options->request_timeout,
	};
	*out = catalog;
	TT_TRY(tt_alloc(&catalog->policies.list, n, sizeof *catalog->policies.list, err));
	return tt_alloc(&catalog->loaded, n, sizeof *catalog->loaded, err);
}

static struct tt_named_policy *add(struct tt_catalog *catalog, struct tt_loaded *loaded)
{
	catalog->loaded[catalog->policies.n] = loaded;
	catalog->policies.list[catalog->policies.n] = loaded->named;
	return &catalog->policies.list[catalog->policies.n++];
}

static void free_catalog(struct tt_catalog *catalog)
{
	free(catalog->policies.list);
	free(catalog->loaded);
	tt_keys_free(&catalog->keys);
	free(catalog);
}

struct tt_catalog *tt_catalog_take(struct tt_catalog *catalog)
{
	for (size_t i = 0; catalog->n_users == 0 && i < catalog->policies.n; i++)
		catalog->loaded[i]->n_users++;
	catalog->n_users++;
	return catalog;
}

void tt_catalog_give(struct tt_catalog *catalog)
{
	if (!catalog || --catalog->n_users > 0)
		return;
	for (size_t i = 0; i < catalog->policies.n; i++)
		catalog->loaded[i]->n_users--;
	free_catalog(catalog);
}

static int add_steering(struct tt_buffer *text, const char *what, const struct tt_api_steering *list, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++)
		TT_TRY(tt_buffer_print(text, NULL, "%s %s %s %.9g\n", what, list[i].policy->name,
			list[i].policy->label ? list[i].policy->label : "", (double)list[i].scale));
	return TT_OK;
}

/* Every line of the text that the set's digest is of. What a kill switch does is left out: it is another thing. */
static int write_set(struct tt_buffer *text, const struct tt_catalog *catalog)
{
	const struct tt_api_context *context = &catalog->context;
	for (size_t i = 0; i < catalog->policies.n; i++) {
		const struct tt_named_policy *policy = &catalog->policies.list[i];
		TT_TRY(tt_buffer_print(text, NULL, "policy %s %s %s %.9g %.9g\n", policy->name,
			policy->label ? policy->label : "", policy->sha256, (double)policy->least,
			(double)policy->most));
	}
	TT_TRY(add_steering(text, "standing", context->standing, context->n_standing));
	TT_TRY(add_steering(text, "shadow", context->shadows, context->n_shadows));
	for (uint32_t i = 0; i < context->n_mandatory; i++)
		TT_TRY(tt_buffer_print(text, NULL, "mandatory %s %.9g %.9g\n", context->mandatory[i].policy->name,
			(double)context->mandatory[i].scale, (double)context->mandatory[i].floor));
	return TT_OK;
}

static int digest_set(struct tt_catalog *catalog, struct tt_error *err)
{
	struct tt_buffer text = {0};
	int status = write_set(&text, catalog);
	status = status == TT_OK ? tt_sha256(catalog->set, text.data ? text.data : "", text.len, err)
				 : tt_fail(err, status, "out of memory");
	tt_buffer_free(&text);
	return status;
}

/* ---- Of files */

static bool is_shadow(const struct tt_serve_options *o, const char *name)
{
	for (size_t i = 0; i < o->n_shadows; i++)
		if (strcmp(o->shadows[i], name) == 0)
			return true;
	return false;
}

/* The i-th policy of the command line. A body that says nothing of steering is steered by all policies but the shadows,
 * in their order. */
static void add_file(struct tt_catalog *catalog, struct tt_loaded *loaded, const struct tt_serve_options *o, size_t i)
{
	struct tt_api_context *context = &catalog->context;
	const struct tt_named_policy *policy = add(catalog, loaded);
	if (is_shadow(o, policy->name))
		context->shadows[context->n_shadows++] = (struct tt_api_steering){policy, 0};
	else
		context->standing[context->n_standing++] =
			(struct tt_api_steering){policy, o->scales ? o->scales[i] : 1};
}

int tt_catalog_of_files(struct tt_catalog **out, struct tt_server *server, struct tt_error *err)
{
	const struct tt_serve_options *o = server->options;
	const struct tt_policy_files files = {o->policies, o->n_policies, NULL, o->note, o->user};
	struct tt_named_policies policies;
	TT_TRY(allocate(out, server, o->n_policies, err));
	int status = tt_named_policies_load(&policies, server->engine, &files, err);
	for (size_t i = 0; status == TT_OK && i < policies.n; i++) {
		struct tt_loaded *loaded = make_loaded(policies.list[i].name, NULL, err);
		if (!loaded) {
			tt_named_policies_free(&policies, server->engine);
			return TT_ERR_MEMORY;
		}
		loaded->named.policy = policies.list[i].policy;
		memcpy(loaded->named.sha256, policies.list[i].sha256, sizeof loaded->named.sha256);
		policies.list[i].policy = NULL; /* the list's now */
		loaded->next = server->loaded;
		server->loaded = loaded;
		add_file(*out, loaded, o, i);
	}
	if (status == TT_OK)
		free(policies.list);
	return status == TT_OK ? digest_set(*out, err) : status;
}

/* ---- Of the store */

static bool passes(int status)
{
	return status == TT_ERR_IO || status == TT_ERR_MEMORY || status == TT_ERR_DEVICE;
}

/* What the label meant in the old catalog; NULL: nothing. */
static const struct tt_named_policy *find_policy(
	const struct tt_catalog *catalog, const char *policy, const char *label)
{
	for (size_t i = 0; i < catalog->policies.n; i++)
		if (!strcmp(catalog->loaded[i]->name, policy) && !strcmp(catalog->loaded[i]->label, label))
			return &catalog->policies.list[i];
	return NULL;
}

/* The policy of a label, loaded now or before; NULL: it cannot be loaded. */
static struct tt_loaded *take_label(struct tt_catalog *catalog, struct tt_loaded **loaded, struct tt_server *server,
	struct tt_store *store, const struct tt_labelled *label, struct tt_error *err)
{
	const struct tt_version *v = &label->version;
	struct tt_loaded *found = find_loaded(server->loaded, v->policy, label->label, v->sha256);
	if (!found)
		found = find_loaded(*loaded, v->policy, label->label, v->sha256);
	if (found)
		return found;
	int status = tt_loaded_make(&found, server, store, v->policy, label->label, v->sha256, err);
	catalog->is_late = catalog->is_late || passes(status);
	if (status != TT_OK)
		return NULL;
	found->next = *loaded;
	*loaded = found;
	return found;
}

/* Adds what a label means. Where that cannot be loaded, what it meant before goes on, within the limits of then. */
static void add_label(struct tt_catalog *catalog, struct tt_loaded **loaded, struct tt_server *server,
	struct tt_store *store, const struct tt_labelled *label, const struct tt_catalog *old)
{
	const struct tt_version *v = &label->version;
	struct tt_error err = {0};
	struct tt_loaded *found = take_label(catalog, loaded, server, store, label, &err);
	if (found) {
		struct tt_named_policy *policy = add(catalog, found);
		policy->least = (float)v->least;
		policy->most = (float)v->most;
		return;
	}
	const struct tt_named_policy *before = old ? find_policy(old, v->policy, label->label) : NULL;
	if (before)
		*add(catalog, old->loaded[before - old->policies.list]) = *before;
	if (!server->governor.repeats)
		tt_server_note(server, "%s %s is not %.12s%s: %s", v->policy, label->label, v->sha256,
			before ? " and stays as it was" : "", err.message);
}

/* Where the default stack has the policy; NULL: it has not. */
static const struct tt_stack_entry *find_entry(const struct tt_stack *stack, const char *policy)
{
	for (size_t i = 0; i < stack->n; i++)
		if (!strcmp(stack->entries[i].policy, policy) && !strcmp(stack->entries[i].label, TT_STANDARD_LABEL))
			return &stack->entries[i];
	return NULL;
}

/* Whether what production means, policy or NULL, is mandatory, and its floor: of a version that goes on instead of v,
 * what held of that. */
static bool is_mandatory(
	float *floor, const struct tt_version *v, const struct tt_named_policy *policy, const struct tt_catalog *old)
{
	*floor = (float)v->floor;
	if (!policy || !old || strcmp(policy->sha256, v->sha256) == 0)
		return v->mandatory;
	for (uint32_t i = 0; i < old->context.n_mandatory; i++) {
		*floor = old->context.mandatory[i].floor;
		if (strcmp(old->context.mandatory[i].policy->name, v->policy) == 0)
			return true;
	}
	return false;
}

/* A mandatory policy that the stack does not name acts at 1, or as near to it as it may. */
static int add_mandatory(
	struct tt_catalog *catalog, const struct tt_in_force *force, const struct tt_catalog *old, struct tt_error *err)
{
	struct tt_api_context *context = &catalog->context;
	for (size_t i = 0; i < force->n_labels; i++) {
		const struct tt_version *v = &force->labels[i].version;
		float floor;
		const struct tt_named_policy *policy = find_policy(catalog, v->policy, TT_STANDARD_LABEL);
		if (strcmp(force->labels[i].label, TT_STANDARD_LABEL) != 0 || !is_mandatory(&floor, v, policy, old))
			continue;
		const struct tt_stack_entry *entry = find_entry(&force->stack, v->policy);
		float scale = entry ? (float)entry->scale : 1, most = policy ? policy->most : (float)v->most;
		scale = scale < floor ? floor : scale > most ? most : scale;
		if (context->n_mandatory == TT_MAX_STACK)
			return tt_fail(err, TT_ERR_LIMIT, "more than %d policies are mandatory", TT_MAX_STACK);
		catalog->is_broken = catalog->is_broken || !policy;
		if (policy)
			context->mandatory[context->n_mandatory++] = (struct tt_api_mandatory){policy, scale, floor};
	}
	return TT_OK;
}

/* A policy of it that is not there is not gone past: then no request is answered. */
static int add_stack(
	struct tt_catalog *catalog, struct tt_server *server, const struct tt_in_force *force, struct tt_error *err)
{
	struct tt_api_context *context = &catalog->context;
	uint32_t n = context->n_mandatory;
	for (size_t i = 0; i < force->stack.n; i++) {
		const struct tt_stack_entry *entry = &force->stack.entries[i];
		const struct tt_named_policy *policy = find_policy(catalog, entry->policy, entry->label);
		catalog->is_broken = catalog->is_broken || !policy;
		if (!policy && !server->governor.repeats)
			tt_server_note(server, "the default stack has %s by the label %s, which is not there",
				entry->policy, entry->label);
		if (!policy)
			continue;
		float scale = (float)entry->scale; /* within the range of the version that the label points at */
		scale = scale < policy->least ? policy->least : scale > policy->most ? policy->most : scale;
		context->standing[context->n_standing++] = (struct tt_api_steering){policy, scale};
		n++;
		for (uint32_t k = 0; k < context->n_mandatory; k++)
			n -= context->mandatory[k].policy == policy;
	}
	if (n > TT_MAX_STACK)
		return tt_fail(err, TT_ERR_LIMIT, "the default stack and what is mandatory are more than %d policies",
			TT_MAX_STACK);
	return TT_OK;
}

/* The files of the command line, beside a store of keys alone: what people have approved is not to be gone past. */
static int fill_files(
	struct tt_catalog *catalog, struct tt_server *server, const struct tt_in_force *force, struct tt_error *err)
{
	const struct tt_serve_options *o = server->options;
	if (force->n_labels && server->governor.change < 0) /* at the start */
		return tt_fail(err, TT_ERR_ARGUMENT, "--policy: the store of --state has policies of its own");
	for (size_t i = 0; i < o->n_policies; i++)
		add_file(catalog, find_loaded(server->loaded, o->policies[i].name, "", NULL), o, i);
	return TT_OK;
}

static int fill(struct tt_catalog *catalog, struct tt_loaded **loaded, struct tt_server *server, struct tt_store *store,
	struct tt_in_force *force, const struct tt_catalog *old, struct tt_error *err)
{
	if (server->options->n_policies)
		return fill_files(catalog, server, force, err);
	if (force->n_labels > 2 * TT_MAX_LABELS) /* with previous */
		return tt_fail(err, TT_ERR_LIMIT, "more than %d labels", TT_MAX_LABELS);
	for (size_t i = 0; i < force->n_labels; i++)
		add_label(catalog, loaded, server, store, &force->labels[i], old);
	for (size_t i = 0; i < catalog->policies.n; i++)
		catalog->policies.list[i].killed =
			catalog->loaded[i]->holds || tt_in_force_is_killed(force, catalog->loaded[i]->name);
	TT_TRY(add_mandatory(catalog, force, old, err));
	return add_stack(catalog, server, force, err);
}

int tt_catalog_of_store(struct tt_catalog **out, struct tt_loaded **loaded, struct tt_server *server,
	struct tt_store *store, struct tt_in_force *force, const struct tt_catalog *old, struct tt_error *err)
{
	*out = NULL;
	size_t n = force->n_labels > server->options->n_policies ? force->n_labels : server->options->n_policies;
	int status = allocate(out, server, n, err);
	if (status == TT_OK)
		status = fill(*out, loaded, server, store, force, old, err);
	if (status == TT_OK)
		status = digest_set(*out, err);
	if (status != TT_OK && *out) {
		free_catalog(*out);
		*out = NULL;
	}
	if (status != TT_OK)
		return status;
	(*out)->keys = force->keys;
	(*out)->has_keys = force->has_keys;
	force->keys = (struct tt_keys){0};
	return TT_OK;
}
