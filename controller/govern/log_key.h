/* The key that signs a log's checkpoints, and the file of the newest one, in the state folder: audit.key (its owner's
 * alone), audit.pub (for who verifies) and checkpoint. */
#ifndef CONTROLLER_GOVERN_LOG_KEY_H
#define CONTROLLER_GOVERN_LOG_KEY_H

#include "controller/govern/note.h"

/* Reads the key. Where there is none and create is set, one is made with this name; NULL: a name that no other log
 * has. */
int tt_log_key_open(struct tt_signer *out, const char *directory, bool create, const char *name, struct tt_error *err);
/* Reads audit.pub of a folder. */
int tt_log_key_verifier(struct tt_verifier *out, const char *directory, struct tt_error *err);
/* Writes it, into any folder. */
int tt_log_key_write_verifier(const char *directory, const struct tt_verifier *verifier, struct tt_error *err);
/* Writes DIRECTORY/checkpoint. */
int tt_log_key_publish(const char *directory, const char *note, struct tt_error *err);

#endif
