#include "controller/govern/rights.h"

#include <string.h>

static const char *const role_words[TT_N_ROLES] = {"user", "reviewer", "editor", "approver", "auditor", "operator"};
static const char *const steer_words[TT_N_STEER] = {"default", "names", "any"};

enum { STAFF = TT_ROLE_REVIEWER | TT_ROLE_EDITOR | TT_ROLE_APPROVER | TT_ROLE_AUDITOR | TT_ROLE_OPERATOR };

/* One person stops; to go on takes one who may approve. */
static const uint32_t allowed[TT_N_RIGHTS] = {
	[TT_RIGHT_ASK] = TT_ROLE_USER | STAFF,
	[TT_RIGHT_SEE] = STAFF,
	[TT_RIGHT_EDIT] = TT_ROLE_EDITOR,
	[TT_RIGHT_APPROVE] = TT_ROLE_APPROVER,
	[TT_RIGHT_MOVE] = TT_ROLE_EDITOR | TT_ROLE_APPROVER | TT_ROLE_OPERATOR,
	[TT_RIGHT_KILL] = TT_ROLE_EDITOR | TT_ROLE_APPROVER | TT_ROLE_OPERATOR,
	[TT_RIGHT_RESUME] = TT_ROLE_APPROVER,
	[TT_RIGHT_TEXT] = TT_ROLE_REVIEWER | TT_ROLE_AUDITOR,
	[TT_RIGHT_KEYS] = TT_ROLE_OPERATOR,
};

bool tt_roles_allow(uint32_t roles, enum tt_right right)
{
	return (roles & allowed[right]) != 0;
}

bool tt_roles_parse(const char *text, uint32_t *out)
{
	uint32_t roles = 0;
	for (const char *at = text;; at++) {
		size_t n = strcspn(at, ","), i = 0;
		while (i < TT_N_ROLES && (strlen(role_words[i]) != n || memcmp(role_words[i], at, n) != 0))
			i++;
		if (i == TT_N_ROLES)
			return false;
		roles |= 1u << i;
		at += n;
		if (!*at)
			break;
	}
	*out = roles;
	return true;
}

void tt_roles_text(char out[TT_ROLES_BYTES], uint32_t roles)
{
	out[0] = 0;
	for (size_t i = 0; i < TT_N_ROLES; i++) {
		if (!(roles & 1u << i))
			continue;
		if (*out)
			strcat(out, ",");
		strcat(out, role_words[i]);
	}
}

void tt_right_text(char out[TT_ROLES_BYTES], enum tt_right right)
{
	tt_roles_text(out, allowed[right]);
}

const char *tt_steer_word(int64_t right)
{
	return right >= 0 && right < TT_N_STEER ? steer_words[right] : NULL;
}

bool tt_steer_parse(const char *text, enum tt_choice_right *out)
{
	for (int i = 0; i < TT_N_STEER; i++) {
		if (strcmp(text, steer_words[i]) == 0) {
			*out = (enum tt_choice_right)i;
			return true;
		}
	}
	return false;
}
