/* Control groups' limits of processor time, from folders as the kernel shows them. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kernels/cpu/quota.h"
#include "weights_files.h"

/* Files of a scratch folder: the group's, that of the group above it, and that of all. */
static uint32_t quota(const char *self, const char *own, const char *above, const char *all)
{
	static const char *const names[] = {"a/b/cpu.max", "a/cpu.max", "cpu.max", "self"};
	const char *const texts[] = {own, above, all, self};
	struct scratch s;
	char path[128], folder[128];
	scratch_make(&s);
	snprintf(folder, sizeof folder, "%s/a", s.directory);
	cr_assert_eq(mkdir(folder, 0700), 0);
	snprintf(path, sizeof path, "%s/a/b", s.directory);
	cr_assert_eq(mkdir(path, 0700), 0);
	for (int i = 0; i < 4; i++)
		if (texts[i])
			scratch_write(&s, names[i], texts[i], strlen(texts[i]));
	snprintf(folder, sizeof folder, "%s/self", s.directory);
	uint32_t n = tt_cpu_quota(s.directory, folder);
	for (int i = 0; i < 4; i++) {
		snprintf(folder, sizeof folder, "%s/%s", s.directory, names[i]);
		unlink(folder);
	}
	rmdir(path);
	snprintf(path, sizeof path, "%s/a", s.directory);
	rmdir(path);
	scratch_remove(&s, names, 0);
	return n;
}

Test(quota, is_the_least_of_the_groups_above)
{
	static const char group[] = "0::/a/b\n", old[] = "4:cpu:/x\n0::/a/b\n";
	cr_expect_eq(quota(group, "200000 100000\n", NULL, NULL), 2);
	cr_expect_eq(quota(old, "250000 100000\n", "max 100000\n", NULL), 3, "a part of a core is one");
	cr_expect_eq(quota(group, "max 100000\n", "max 100000\n", NULL), 0);
	cr_expect_eq(quota(group, "800000 100000\n", "300000 100000\n", "max 100000\n"), 3);
	cr_expect_eq(quota(group, "100000 100000\n", "300000 100000\n", NULL), 1);
	cr_expect_eq(quota("0::/\n", "100000 100000\n", NULL, "400000 100000\n"), 4, "a container's own root");
	cr_expect_eq(quota("0::/\n", NULL, NULL, NULL), 0, "no such file, as at the root of a machine");
}

Test(quota, what_is_no_limit_is_none)
{
	static const char group[] = "0::/a/b\n";
	cr_expect_eq(quota(group, "", NULL, NULL), 0);
	cr_expect_eq(quota(group, "0 100000\n", NULL, NULL), 0);
	cr_expect_eq(quota(group, "100000 0\n", NULL, NULL), 0);
	cr_expect_eq(quota(group, "-5 100000\n", NULL, NULL), 0);
	cr_expect_eq(quota(group, "many\n", NULL, NULL), 0);
	cr_expect_eq(quota("4:cpu:/a/b\n", "100000 100000\n", NULL, NULL), 0, "version 1 alone");
	cr_expect_eq(quota(group, "99999999999999 1\n", NULL, NULL), 1 << 16);
}
