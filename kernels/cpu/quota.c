#include "kernels/cpu/quota.h"

#include <stdio.h>
#include <string.h>

enum { MAX_PATH = 4096, MAX_CORES = 1 << 16 };

/* cpu.max holds two numbers of microseconds, "200000 100000": of the second, the group may use the first; or "max". */
static uint32_t quota_of(const char *root, const char *group)
{
	char path[MAX_PATH + 64];
	long long quota, period;
	snprintf(path, sizeof path, "%s%s/cpu.max", root, group);
	FILE *file = fopen(path, "r");
	if (!file)
		return 0;
	int n = fscanf(file, "%15lld %15lld", &quota, &period);
	fclose(file);
	if (n != 2 || quota <= 0 || period <= 0)
		return 0;
	long long cores = (quota + period - 1) / period;
	return cores > MAX_CORES ? MAX_CORES : (uint32_t)cores;
}

/* The line "0::/some/group" names the process's own group; in a container that is "/". */
static void read_group(char group[MAX_PATH], const char *self)
{
	char line[MAX_PATH];
	FILE *file = fopen(self, "r");
	group[0] = 0;
	while (file && fgets(line, sizeof line, file))
		if (strncmp(line, "0::", 3) == 0)
			snprintf(group, MAX_PATH, "%.*s", (int)strcspn(line + 3, "\n"), line + 3);
	if (file)
		fclose(file);
}

uint32_t tt_cpu_quota(const char *root, const char *self)
{
	char group[MAX_PATH];
	uint32_t least = 0;
	read_group(group, self);
	for (;;) {
		uint32_t quota = quota_of(root, group);
		if (quota > 0 && (least == 0 || quota < least))
			least = quota;
		char *slash = strrchr(group, '/');
		if (!slash)
			return least;
		*slash = 0;
	}
}
