/* As much of JSON Schema (draft 2020-12) as the project's schemas use. A keyword that is not known here fails, so that
 * none is passed over in silence. */
#ifndef TESTS_JSON_SCHEMA_H
#define TESTS_JSON_SCHEMA_H

#include <criterion/criterion.h>
#include <jansson.h>
#include <regex.h>
#include <stdbool.h>
#include <string.h>

static inline bool schema_allows(const json_t *root, const json_t *schema, const json_t *value);

static inline bool schema_is_type(const char *type, const json_t *value)
{
	return (!strcmp(type, "object") && json_is_object(value)) || (!strcmp(type, "array") && json_is_array(value)) ||
	       (!strcmp(type, "string") && json_is_string(value)) ||
	       (!strcmp(type, "number") && json_is_number(value)) ||
	       (!strcmp(type, "integer") && json_is_integer(value)) || (!strcmp(type, "null") && json_is_null(value));
}

static inline bool schema_type(const json_t *types, const json_t *value)
{
	size_t i;
	json_t *type;
	if (json_is_string(types))
		return schema_is_type(json_string_value(types), value);
	json_array_foreach(types, i, type)
	{
		if (schema_is_type(json_string_value(type), value))
			return true;
	}
	return false;
}

static inline bool schema_properties(const json_t *root, const json_t *schema, const json_t *value)
{
	const json_t *properties = json_object_get(schema, "properties");
	const json_t *others = json_object_get(schema, "additionalProperties");
	const char *key;
	json_t *member;
	json_object_foreach((json_t *)(uintptr_t)value, key, member)
	{
		const json_t *wanted = json_object_get(properties, key);
		wanted = wanted ? wanted : others;
		if (json_is_false(wanted) || (json_is_object(wanted) && !schema_allows(root, wanted, member)))
			return false;
	}
	return true;
}

static inline bool schema_required(const json_t *names, const json_t *value)
{
	size_t i;
	json_t *name;
	json_array_foreach(names, i, name)
	{
		if (json_is_object(value) && !json_object_get(value, json_string_value(name)))
			return false;
	}
	return true;
}

static inline bool schema_items(const json_t *root, const json_t *items, const json_t *value)
{
	size_t i;
	json_t *item;
	json_array_foreach(value, i, item)
	{
		if (!schema_allows(root, items, item))
			return false;
	}
	return true;
}

static inline bool schema_one_of(const json_t *root, const json_t *list, const json_t *value, bool literal)
{
	size_t i;
	json_t *entry;
	json_array_foreach(list, i, entry)
	{
		if (literal ? json_equal(entry, value) : schema_allows(root, entry, value))
			return true;
	}
	return false;
}

static inline bool schema_pattern(const char *pattern, const json_t *value)
{
	regex_t compiled;
	cr_assert_eq(regcomp(&compiled, pattern, REG_EXTENDED | REG_NOSUB), 0);
	bool found = !json_is_string(value) || regexec(&compiled, json_string_value(value), 0, NULL, 0) == 0;
	regfree(&compiled);
	return found;
}

static inline bool schema_bound(const char *keyword, double bound, const json_t *value)
{
	double number = json_number_value(value);
	if (!json_is_number(value))
		return true;
	if (!strcmp(keyword, "minimum"))
		return number >= bound;
	if (!strcmp(keyword, "maximum"))
		return number <= bound;
	return !strcmp(keyword, "exclusiveMinimum") ? number > bound : number < bound;
}

static inline bool schema_keyword(
	const json_t *root, const json_t *schema, const char *keyword, const json_t *operand, const json_t *value)
{
	static const char *const no_checks[] = {
		"$schema", "$id", "title", "description", "$defs", "additionalProperties"};
	for (size_t i = 0; i < sizeof no_checks / sizeof *no_checks; i++)
		if (!strcmp(keyword, no_checks[i]))
			return true;
	if (!strcmp(keyword, "$ref")) {
		const char *name = json_string_value(operand);
		cr_assert(!strncmp(name, "#/$defs/", 8));
		const json_t *target = json_object_get(json_object_get(root, "$defs"), name + 8);
		cr_assert_not_null(target, "%s is not there", name);
		return schema_allows(root, target, value);
	}
	if (!strcmp(keyword, "type"))
		return schema_type(operand, value);
	if (!strcmp(keyword, "const"))
		return json_equal(operand, value);
	if (!strcmp(keyword, "enum") || !strcmp(keyword, "anyOf"))
		return schema_one_of(root, operand, value, *keyword == 'e');
	if (!strcmp(keyword, "properties"))
		return schema_properties(root, schema, value);
	if (!strcmp(keyword, "required"))
		return schema_required(operand, value);
	if (!strcmp(keyword, "items"))
		return schema_items(root, operand, value);
	if (!strcmp(keyword, "minItems"))
		return !json_is_array(value) || (json_int_t)json_array_size(value) >= json_integer_value(operand);
	if (!strcmp(keyword, "maxItems"))
		return !json_is_array(value) || (json_int_t)json_array_size(value) <= json_integer_value(operand);
	if (!strcmp(keyword, "pattern"))
		return schema_pattern(json_string_value(operand), value);
	cr_assert(strstr(keyword, "inimum") || strstr(keyword, "aximum"), "the schema's keyword %s is not known",
		keyword);
	return schema_bound(keyword, json_number_value(operand), value);
}

static inline bool schema_allows(const json_t *root, const json_t *schema, const json_t *value)
{
	const char *keyword;
	json_t *operand;
	json_object_foreach((json_t *)(uintptr_t)schema, keyword, operand)
	{
		if (!schema_keyword(root, schema, keyword, operand, value))
			return false;
	}
	return true;
}

static inline void assert_valid(const json_t *schema, const json_t *value)
{
	char *text = schema_allows(schema, schema, value) ? NULL : json_dumps(value, JSON_INDENT(1));
	cr_assert_null(text, "does not follow the schema: %s", text);
}

/* Takes each key of part (an object somewhere in value) away, and puts an unknown one in; the schema must refuse
 * both. */
static inline void assert_every_key_is_required(const json_t *schema, const json_t *value, json_t *part)
{
	json_t *all = json_copy(part), *member;
	const char *key;
	cr_assert(json_is_object(part) && json_object_size(part) > 0);
	assert_valid(schema, value);
	json_object_foreach(all, key, member)
	{
		json_object_del(part, key);
		cr_assert_not(schema_allows(schema, schema, value), "%s is not required", key);
		json_object_set(part, key, member);
	}
	json_object_set_new(part, "unknown", json_true());
	cr_assert_not(schema_allows(schema, schema, value), "an unknown key is allowed");
	json_object_del(part, "unknown");
	json_decref(all);
}

#endif
