/* A model from one machine to all: one rank reads it, and the first rank of each machine passes it on to the next while
 * it writes, piece by piece. So a file server is asked once, and the time hardly grows with the number of machines. */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fail.h"
#include "base/file.h"
#include "base/outputs.h"
#include "base/sha256.h"
#include "runtime/batch/distribute_mpi.h"
#include "runtime/batch/messages_mpi.h"

enum { PIECE_BYTES = 64 << 20, MAX_NAME = 512 };

struct header {
	char name[MAX_NAME]; /* below the folder; "" after the last file */
	uint64_t size;
};

struct piece {
	uint64_t n;
	uint8_t sha256[32];
};

struct stage {
	const struct tt_mpi *mpi;
	const char *folder;
	char *data; // [PIECE_BYTES]
};

/* ---- A file */

/* Gets the next piece, from a file or from the rank before, and starts passing it on. */
static int take_piece(
	struct stage *s, FILE *from, struct piece *piece, uint64_t left, MPI_Request *passed, struct tt_error *err)
{
	int before = s->mpi->before, after = s->mpi->after;
	if (from) {
		piece->n = left < PIECE_BYTES ? left : PIECE_BYTES;
		if (fread(s->data, 1, (size_t)piece->n, from) != piece->n)
			return tt_fail(err, TT_ERR_IO, "the model cannot be read, or became shorter");
		TT_TRY(tt_sha256_bytes(piece->sha256, s->data, (size_t)piece->n, err));
	} else {
		MPI_Request request;
		tt_mpi_await(before, TT_MPI_PIECE, piece, sizeof *piece);
		if (piece->n > PIECE_BYTES || piece->n > left)
			return tt_fail(err, TT_ERR_FORMAT, "rank %d sent more than the model has", before);
		MPI_Irecv(s->data, (int)piece->n, MPI_BYTE, before, TT_MPI_PIECE, MPI_COMM_WORLD, &request);
		tt_mpi_finish(&request);
	}
	*passed = MPI_REQUEST_NULL;
	if (after < 0)
		return TT_OK;
	tt_mpi_send(after, TT_MPI_PIECE, piece, sizeof *piece);
	MPI_Isend(s->data, (int)piece->n, MPI_BYTE, after, TT_MPI_PIECE, MPI_COMM_WORLD, passed);
	return TT_OK;
}

static int check_piece(const struct stage *s, const struct piece *piece, struct tt_error *err)
{
	uint8_t sha256[32];
	TT_TRY(tt_sha256_bytes(sha256, s->data, (size_t)piece->n, err));
	return tt_sha256_equal(sha256, piece->sha256)
		       ? TT_OK
		       : tt_fail(err, TT_ERR_FORMAT, "a piece of the model arrived with other bytes than it had");
}

static int copy_pieces(struct stage *s, FILE *from, int to, uint64_t size, const char *path, struct tt_error *err)
{
	for (uint64_t left = size; left > 0;) {
		struct piece piece;
		MPI_Request passed;
		TT_TRY(take_piece(s, from, &piece, left, &passed, err));
		int status = from ? TT_OK : check_piece(s, &piece, err);
		if (status == TT_OK && tt_file_write_all(to, s->data, (size_t)piece.n) < 0)
			status = tt_fail_io(err, path, "write");
		tt_mpi_finish(&passed);
		TT_TRY(status);
		left -= piece.n;
	}
	return TT_OK;
}

/* Writes FOLDER/NAME under another name first, its own: a model that is half there must not be taken for one, and
 * another job may stage the same one. */
static int write_file(struct stage *s, FILE *from, const struct header *header, struct tt_error *err)
{
	struct tt_buffer path = {0};
	char *temporary = NULL;
	int to = -1;
	int status = tt_buffer_print(&path, err, "%s/%s", s->folder, header->name);
	if (status == TT_OK)
		status = tt_file_make_temporary(&temporary, &to, path.data, err);
	if (status == TT_OK)
		status = copy_pieces(s, from, to, header->size, temporary, err);
	if (temporary && close(to) < 0 && status == TT_OK)
		status = tt_fail_io(err, temporary, "write");
	if (status == TT_OK && rename(temporary, path.data) < 0)
		status = tt_fail_io(err, path.data, "rename into place");
	if (temporary && status != TT_OK)
		unlink(temporary);
	free(temporary);
	tt_buffer_free(&path);
	return status;
}

/* ---- Rank 0: a model's files */

