/* A thread, the keeper, starts the processes and watches them until the last one is gone. They ask the kernel to be
 * ended with the thread that started them, so this thread lives as long as they do. It alone waits for them and sends
 * them signals: so a number that it knows is never that of another process. */
#define _GNU_SOURCE /* pipe2, posix_spawn_file_actions_addclosefrom_np */
#include "runtime/engine/followers.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fail.h"
#include "base/start_thread.h"
#include "runtime/engine/rank_program.h"

extern char **environ;

enum {
	LOOK_MS = 250,    /* between two looks at ranks that others wait for */
	STILL_LOOKS = 20, /* so many without anything done: five seconds */
	STOP_MS = 2000,   /* for the ranks to end by themselves */
};

struct follower {
	pid_t pid;           /* 0: it was not started, or it is gone */
	int socket;          /* -1: none */
	atomic_bool awaited; /* its answer is waited for */
	uint64_t work;       /* what it had done at the last look */
	uint32_t n_still;    /* looks since then */
	struct tt_error end; /* how it ended, before the meeting did */
};

struct tt_followers {
	struct tt_ring *ring;
	struct tt_rank_hello *hello; /* while they are started */
	const char *program;
	int file;
	uint32_t n_ranks;
	struct follower followers[TT_MAX_RANKS]; /* by rank, from 1 on */
	pthread_t keeper;
	bool has_keeper;
	int wake[2]; /* a pipe: what is written wakes the keeper, or -1 */
	pthread_mutex_t mutex;
	pthread_cond_t changed;
	bool started, over;    /* all were started and greeted, or one was not; none is left. With mutex */
	struct tt_error start; /* why one was not */
	atomic_bool closing;
	struct tt_error failure; /* the first, by name; rank 0's thread alone */
};

/* ---- Starting: on the keeper */

/* Signals that a terminal or a supervisor sends to all processes at once are rank 0's to act on. */
static int set_attributes(posix_spawnattr_t *attributes)
{
	sigset_t blocked;
	sigemptyset(&blocked);
	sigaddset(&blocked, SIGINT);
	sigaddset(&blocked, SIGTERM);
	sigaddset(&blocked, SIGHUP);
	sigaddset(&blocked, SIGQUIT);
	int error = posix_spawnattr_setsigmask(attributes, &blocked);
	return error ? error : posix_spawnattr_setflags(attributes, POSIX_SPAWN_SETSIGMASK);
}

/* The socket is its standard input; it has no other file of this process, but for what it says to people. */
static int set_files(posix_spawn_file_actions_t *files, int socket)
{
	int error = posix_spawn_file_actions_adddup2(files, socket, 0);
	if (!error && fcntl(2, F_GETFD) < 0)
		error = posix_spawn_file_actions_addopen(files, 2, "/dev/null", O_WRONLY, 0);
	error = error ? error : posix_spawn_file_actions_adddup2(files, 2, 1);
	return error ? error : posix_spawn_file_actions_addclosefrom_np(files, 3);
}

static int spawn(struct tt_followers *all, pid_t *pid, int socket, struct tt_error *err)
{
	char *arguments[] = {(char *)(uintptr_t) "trimtab-rank", NULL};
	posix_spawn_file_actions_t files;
	posix_spawnattr_t attributes;
	int error = posix_spawn_file_actions_init(&files);
	if (!error && (error = posix_spawnattr_init(&attributes)))
		posix_spawn_file_actions_destroy(&files);
	if (error)
		return tt_fail(err, TT_ERR_MEMORY, "%s cannot be started: %s", all->program, strerror(error));
	error = set_attributes(&attributes);
	error = error ? error : set_files(&files, socket);
	error = error ? error : posix_spawn(pid, all->program, &files, &attributes, arguments, environ);
	posix_spawnattr_destroy(&attributes);
	posix_spawn_file_actions_destroy(&files);
	if (!error)
		return TT_OK;
	*pid = 0;
	return tt_fail(err, TT_ERR_IO, "%s cannot be started: %s", all->program, strerror(error));
}

