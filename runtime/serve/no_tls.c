/* What stands for TLS where it is not built. Without a certificate nothing else of it is called. */
#include "base/fail.h"
#include "runtime/serve/tls.h"

int tt_certificate_load(struct tt_certificate **out, const char *chain, const char *key, struct tt_error *err)
{
	(void)out;
	(void)chain;
	(void)key;
	return tt_fail(err, TT_ERR_UNSUPPORTED,
		"--tls-cert: this program was built without TLS, for want of libssl (Debian: libssl-dev)");
}

void tt_certificate_free(struct tt_certificate *certificate)
{
	(void)certificate;
}

int tt_tls_begin(struct tt_tls **out, struct tt_certificate *certificate, struct tt_buffer *wire, struct tt_error *err)
{
	(void)out;
	(void)certificate;
	(void)wire;
	return tt_fail(err, TT_ERR_UNSUPPORTED, "this program was built without TLS");
}

void tt_tls_free(struct tt_tls *tls)
{
	(void)tls;
}

void tt_tls_feed(struct tt_tls *tls, const char *data, size_t n)
{
	(void)tls;
	(void)data;
	(void)n;
}

enum tt_tls_state tt_tls_read(struct tt_tls *tls, char *out, size_t size, size_t *n)
{
	(void)tls;
	(void)out;
	(void)size;
	*n = 0;
	return TT_TLS_REFUSED;
}

bool tt_tls_is_open(const struct tt_tls *tls)
{
	(void)tls;
	return false;
}

int tt_tls_write(struct tt_tls *tls, const char *data, size_t n)
{
	(void)tls;
	(void)data;
	(void)n;
	return TT_ERR_UNSUPPORTED;
}

void tt_tls_close(struct tt_tls *tls)
{
	(void)tls;
}
