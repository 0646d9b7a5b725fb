/* How much of the machine a container may use. */
#ifndef KERNELS_CPU_QUOTA_H
#define KERNELS_CPU_QUOTA_H

#include <stdint.h>

/* The cores' worth of time that control groups (version 2) leave this process, rounded up; 0: as much as there is. A
 * limit of a group above holds too. root: "/sys/fs/cgroup"; self: "/proc/self/cgroup". */
uint32_t tt_cpu_quota(const char *root, const char *self);

#endif