static int start(struct tt_followers *all, uint32_t rank, struct tt_error *err)
{
	struct follower *f = &all->followers[rank];
	int sockets[2];
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sockets))
		return tt_fail(err, TT_ERR_LIMIT, "rank %u has no socket: %s", rank, strerror(errno));
	f->socket = sockets[0];
	all->hello->rank = rank;
	int status = spawn(all, &f->pid, sockets[1], err);
	close(sockets[1]);
	/* One that cannot be greeted has ended, as a rule; watching it finds out how. */
	if (status == TT_OK && tt_rank_send(f->socket, all->hello, sizeof *all->hello, all->file, NULL) != TT_OK)
		kill(f->pid, SIGKILL);
	return status;
}

/* ---- Watching: on the keeper */

/* What a process has done so far, in a number that grows; the letter of its state. False where that cannot be read. */
static bool read_work(pid_t pid, uint64_t *work, char *state)
{
	char path[40], text[1024];
	unsigned long faults = 0, user = 0, system = 0;
	snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
	int file = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = file < 0 ? -1 : read(file, text, sizeof text - 1);
	if (file >= 0)
		close(file);
	if (n <= 0)
		return false;
	text[n] = 0;
	const char *end = strrchr(text, ')'); /* of the name, which may have anything in it */
	if (!end || sscanf(end + 1, " %c %*s %*s %*s %*s %*s %*s %*s %*s %lu %*s %lu %lu", state, &faults, &user,
			    &system) != 4)
		return false;
	*work = (uint64_t)faults + user + system;
	return true;
}

/* Whether others wait for a rank: at an exchange, for a command, or for an answer. */
static bool is_waited_for(const struct tt_followers *all, uint32_t rank)
{
	struct tt_meeting_rank *first = &all->ring->meeting->ranks[0], *own = &all->ring->meeting->ranks[rank];
	return atomic_load(&all->followers[rank].awaited) ||
	       (int32_t)(atomic_load(&first->n_arrived) - atomic_load(&own->n_arrived)) > 0 ||
	       (int32_t)(atomic_load(&first->n_done) - atomic_load(&own->n_done)) > 0;
}

static void end_by(struct tt_followers *all, uint32_t rank)
{
	tt_meeting_end(all->ring->meeting, rank);
}

/* One that computes or reads is waited for, however long it takes; one that others wait for and that does nothing is
 * not. Time in which this process is stopped too does not count. */
static void look_at(struct tt_followers *all, uint32_t rank)
{
	struct follower *f = &all->followers[rank];
	uint64_t work = f->work;
	char state = 'S';
	if (!is_waited_for(all, rank)) {
		f->n_still = 0;
		return;
	}
	bool busy = read_work(f->pid, &work, &state) && (work != f->work || state == 'R' || state == 'D');
	f->work = work;
	f->n_still = busy ? 0 : f->n_still + 1;
	if (f->n_still < STILL_LOOKS)
		return;
	tt_fail(&f->end, TT_ERR_DEVICE, "rank %u stood still for %d s", rank, LOOK_MS * STILL_LOOKS / 1000);
	end_by(all, rank);
}

/* Waits at most so long for the process to end; then it is gone. False where it has not. */
static bool reap(struct follower *f, int milliseconds, int *how)
{
	for (int waited = 0; f->pid > 0; waited += 2) {
		pid_t got = waitpid(f->pid, how, WNOHANG);
		if (got == f->pid || (got < 0 && errno != EINTR)) { /* somebody else in this process may have waited */
			f->pid = 0;
			return true;
		}
		if (waited >= milliseconds)
			return false;
		tt_sleep(2e-3);
	}
	return true;
}

/* The same of all of them. */
static bool reap_all(struct tt_followers *all, int milliseconds)
{
	for (int waited = 0;; waited += 2) {
		bool gone = true;
		int how;
		for (uint32_t rank = 1; rank < all->n_ranks; rank++)
			gone &= reap(&all->followers[rank], 0, &how);
		if (gone || waited >= milliseconds)
			return gone;
		tt_sleep(2e-3);
	}
}

