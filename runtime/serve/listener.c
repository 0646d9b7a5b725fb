#include "runtime/serve/listener.h"

#include <asm/socket.h>
#include <errno.h>
#include <linux/filter.h>
#include <stdint.h>
#include <sys/socket.h>

#include "runtime/serve/connection.h"

/* The listener's file, or -1. */
static int file_of(const uv_stream_t *listener)
{
	uv_os_fd_t file;
	bool listens =
		!uv_is_closing((const uv_handle_t *)listener) && uv_fileno((const uv_handle_t *)listener, &file) == 0;
	return listens ? file : -1;
}

/* Drops what begins a connection, which its sender repeats a second later. What is under way goes on. */
static void drop_beginnings(int file)
{
	enum { FLAGS = 13, BEGINS = 2 }; /* of a segment of TCP: a byte of its header, and the bit that says so */
	struct sock_filter steps[] = {
		BPF_STMT(BPF_LD | BPF_B | BPF_ABS, FLAGS),
		BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, BEGINS, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, 0),
		BPF_STMT(BPF_RET | BPF_K, UINT32_MAX),
	};
	const struct sock_fprog program = {.len = sizeof steps / sizeof *steps, .filter = steps};
	setsockopt(file, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program);
}

void tt_listener_stop(const uv_stream_t *listener)
{
	int file = file_of(listener);
	if (file >= 0 && listener->type == UV_TCP)
		drop_beginnings(file);
}

void tt_listener_close(struct tt_server *server, uv_stream_t *listener)
{
	int file = file_of(listener), taken = file;
	if (file >= 0 && listener->type == UV_NAMED_PIPE)
		shutdown(file, SHUT_RD); /* nobody new is let in, and those that wait stay */
	while (taken >= 0) {
		taken = accept(file, NULL, NULL);
		if (taken >= 0)
			tt_connection_take(server, listener, taken);
		else if (errno == EINTR || errno == ECONNABORTED)
			taken = file; /* the next one */
	}
	if (!uv_is_closing((uv_handle_t *)listener))
		uv_close((uv_handle_t *)listener, NULL);
}
