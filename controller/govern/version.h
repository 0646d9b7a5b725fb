/* Versions of policies: the bytes of a file by their SHA-256, which never change, and what people decided about them.
 *
 *     draft --submit--> submitted --approve--> approved --retire--> retired
 *       ^                   |
 *       +---edit--- rejected <--reject
 *
 * What is said of a version (its range of scales, whether it is mandatory, why) can be edited until it is submitted. */
#ifndef CONTROLLER_GOVERN_VERSION_H
#define CONTROLLER_GOVERN_VERSION_H

#include "base/memory.h"
#include "controller/govern/command.h"

struct tt_policy;

enum tt_version_state { TT_DRAFT, TT_SUBMITTED, TT_APPROVED, TT_REJECTED, TT_RETIRED, TT_N_VERSION_STATES };

struct tt_version {
	char policy[TT_MAX_NAME + 1], sha256[65];
	enum tt_version_state state;
	/* People; "" for what has not happened. The editor is the last who edited it. */
	char author[TT_MAX_PERSON + 1], editor[TT_MAX_PERSON + 1], submitter[TT_MAX_PERSON + 1],
		approver[TT_MAX_PERSON + 1];
	double least, most; /* the scales that a request may ask for */
	bool mandatory;     /* it steers every request, ... */
	double floor;       /* ... at this scale at least */
};

/* Finds the version whose digest is these digits or begins with them (8 at least, and no other version's do). */
int tt_version_find(
	struct tt_version *out, struct tt_store *store, const char *policy, const char *digits, struct tt_error *err);
/* The version that the arguments "name" and "version" of a command say; its name and digest go to the record and the
 * answer. */
int tt_version_of_call(struct tt_version *out, struct tt_call *call, struct tt_error *err);
/* The bytes of a version, into an empty buffer, checked by their digest. */
int tt_version_bytes(struct tt_buffer *out, struct tt_database *db, const char *sha256, struct tt_error *err);
/* The policy of a version's bytes; tt_policy_free. directory: the store's, for a file that is gone at the end. */
int tt_version_load(struct tt_policy **out, struct tt_database *db, const char *directory, const char *sha256,
	struct tt_error *err);
/* Refuses an approval by who has made it: persons count, not keys. Each name may be "". */
int tt_check_second_person(
	struct tt_call *call, const char *author, const char *submitter, const char *editor, struct tt_error *err);

/* "draft" and so on; NULL for another number. */
const char *tt_version_state_word(int64_t state);

#endif
