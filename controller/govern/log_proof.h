/* The proof that an entry is in a log, as JSON that needs nothing else but the log's public key:
 * {"seq", "entry", "leaf", "proof": [..], "checkpoint"}; the proof is that of RFC 6962 for the checkpoint's size. */
#ifndef CONTROLLER_GOVERN_LOG_PROOF_H
#define CONTROLLER_GOVERN_LOG_PROOF_H

#include "controller/govern/log.h"

/* *out is a new reference. For an entry after the newest checkpoint, proof and checkpoint are null. TT_ERR_ARGUMENT
 * where there is no such entry. */
int tt_log_prove(json_t **out, struct tt_log *log, uint64_t seq, struct tt_error *err);
/* Checks one, which may be anything. */
int tt_log_check_proof(const json_t *proof, const struct tt_verifier *verifier, struct tt_checkpoint *checkpoint,
	struct tt_error *err);

#endif
