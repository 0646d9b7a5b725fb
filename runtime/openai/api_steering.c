#include "runtime/openai/api_steering.h"

#include <stdio.h>
#include <string.h>

#include "base/fail.h"
#include "base/json.h"

static int parse_when(enum tt_policy_when *out, const json_t *steering, struct tt_error *err)
{
	static const char *const names[] = {"generation", "last", "all"};
	const char *when = NULL;
	TT_TRY(tt_json_string(steering, "when", &when, err));
	for (int i = 0; when && i < 3; i++) {
		if (strcmp(when, names[i]) == 0) {
			*out = (enum tt_policy_when)i;
			return TT_OK;
		}
	}
	if (when)
		return tt_fail(
			err, TT_ERR_FORMAT, "steering.when must be generation, last or all, not \"%.40s\"", when);
	return TT_OK;
}

/* A policy that was killed rides at scale 0: answers still say that it was there. */
static void steer_by(struct tt_api_request *out, const struct tt_named_policy *policy, float scale)
{
	out->policies[out->options.n_steering] = policy;
	out->options.steering[out->options.n_steering++] =
		(struct tt_steering){policy->policy, policy->killed ? 0 : scale};
}

static int fail_right(struct tt_api_request *out, struct tt_error *err, const char *what)
{
	out->forbidden = true;
	return tt_fail(err, TT_ERR_ARGUMENT, "this key may not choose %s", what);
}

/* ---- One policy of a body */

struct wanted {
	const char *where; /* "steering.policies[0]" */
	const char *name, *label, *version;
	float scale;
	bool has_scale;
	const struct tt_named_policy *policy;
};

static int at_key(struct tt_api_request *out, const struct wanted *wanted, const char *key, int status)
{
	char param[80];
	snprintf(param, sizeof param, "%s.%s", wanted->where, key);
	return tt_api_at(out, param, status);
}

static int read_wanted(struct wanted *wanted, struct tt_api_request *out, const json_t *entry, struct tt_error *err)
{
	static const char *const keys[] = {"name", "scale", NULL}, *const served[] = {
									   "name", "scale", "label", "version", NULL};
	if (!json_is_object(entry))
		return tt_api_at(
			out, wanted->where, tt_fail(err, TT_ERR_FORMAT, "steering.policies must hold objects"));
	TT_TRY(tt_api_at(
		out, wanted->where, tt_api_only_keys(entry, out->serves ? served : keys, "a policy of steering", err)));
	TT_TRY(at_key(out, wanted, "name", tt_json_string(entry, "name", &wanted->name, err)));
	TT_TRY(at_key(out, wanted, "label", tt_json_string(entry, "label", &wanted->label, err)));
	TT_TRY(at_key(out, wanted, "version", tt_json_string(entry, "version", &wanted->version, err)));
	TT_TRY(at_key(out, wanted, "scale", tt_json_float(entry, "scale", -1e6, 1e6, &wanted->scale, err)));
	wanted->has_scale = json_is_number(json_object_get(entry, "scale"));
	if (!wanted->name)
		return at_key(out, wanted, "name", tt_fail(err, TT_ERR_FORMAT, "a policy of steering has no name"));
	return TT_OK;
}

/* A version is asked for by all of its digits, or by the first 12. */
static bool is_version(const struct tt_named_policy *policy, const char *version)
{
	size_t n = strlen(version);
	return (n == 12 || n == 64) && strncmp(version, policy->sha256, n) == 0;
}

static int find(struct wanted *wanted, struct tt_api_request *out, const struct tt_named_policies *policies,
	struct tt_error *err)
{
	const struct tt_named_policy *first = tt_named_policies_find(policies, wanted->name);
	if (!first)
		return at_key(out, wanted, "name",
			tt_fail(err, TT_ERR_ARGUMENT, "steering names the policy \"%.60s\", which was not given",
				wanted->name));
	if (wanted->label && wanted->version)
		return at_key(out, wanted, "version",
			tt_fail(err, TT_ERR_ARGUMENT, "a policy of steering has a label or a version, not both"));
	for (size_t i = 0; i < policies->n && !wanted->policy; i++) {
		const struct tt_named_policy *policy = &policies->list[i];
		const char *label = wanted->label ? wanted->label : wanted->version ? NULL : TT_STANDARD_LABEL;
		bool has_label = !policy->label ? !wanted->label : label && strcmp(label, policy->label) == 0;
		if (strcmp(policy->name, wanted->name) == 0 &&
			(wanted->version ? is_version(policy, wanted->version) : has_label))
			wanted->policy = policy;
	}
	if (wanted->policy)
		return TT_OK;
	if (wanted->version)
		return at_key(out, wanted, "version",
			tt_fail(err, TT_ERR_ARGUMENT, "there is no version \"%.64s\" of the policy %.60s",
				wanted->version, wanted->name));
	return at_key(out, wanted, wanted->label ? "label" : "name",
		tt_fail(err, TT_ERR_ARGUMENT, "the policy %.60s has no label %.60s", wanted->name,
			wanted->label ? wanted->label : TT_STANDARD_LABEL));
}

