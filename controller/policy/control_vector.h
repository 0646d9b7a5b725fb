/* GGUF control vectors, as llama.cpp and repeng write and read them: a direction for some layers and nothing else.
 * direction.N is added to the output of block N at every token, blocks counted from 0; llama.cpp takes N from 1 on. */
#ifndef CONTROLLER_POLICY_CONTROL_VECTOR_H
#define CONTROLLER_POLICY_CONTROL_VECTOR_H

#include "controller/policy/policy.h"
#include "weights/gguf.h"

/* Whether the file says that it is a control vector: of general.architecture "controlvector". */
bool tt_control_vector_is(const struct tt_gguf *file);

/* Reads one as a policy that adds at every token and has no gate. A file does not say how many layers its model has:
 * the policy has as many as its last direction needs and no fingerprint, until a model adopts it. */
int tt_control_vector_load(struct tt_policy **out, const char *path, struct tt_error *err);

/* Whether the policy is a control vector that no model has adopted. */
bool tt_control_vector_is_free(const struct tt_policy *policy);

/* Makes it a policy of this model, with a weight of 0 for the layers that the file did not name. TT_ERR_MISMATCH if the
 * model's width is another, or if it has too few layers. */
int tt_control_vector_adopt(struct tt_policy *policy, const struct tt_model_info *model, struct tt_error *err);

#endif
