/* trimtab-rank: the process of a rank other than the first. Rank 0 starts it, with a socket as its standard input. */
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "runtime/engine/follower.h"

int main(int argc, char **argv)
{
	struct tt_error err = {0};
	int kind = 0;
	socklen_t n = sizeof kind;
	if (argc > 1 || getsockopt(0, SOL_SOCKET, SO_TYPE, &kind, &n) || kind != SOCK_SEQPACKET) {
		fprintf(argc > 1 && !strcmp(argv[1], "--help") ? stdout : stderr,
			"trimtab-rank is a part of trimtab: it is started for each further rank of a model (--tp)\n");
		return argc > 1 && !strcmp(argv[1], "--help") ? 0 : 64;
	}
	/* What went wrong, rank 0 says. */
	return tt_follower_run(0, &err) == 0 ? 0 : 70;
}
