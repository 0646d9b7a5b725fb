/* Who may do what. A key has roles; each command needs a right; the table of both is in rights.c and docs/store.md. */
#ifndef CONTROLLER_GOVERN_RIGHTS_H
#define CONTROLLER_GOVERN_RIGHTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Bits of a key's roles. */
enum tt_role {
	TT_ROLE_USER = 1,
	TT_ROLE_REVIEWER = 2,
	TT_ROLE_EDITOR = 4,
	TT_ROLE_APPROVER = 8,
	TT_ROLE_AUDITOR = 16,
	TT_ROLE_OPERATOR = 32,
	TT_N_ROLES = 6,
};

enum tt_right {
	TT_RIGHT_ASK,     /* for completions */
	TT_RIGHT_SEE,     /* policies, stacks, their history */
	TT_RIGHT_EDIT,    /* add, change and submit versions and stacks */
	TT_RIGHT_APPROVE, /* approve, reject and retire them */
	TT_RIGHT_MOVE,    /* labels, to approved versions */
	TT_RIGHT_KILL,    /* end steering */
	TT_RIGHT_RESUME,  /* and begin it again */
	TT_RIGHT_TEXT,    /* see what was asked and answered, where it was kept */
	TT_RIGHT_KEYS,    /* add, list and revoke keys */
	TT_N_RIGHTS,
};

/* What a key may ask for in a body's steering. */
enum tt_choice_right {
	TT_STEER_DEFAULT, /* nothing: the default stack steers */
	TT_STEER_NAMES,   /* policies by their names, as labelled production, at approved scales */
	TT_STEER_ANY,     /* also other labels, versions, and none at all */
	TT_N_STEER,
};

bool tt_roles_allow(uint32_t roles, enum tt_right right);
/* "editor,approver" to bits; false for an empty text or another word. */
bool tt_roles_parse(const char *text, uint32_t *out);
/* The words with commas between them; out has room for all of them. */
enum { TT_ROLES_BYTES = 64 };
void tt_roles_text(char out[TT_ROLES_BYTES], uint32_t roles);
/* The roles that have the right, in words. */
void tt_right_text(char out[TT_ROLES_BYTES], enum tt_right right);

/* "default", "names", "any"; NULL for another number. */
const char *tt_steer_word(int64_t right);
bool tt_steer_parse(const char *text, enum tt_choice_right *out);

#endif
