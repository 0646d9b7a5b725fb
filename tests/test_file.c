/* Files: the bytes where they are mapped, and files that become shorter meanwhile. The suites of the parsers have what
 * these refuse. */
#include <criterion/criterion.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file.h"
#include "runtime/trimtab.h"
#include "weights_files.h"

enum { BYTES = 3 * 4096, NAMED = 42, NAMELESS = 43 };

static const char *name;

/* The child's: the address must lead to the file. */
static void on_bus_error(int signal_number, siginfo_t *info, void *context)
{
	const char *path = tt_mapped_file(info->si_addr);
	(void)signal_number, (void)context;
	_exit(path && strcmp(path, name) == 0 ? NAMED : NAMELESS);
}

static void read_behind_the_end(const char *path)
{
	struct sigaction action = {.sa_sigaction = on_bus_error, .sa_flags = SA_SIGINFO};
	struct tt_mapping mapping;
	name = path;
	if (sigaction(SIGBUS, &action, NULL) < 0 || tt_file_map(&mapping, path, NULL) != TT_OK ||
		truncate(path, 100) < 0)
		_exit(1);
	_exit(*(volatile const uint8_t *)(mapping.data + BYTES - 1));
}

Test(file, a_file_that_shrinks_while_it_is_mapped_can_be_named)
{
	static const char *const files[] = {"mapped"};
	static const char bytes[BYTES];
	struct scratch s;
	int status = 0;
	scratch_make(&s);
	const char *path = scratch_write(&s, files[0], bytes, sizeof bytes);
	pid_t child = fork();
	if (child == 0)
		read_behind_the_end(path);
	cr_assert_eq(waitpid(child, &status, 0), child);
	cr_expect(WIFEXITED(status) && WEXITSTATUS(status) == NAMED, "status %x", (unsigned)status);
	scratch_remove(&s, files, 1);
}

Test(file, an_address_is_of_the_file_that_is_mapped_there_now)
{
	static const char *const files[] = {"first", "second"};
	struct scratch s;
	struct tt_mapping first, second;
	struct tt_error err = {0};
	scratch_make(&s);
	cr_assert_eq(tt_file_map(&first, scratch_write(&s, files[0], "12345", 5), &err), TT_OK);
	cr_assert_eq(tt_file_map(&second, scratch_write(&s, files[1], "123", 3), &err), TT_OK);
	cr_expect_not_null(strstr(tt_mapped_file(first.data + 4), "first"));
	cr_expect_null(tt_mapped_file(first.data + 5));
	cr_expect_not_null(strstr(tt_mapped_file(second.data), "second"));
	cr_expect_null(tt_mapped_file(NULL));
	cr_expect_null(tt_mapped_file(&s));
	const void *was = first.data;
	tt_file_unmap(&first);
	cr_expect_null(tt_mapped_file(was));
	cr_expect_not_null(strstr(tt_mapped_file(second.data), "second"));
	tt_file_unmap(&second);
	scratch_remove(&s, files, 2);
}

/* /proc has no disk, and says so by EINVAL, as some file systems do that have one. */
Test(file, a_folder_is_synced_where_that_can_be_done)
{
	struct tt_error err = {0};
	char here[] = "/tmp/test_file.XXXXXX", path[64];
	cr_assert_not_null(mkdtemp(here));
	snprintf(path, sizeof path, "%s/a", here);
	cr_expect_eq(tt_file_sync_folder(path, &err), TT_OK);
	cr_assert_eq(rmdir(here), 0);
	cr_expect_eq(tt_file_sync_folder(path, &err), TT_ERR_IO);
	cr_expect_eq(tt_file_sync_folder("/proc/a", &err), TT_OK);
	cr_expect_eq(tt_file_sync_folder("a", &err), TT_OK);
}