/* Its socket is closed. It may have said why, before. */
static void bury(struct tt_followers *all, uint32_t rank)
{
	struct follower *f = &all->followers[rank];
	int how = 0;
	bool gone = reap(f, 500, &how);
	if (gone && WIFSIGNALED(how))
		tt_fail(&f->end, TT_ERR_DEVICE, "rank %u was ended by signal %d (%s)", rank, WTERMSIG(how),
			strsignal(WTERMSIG(how)));
	else
		tt_fail(&f->end, TT_ERR_DEVICE, "rank %u has ended", rank);
	end_by(all, rank);
}

/* Watches until the engine is closed or the meeting has ended. */
static void watch(struct tt_followers *all)
{
	struct pollfd polled[TT_MAX_RANKS] = {{.fd = all->wake[0], .events = POLLIN}};
	for (uint32_t rank = 1; rank < all->n_ranks; rank++)
		polled[rank] = (struct pollfd){.fd = all->followers[rank].socket};
	while (!atomic_load(&all->closing) && !atomic_load(&all->ring->meeting->ended)) {
		int n = poll(polled, all->n_ranks, LOOK_MS);
		for (uint32_t rank = 1; rank < all->n_ranks && !atomic_load(&all->closing); rank++) {
			if (n > 0 && polled[rank].revents & (POLLHUP | POLLERR))
				bury(all, rank);
			else if (n == 0)
				look_at(all, rank);
		}
	}
}

static void end_all(struct tt_followers *all)
{
	uint32_t first = atomic_load(&all->ring->meeting->ended);
	struct pollfd socket = {.fd = first > 1 && first <= all->n_ranks ? all->followers[first - 1].socket : -1};
	if (poll(&socket, 1, 0) > 0 && all->followers[first - 1].end.code == TT_OK)
		bury(all, first - 1);
	bool orderly = atomic_load(&all->closing) && !atomic_load(&all->ring->meeting->ended);
	if (orderly && reap_all(all, STOP_MS))
		return;
	for (uint32_t rank = 1; rank < all->n_ranks; rank++)
		if (all->followers[rank].pid > 0)
			kill(all->followers[rank].pid, SIGKILL);
	reap_all(all, STOP_MS);
}

static void *keep(void *argument)
{
	struct tt_followers *all = argument;
	int status = TT_OK;
	for (uint32_t rank = 1; rank < all->n_ranks && status == TT_OK; rank++)
		status = start(all, rank, &all->start);
	pthread_mutex_lock(&all->mutex);
	all->started = true;
	pthread_cond_broadcast(&all->changed);
	pthread_mutex_unlock(&all->mutex);
	if (status == TT_OK)
		watch(all);
	else
		end_by(all, 0);
	end_all(all);
	pthread_mutex_lock(&all->mutex);
	all->over = true;
	pthread_cond_broadcast(&all->changed);
	pthread_mutex_unlock(&all->mutex);
	return NULL;
}

/* ---- Of rank 0's threads */

static void wait_until(struct tt_followers *all, const bool *flag)
{
	pthread_mutex_lock(&all->mutex);
	while (!*flag)
		pthread_cond_wait(&all->changed, &all->mutex);
	pthread_mutex_unlock(&all->mutex);
}

static void wake_keeper(struct tt_followers *all)
{
	while (write(all->wake[1], "", 1) < 0 && errno == EINTR)
		;
}

int tt_followers_open(
	struct tt_followers **out, struct tt_ring *ring, int file, struct tt_rank_hello *hello, struct tt_error *err)
{
	struct tt_followers *all;
	struct tt_buffer program = {0};
	TT_TRY(tt_alloc(&all, 1, sizeof *all, err));
	*out = all;
	all->ring = ring;
	all->file = file;
	all->hello = hello;
	all->n_ranks = hello->n_ranks;
	all->wake[0] = all->wake[1] = -1;
	for (uint32_t rank = 0; rank < TT_MAX_RANKS; rank++)
		all->followers[rank].socket = -1;
	pthread_mutex_init(&all->mutex, NULL);
	pthread_cond_init(&all->changed, NULL);
	int status = tt_rank_program(&program, err);
	all->program = program.data;
	if (status == TT_OK && pipe2(all->wake, O_CLOEXEC | O_NONBLOCK))
		status = tt_fail(err, TT_ERR_LIMIT, "no pipe for ranks: %s", strerror(errno));
	if (status == TT_OK)
		status = tt_start_thread(&all->keeper, keep, all, err);
	all->has_keeper = status == TT_OK;
	if (status == TT_OK) {
		wait_until(all, &all->started);
		if (all->start.code != TT_OK)
			status = tt_fail(err, all->start.code, "%s", all->start.message);
	}
	tt_buffer_free(&program);
	return status;
}