static int send_file(struct stage *s, const char *path, const char *name, struct tt_error *err)
{
	struct header header = {0};
	struct stat status;
	FILE *from = fopen(path, "rb");
	if (!from || fstat(fileno(from), &status) < 0) {
		int code = tt_fail_io(err, path, "open");
		if (from)
			fclose(from);
		return code;
	}
	header.size = (uint64_t)status.st_size;
	snprintf(header.name, sizeof header.name, "%s", name);
	if (s->mpi->after >= 0)
		tt_mpi_send(s->mpi->after, TT_MPI_FILE, &header, sizeof header);
	int code = write_file(s, from, &header, err);
	fclose(from);
	return code;
}

static int make_folder(const struct stage *s, const char *name, struct tt_error *err)
{
	char *path = NULL;
	TT_TRY(tt_file_join(&path, s->folder, name, err));
	int status = mkdir(path, 0777) < 0 && errno != EEXIST ? tt_fail_io(err, path, "make") : TT_OK;
	free(path);
	return status;
}

static int send_folder(struct stage *s, const char *model, const char *name, struct tt_error *err)
{
	DIR *folder = opendir(model);
	int status = folder ? make_folder(s, name, err) : tt_fail_io(err, model, "open");
	for (struct dirent *entry; status == TT_OK && (entry = readdir(folder));) {
		struct tt_buffer path = {0}, below = {0};
		struct stat what;
		status = tt_buffer_print(&path, err, "%s/%s", model, entry->d_name);
		if (status == TT_OK)
			status = tt_buffer_print(&below, err, "%s/%s", name, entry->d_name);
		if (status == TT_OK && below.len < MAX_NAME && stat(path.data, &what) == 0 && S_ISREG(what.st_mode))
			status = send_file(s, path.data, below.data, err);
		tt_buffer_free(&path);
		tt_buffer_free(&below);
	}
	if (folder)
		closedir(folder);
	return status;
}

static int send_model(struct stage *s, const char *model, const char *name, const char *staged, struct tt_error *err)
{
	bool same;
	TT_TRY(tt_same_file(model, staged, &same, err));
	if (same)
		return tt_fail(err, TT_ERR_ARGUMENT, "%s is the model itself: stage it elsewhere", staged);
	TT_TRY(tt_file_is_directory(model) ? send_folder(s, model, name, err) : send_file(s, model, name, err));
	if (s->mpi->after >= 0)
		tt_mpi_send(s->mpi->after, TT_MPI_FILE, &(struct header){0}, sizeof(struct header));
	return TT_OK;
}

/* ---- The first rank of another machine */

static int receive_model(struct stage *s, struct tt_error *err)
{
	for (;;) {
		struct header header;
		tt_mpi_await(s->mpi->before, TT_MPI_FILE, &header, sizeof header);
		if (s->mpi->after >= 0)
			tt_mpi_send(s->mpi->after, TT_MPI_FILE, &header, sizeof header);
		if (!header.name[0])
			return TT_OK;
		char *slash = strchr(header.name, '/');
		if (slash) {
			*slash = 0;
			TT_TRY(make_folder(s, header.name, err));
			*slash = '/';
		}
		TT_TRY(write_file(s, NULL, &header, err));
	}
}

static int stage(struct stage *s, const char *model, const char *name, const char *staged, struct tt_error *err)
{
	if (!s->mpi->is_first)
		return TT_OK;
	if (mkdir(s->folder, 0777) < 0 && errno != EEXIST)
		return tt_fail_io(err, s->folder, "make");
	TT_TRY(tt_alloc(&s->data, PIECE_BYTES, 1, err));
	int status = s->mpi->rank == 0 ? send_model(s, model, name, staged, err) : receive_model(s, err);
	free(s->data);
	return status;
}

int tt_mpi_stage(const struct tt_mpi *mpi, const char *model, const char *folder, char **staged, struct tt_error *err)
{
	struct stage s = {.mpi = mpi, .folder = folder};
	char *name = NULL;
	size_t n = strlen(model);
	while (n > 1 && model[n - 1] == '/')
		n--;
	TT_TRY(tt_copy_string(&name, model, n, err));
	int status = tt_file_join(staged, folder, tt_file_name(name), err);
	if (status == TT_OK)
		status = stage(&s, name, tt_file_name(name), *staged, err);
	free(name);
	TT_TRY(status);
	MPI_Request all;
	MPI_Ibarrier(MPI_COMM_WORLD, &all);
	tt_mpi_finish(&all);
	return TT_OK;
}