static int check_scale(
	const struct wanted *wanted, struct tt_api_request *out, float least, float most, struct tt_error *err)
{
	if (wanted->scale >= least && wanted->scale <= most)
		return TT_OK;
	return at_key(out, wanted, "scale",
		tt_fail(err, TT_ERR_ARGUMENT, "the scale of %.60s must be from %g to %g", wanted->name, (double)least,
			(double)most));
}

/* A mandatory policy that a body names stays where it is. Its scale may be chosen, not below the floor; what it is may
 * not. */
static int place_mandatory(const struct wanted *wanted, struct tt_api_request *out,
	const struct tt_api_context *context, uint32_t k, struct tt_error *err)
{
	const struct tt_api_mandatory *mandatory = &context->mandatory[k];
	if (wanted->policy != mandatory->policy && strcmp(wanted->policy->sha256, mandatory->policy->sha256) != 0)
		return at_key(out, wanted, wanted->label ? "label" : "version",
			tt_fail(err, TT_ERR_ARGUMENT, "%.60s is mandatory, by its label %s", wanted->name,
				TT_STANDARD_LABEL));
	if (!wanted->has_scale)
		return TT_OK;
	TT_TRY(check_scale(wanted, out, mandatory->floor, mandatory->policy->most, err));
	if (!mandatory->policy->killed)
		out->options.steering[k].scale = wanted->scale;
	return TT_OK;
}

/* seen: of the names before it. */
static int parse_policy(struct tt_api_request *out, const json_t *entry, const char *where,
	const struct tt_api_context *context, const char **seen, size_t n_seen, struct tt_error *err)
{
	struct wanted wanted = {.where = where, .scale = 1};
	TT_TRY(read_wanted(&wanted, out, entry, err));
	TT_TRY(find(&wanted, out, context->policies, err));
	if (context->serves && context->right < TT_API_CHOOSES_ANY &&
		(wanted.version || (wanted.label && strcmp(wanted.label, TT_STANDARD_LABEL) != 0)))
		return at_key(
			out, &wanted, wanted.label ? "label" : "version", fail_right(out, err, "labels and versions"));
	seen[n_seen] = wanted.name;
	/* Twice within its range would be outside of it. Files have no range. */
	for (size_t i = 0; wanted.policy->label && i < n_seen; i++)
		if (strcmp(seen[i], wanted.name) == 0)
			return at_key(out, &wanted, "name",
				tt_fail(err, TT_ERR_ARGUMENT, "steering names %.60s twice", wanted.name));
	for (uint32_t k = 0; k < context->n_mandatory; k++)
		if (strcmp(context->mandatory[k].policy->name, wanted.name) == 0)
			return place_mandatory(&wanted, out, context, k, err);
	if (wanted.policy->label)
		TT_TRY(check_scale(&wanted, out, wanted.policy->least, wanted.policy->most, err));
	if (out->options.n_steering == TT_MAX_STACK)
		return tt_api_at(out, "steering.policies",
			tt_fail(err, TT_ERR_FORMAT, "steering has more than %d policies with those that are mandatory",
				TT_MAX_STACK));
	steer_by(out, wanted.policy, wanted.scale);
	return TT_OK;
}