void tt_followers_close(struct tt_followers *all)
{
	if (!all)
		return;
	atomic_store(&all->closing, true);
	if (all->has_keeper) {
		wake_keeper(all);
		pthread_join(all->keeper, NULL);
	}
	for (uint32_t rank = 1; rank < all->n_ranks; rank++)
		if (all->followers[rank].socket >= 0)
			close(all->followers[rank].socket);
	for (int i = 0; i < 2; i++)
		if (all->wake[i] >= 0)
			close(all->wake[i]);
	pthread_mutex_destroy(&all->mutex);
	pthread_cond_destroy(&all->changed);
	free(all);
}

/* What the rank that ended the meeting has said, or how it ended. It may have written anything. */
static void tell(struct tt_followers *all, uint32_t rank, struct tt_error *out)
{
	struct tt_meeting_rank *own = &all->ring->meeting->ranks[rank];
	struct tt_error why = {.code = own->status};
	memcpy(why.message, own->message, sizeof why.message);
	why.message[sizeof why.message - 1] = 0;
	if (why.code != TT_OK && *why.message)
		tt_fail(out, why.code, "rank %u: %s", rank, why.message);
	else if (all->followers[rank].end.code != TT_OK)
		*out = all->followers[rank].end;
	else
		tt_fail(out, TT_ERR_DEVICE, "rank %u has failed", rank);
}

int tt_followers_fail(struct tt_followers *all, struct tt_error *err)
{
	if (all->failure.code == TT_OK) {
		tt_meeting_end(all->ring->meeting, 0);
		wake_keeper(all);
		wait_until(all, &all->over);
		uint32_t rank = atomic_load(&all->ring->meeting->ended) - 1;
		/* rank 0 says so itself where not the call that failed knows why */
		if (rank < all->n_ranks && (rank > 0 || all->ring->meeting->ranks[0].status != TT_OK))
			tell(all, rank, &all->failure);
		else if (err && err->code != TT_OK)
			tt_fail(&all->failure, err->code, "rank 0: %s", err->message);
		else
			tt_fail(&all->failure, TT_ERR_DEVICE, "rank 0 has failed");
	}
	return tt_fail(err, all->failure.code, "%s", all->failure.message);
}

int tt_followers_blame(struct tt_followers *all, uint32_t rank, const struct tt_error *why, struct tt_error *err)
{
	if (!atomic_load(&all->ring->meeting->ended))
		all->failure = *why;
	tt_meeting_end(all->ring->meeting, rank);
	wake_keeper(all);
	wait_until(all, &all->over);
	return tt_followers_fail(all, err);
}

const struct tt_error *tt_followers_failure(const struct tt_followers *all)
{
	return all && all->failure.code != TT_OK ? &all->failure : NULL;
}

int tt_followers_send(
	struct tt_followers *all, uint32_t rank, const void *message, size_t n, int file, struct tt_error *err)
{
	if (tt_rank_send(all->followers[rank].socket, message, n, file, err) == TT_OK)
		return TT_OK;
	tt_meeting_end(all->ring->meeting, rank);
	return tt_followers_fail(all, err);
}

int tt_followers_receive(struct tt_followers *all, uint32_t rank, struct tt_rank_reply *reply, struct tt_error *err)
{
	struct follower *f = &all->followers[rank];
	struct tt_error lost = {0};
	atomic_store(&f->awaited, true);
	int status = tt_rank_receive(f->socket, reply, sizeof *reply, NULL, &lost);
	atomic_store(&f->awaited, false);
	if (status != TT_OK) {
		tt_meeting_end(all->ring->meeting, rank);
		return tt_followers_fail(all, err);
	}
	reply->error.message[sizeof reply->error.message - 1] = 0;
	return reply->error.code == TT_OK ? TT_OK
					  : tt_fail(err, reply->error.code, "rank %u: %s", rank, reply->error.message);
}
