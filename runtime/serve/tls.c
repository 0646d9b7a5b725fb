#include "runtime/serve/tls.h"

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdlib.h>
#include <string.h>

#include "base/fail.h"

enum { MAX_SAID = 64 << 10 }; /* bytes that TLS may say of itself before the client takes them */

struct tt_certificate {
	SSL_CTX *context;
};

/* What OpenSSL reads from and writes to. */
struct tt_tls {
	SSL *ssl;
	BIO_METHOD *method;
	const char *data; /* of the wire, not read yet */
	size_t n_data;
	struct tt_buffer *wire;
	bool reads; /* what it says now is its own, and no answer */
	bool ends; /* nothing more is read: the client begins another handshake, or there is no room for what is said */
};

/* ---- The bytes' way in and out */

static int wire_write(BIO *bio, const char *data, int n)
{
	struct tt_tls *tls = BIO_get_data(bio);
	BIO_clear_retry_flags(bio); /* of an earlier read, by which this error would be taken for a wait */
	tls->ends = tls->ends || n <= 0 || (tls->reads && tls->wire->len + (size_t)n > MAX_SAID) ||
		    tt_buffer_add(tls->wire, data, (size_t)n, NULL) != TT_OK;
	return tls->ends ? -1 : n;
}

static int wire_read(BIO *bio, char *out, int size)
{
	struct tt_tls *tls = BIO_get_data(bio);
	size_t n = size > 0 && (size_t)size < tls->n_data ? (size_t)size : tls->n_data;
	BIO_clear_retry_flags(bio);
	if (tls->ends)
		return -1;
	if (n == 0) {
		BIO_set_retry_read(bio);
		return -1;
	}
	memcpy(out, tls->data, n);
	tls->data += n;
	tls->n_data -= n;
	return (int)n;
}

static long wire_control(BIO *bio, int command, long number, void *pointer)
{
	(void)bio;
	(void)number;
	(void)pointer;
	return command == BIO_CTRL_FLUSH;
}

static BIO *make_wire(struct tt_tls *tls)
{
	tls->method = BIO_meth_new(BIO_TYPE_SOURCE_SINK | BIO_TYPE_START, "wire");
	BIO *bio = NULL;
	if (tls->method && BIO_meth_set_write(tls->method, wire_write) && BIO_meth_set_read(tls->method, wire_read) &&
		BIO_meth_set_ctrl(tls->method, wire_control))
		bio = BIO_new(tls->method);
	if (bio) {
		BIO_set_data(bio, tls);
		BIO_set_init(bio, 1);
	}
	return bio;
}

/* ---- Certificates */

/* Sees the header of a record before its text is read. libssl would answer each hello of TLS 1.2 in it by a warning and
 * go on, and thousands fit into one. (TLS 1.3 hides what belongs to no handshake in records of another kind.) */
static void see_message(int writes, int version, int type, const void *data, size_t n, SSL *ssl, void *user)
{
	const uint8_t *header = data;
	(void)version;
	(void)user;
	if (!writes && type == SSL3_RT_HEADER && n > 0 && header[0] == SSL3_RT_HANDSHAKE && SSL_is_init_finished(ssl)) {
		struct tt_tls *tls = SSL_get_app_data(ssl);
		tls->ends = true;
	}
}

/* What OpenSSL last complained of. */
static int fail_ssl(struct tt_error *err, int code, const char *what)
{
	const char *reason = ERR_reason_error_string(ERR_peek_last_error());
	tt_fail(err, code, "%.300s: %s", what, reason ? reason : "not what TLS needs");
	ERR_clear_error();
	return code;
}

/* A key that needs a password is refused: nobody is there to type it. */
static int no_password(char *out, int size, int writes, void *user)
{
	(void)out;
	(void)size;
	(void)writes;
	(void)user;
	return -1;
}

/* A client that names protocols must name this one; most name none. */
static int choose_protocol(
	SSL *ssl, const unsigned char **out, unsigned char *n_out, const unsigned char *in, unsigned n_in, void *user)
{
	static const unsigned char ours[] = "http/1.1";
	(void)ssl;
	(void)user;
	for (unsigned at = 0; at < n_in && in[at] < n_in - at; at += 1 + in[at]) {
		if (in[at] == sizeof ours - 1 && memcmp(in + at + 1, ours, sizeof ours - 1) == 0) {
			*out = in + at + 1;
			*n_out = in[at];
			return SSL_TLSEXT_ERR_OK;
		}
	}
	return SSL_TLSEXT_ERR_ALERT_FATAL;
}

