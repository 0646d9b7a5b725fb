/* What stands for the server where it is not built. */
#include "base/fail.h"
#include "runtime/serve/audit_command.h"
#include "runtime/serve/serve.h"

static int refuse(struct tt_error *err)
{
	return tt_fail(err, TT_ERR_UNSUPPORTED,
		"this program was built without its server, for want of libuv, llhttp or SQLite (Debian: libuv1-dev, "
		"libsqlite3-dev and node-llhttp or libllhttp-dev)");
}

bool tt_serve_is_built(void)
{
	return false;
}

int tt_serve(struct tt_engine *engine, const struct tt_serve_options *options, struct tt_error *err)
{
	(void)engine;
	(void)options;
	return refuse(err);
}

#define NO(command)                                                                                                    \
	int command(const struct tt_audit_options *options, char **text, struct tt_error *err)                         \
	{                                                                                                              \
		(void)options;                                                                                         \
		*text = NULL;                                                                                          \
		return refuse(err);                                                                                    \
	}
NO(tt_audit_head)
NO(tt_audit_verify)
NO(tt_audit_prove)
NO(tt_audit_show)
NO(tt_audit_seal)
NO(tt_audit_erase)
NO(tt_audit_export)
NO(tt_audit_replay)