static int parse_stack(
	struct tt_api_request *out, const json_t *steering, const struct tt_api_context *context, struct tt_error *err)
{
	static const char *const keys[] = {"policies", "when", NULL};
	const char *seen[TT_MAX_STACK];
	const json_t *list = json_object_get(steering, "policies"), *when = json_object_get(steering, "when");
	char where[48] = "steering.policies";
	TT_TRY(tt_api_at(out, "steering", tt_api_only_keys(steering, keys, "steering", err)));
	if (!json_is_array(list))
		return tt_api_at(out, where, tt_fail(err, TT_ERR_FORMAT, "steering.policies must be a list"));
	if (json_array_size(list) > TT_MAX_STACK)
		return tt_api_at(
			out, where, tt_fail(err, TT_ERR_FORMAT, "steering has more than %d policies", TT_MAX_STACK));
	for (size_t i = 0; i < json_array_size(list); i++) {
		snprintf(where, sizeof where, "steering.policies[%zu]", i);
		TT_TRY(parse_policy(out, json_array_get(list, i), where, context, seen, i, err));
	}
	TT_TRY(tt_api_at(out, "steering.when", parse_when(&out->options.when, steering, err)));
	/* It holds for all policies of a request, and would narrow what a mandatory one steers. */
	if (context->n_mandatory && when && !json_is_null(when))
		return tt_api_at(out, "steering.when",
			tt_fail(err, TT_ERR_ARGUMENT, "steering.when cannot be chosen where a policy is mandatory"));
	return TT_OK;
}

/* ---- The whole */

/* A shadow never acts, whatever a body says. */
static int check_shadows(struct tt_api_request *out, const struct tt_api_context *context, struct tt_error *err)
{
	char param[48];
	for (uint32_t i = 0; i < out->n_acting; i++) {
		for (uint32_t k = 0; k < context->n_shadows; k++) {
			if (out->policies[i] != context->shadows[k].policy)
				continue;
			snprintf(param, sizeof param, "steering.policies[%u].name", i);
			return tt_api_at(out, param,
				tt_fail(err, TT_ERR_ARGUMENT, "%.60s is a shadow, which cannot steer",
					out->policies[i]->name));
		}
	}
	return TT_OK;
}

static bool is_mandatory(const struct tt_api_context *context, const struct tt_named_policy *policy)
{
	for (uint32_t k = 0; k < context->n_mandatory; k++)
		if (context->mandatory[k].policy == policy)
			return true;
	return false;
}

/* Everything but the shadows. */
static int parse_acting(
	struct tt_api_request *out, const json_t *steering, const struct tt_api_context *context, struct tt_error *err)
{
	for (uint32_t k = 0; k < context->n_mandatory; k++)
		steer_by(out, context->mandatory[k].policy, context->mandatory[k].scale);
	if (!steering || json_is_null(steering)) {
		for (uint32_t i = 0; i < context->n_standing && out->options.n_steering < TT_MAX_STACK; i++)
			if (!is_mandatory(context, context->standing[i].policy))
				steer_by(out, context->standing[i].policy, context->standing[i].scale);
	} else if (json_is_object(steering)) {
		if (context->serves && context->right == TT_API_CHOOSES_NOTHING)
			return tt_api_at(out, "steering", fail_right(out, err, "what steers"));
		return parse_stack(out, steering, context, err);
	} else if (!json_is_false(steering)) {
		return tt_api_at(out, "steering", tt_fail(err, TT_ERR_FORMAT, "steering must be an object"));
	} else if (context->serves && context->right < TT_API_CHOOSES_ANY) {
		return tt_api_at(out, "steering", fail_right(out, err, "that nothing steers"));
	}
	return TT_OK;
}

int tt_api_read_steering(
	struct tt_api_request *out, const json_t *body, const struct tt_api_context *context, struct tt_error *err)
{
	TT_TRY(parse_acting(out, json_object_get(body, "steering"), context, err));
	out->n_acting = out->options.n_steering;
	TT_TRY(check_shadows(out, context, err));
	if (out->n_acting + context->n_shadows > TT_MAX_STACK)
		return tt_api_at(out, "steering.policies",
			tt_fail(err, TT_ERR_FORMAT, "steering has more than %u policies beside the shadows",
				TT_MAX_STACK - context->n_shadows));
	for (uint32_t i = 0; i < context->n_shadows; i++)
		steer_by(out, context->shadows[i].policy, 0);
	return TT_OK;
}

void tt_api_request_steer(struct tt_api_request *body, const struct tt_named_policy *policy, float scale)
{
	steer_by(body, policy, scale);
	body->n_acting = 1;
}
