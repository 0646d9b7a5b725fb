#define _GNU_SOURCE /* MSG_CMSG_CLOEXEC */
#include "runtime/engine/rank_messages.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/fail.h"

union control {
	char data[CMSG_SPACE(sizeof(int))];
	struct cmsghdr alignment;
};

int tt_rank_send(int socket, const void *message, size_t n, int file, struct tt_error *err)
{
	union control control = {{0}};
	struct iovec piece = {(void *)(uintptr_t)message, n};
	struct msghdr head = {.msg_iov = &piece, .msg_iovlen = 1};
	if (file >= 0) {
		head.msg_control = control.data;
		head.msg_controllen = sizeof control.data;
		struct cmsghdr *part = CMSG_FIRSTHDR(&head);
		part->cmsg_level = SOL_SOCKET;
		part->cmsg_type = SCM_RIGHTS;
		part->cmsg_len = CMSG_LEN(sizeof file);
		memcpy(CMSG_DATA(part), &file, sizeof file);
	}
	ssize_t sent;
	do
		sent = sendmsg(socket, &head, MSG_NOSIGNAL);
	while (sent < 0 && errno == EINTR);
	return sent == (ssize_t)n ? TT_OK : tt_fail_io(err, "a rank's socket", "write to");
}

static void take_file(struct msghdr *head, int *file)
{
	for (struct cmsghdr *part = CMSG_FIRSTHDR(head); part; part = CMSG_NXTHDR(head, part)) {
		int got;
		if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS)
			continue;
		memcpy(&got, CMSG_DATA(part), sizeof got);
		if (file)
			*file = got;
		else
			close(got);
	}
}

int tt_rank_receive(int socket, void *message, size_t n, int *file, struct tt_error *err)
{
	union control control = {{0}};
	struct iovec piece = {message, n};
	struct msghdr head = {
		.msg_iov = &piece, .msg_iovlen = 1, .msg_control = control.data, .msg_controllen = sizeof control.data};
	ssize_t got;
	if (file)
		*file = -1;
	do
		got = recvmsg(socket, &head, MSG_CMSG_CLOEXEC);
	while (got < 0 && errno == EINTR);
	if (got > 0)
		take_file(&head, file);
	if (got == (ssize_t)n && !(head.msg_flags & MSG_TRUNC))
		return TT_OK;
	return got < 0 ? tt_fail_io(err, "a rank's socket", "read from")
	       : got   ? tt_fail(err, TT_ERR_FORMAT, "a message of ranks has %zd bytes, not %zu", got, n)
		       : tt_fail(err, TT_ERR_IO, "the other process has ended");
}
