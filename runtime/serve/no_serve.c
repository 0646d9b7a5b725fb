/* What stands for the server where it is not built. */
#include "base/fail.h"
#include "runtime/serve/serve.h"

bool tt_serve_is_built(void)
{
	return false;
}

int tt_serve(struct tt_engine *engine, const struct tt_serve_options *options, struct tt_error *err)
{
	(void)engine;
	(void)options;
	return tt_fail(err, TT_ERR_UNSUPPORTED,
		"this program was built without its server, for want of libuv, llhttp or SQLite (Debian: "
		"libuv1-dev, node-llhttp or libllhttp-dev, libsqlite3-dev)");
}