/* Without tickets and sessions there is no key that opens more than one connection. */
static bool set_rules(SSL_CTX *context)
{
	SSL_CTX_set_options(context, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION | SSL_OP_NO_TICKET);
	SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
	SSL_CTX_set_mode(context, SSL_MODE_RELEASE_BUFFERS);
	SSL_CTX_set_alpn_select_cb(context, choose_protocol, NULL);
	SSL_CTX_set_default_passwd_cb(context, no_password);
	SSL_CTX_set_msg_callback(context, see_message);
	return SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION) == 1 &&
	       SSL_CTX_set_num_tickets(context, 0) == 1 &&
	       SSL_CTX_set_cipher_list(context, "ECDHE+AESGCM:ECDHE+CHACHA20") == 1;
}

static int fail_pair(struct tt_error *err, const char *chain, const char *key)
{
	ERR_clear_error();
	return tt_fail(err, TT_ERR_FORMAT, "%.300s is not the key of %.300s", key, chain);
}

int tt_certificate_load(struct tt_certificate **out, const char *chain, const char *key, struct tt_error *err)
{
	struct tt_certificate *certificate;
	TT_TRY(tt_alloc(&certificate, 1, sizeof *certificate, err));
	int status = TT_OK;
	ERR_clear_error();
	certificate->context = SSL_CTX_new(TLS_server_method());
	if (!certificate->context || !set_rules(certificate->context))
		status = fail_ssl(err, TT_ERR_MEMORY, "TLS");
	else if (SSL_CTX_use_certificate_chain_file(certificate->context, chain) != 1)
		status = fail_ssl(err, TT_ERR_FORMAT, chain);
	else if (SSL_CTX_use_PrivateKey_file(certificate->context, key, SSL_FILETYPE_PEM) != 1)
		status = ERR_GET_REASON(ERR_peek_last_error()) == X509_R_KEY_VALUES_MISMATCH
				 ? fail_pair(err, chain, key)
				 : fail_ssl(err, TT_ERR_FORMAT, key);
	else if (SSL_CTX_check_private_key(certificate->context) != 1) /* one of another type was just put beside */
		status = fail_pair(err, chain, key);
	if (status != TT_OK) {
		tt_certificate_free(certificate);
		return status;
	}
	*out = certificate;
	return TT_OK;
}

void tt_certificate_free(struct tt_certificate *certificate)
{
	if (certificate)
		SSL_CTX_free(certificate->context);
	free(certificate);
}

/* ---- Connections */

int tt_tls_begin(struct tt_tls **out, struct tt_certificate *certificate, struct tt_buffer *wire, struct tt_error *err)
{
	struct tt_tls *tls;
	TT_TRY(tt_alloc(&tls, 1, sizeof *tls, err));
	tls->wire = wire;
	tls->ssl = SSL_new(certificate->context);
	BIO *bio = tls->ssl ? make_wire(tls) : NULL;
	if (!bio) {
		tt_tls_free(tls);
		ERR_clear_error();
		return tt_fail(err, TT_ERR_MEMORY, "no memory for TLS");
	}
	SSL_set_bio(tls->ssl, bio, bio);
	SSL_set_app_data(tls->ssl, tls);
	SSL_set_accept_state(tls->ssl);
	*out = tls;
	return TT_OK;
}

void tt_tls_free(struct tt_tls *tls)
{
	if (!tls)
		return;
	SSL_free(tls->ssl);
	BIO_meth_free(tls->method);
	free(tls);
}

void tt_tls_feed(struct tt_tls *tls, const char *data, size_t n)
{
	tls->data = data;
	tls->n_data = n;
}

enum tt_tls_state tt_tls_read(struct tt_tls *tls, char *out, size_t size, size_t *n)
{
	ERR_clear_error();
	tls->reads = true;
	int done = SSL_read_ex(tls->ssl, out, size, n);
	tls->reads = false;
	if (done == 1)
		return TT_TLS_GAVE;
	*n = 0;
	int why = SSL_get_error(tls->ssl, done);
	ERR_clear_error();
	if (why == SSL_ERROR_WANT_READ)
		return TT_TLS_GOES_ON;
	return why == SSL_ERROR_ZERO_RETURN ? TT_TLS_LEFT : TT_TLS_REFUSED;
}

bool tt_tls_is_open(const struct tt_tls *tls)
{
	return SSL_is_init_finished(tls->ssl);
}

int tt_tls_write(struct tt_tls *tls, const char *data, size_t n)
{
	size_t written;
	ERR_clear_error();
	if (SSL_write_ex(tls->ssl, data, n, &written) == 1 && written == n)
		return TT_OK;
	ERR_clear_error();
	return TT_ERR_IO;
}

void tt_tls_close(struct tt_tls *tls)
{
	ERR_clear_error();
	SSL_shutdown(tls->ssl);
	ERR_clear_error();
}
