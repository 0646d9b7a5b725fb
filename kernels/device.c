/* From a device's name to its backend. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fail.h"
#include "kernels/cpu/cpu.h"

enum { MAX_DEVICES = 1024 };

static bool is_cuda_here(void)
{
	return tt_cuda_built() != NULL;
}

static int open_cuda(struct tt_backend **out, uint32_t index, uint32_t n_threads, struct tt_error *err)
{
	(void)n_threads;
	return tt_cuda_open(out, (int)index, err);
}

static int open_cpu(struct tt_backend **out, uint32_t index, uint32_t n_threads, struct tt_error *err)
{
	(void)index;
	return tt_cpu_open(out, n_threads, err);
}

/* In the order in which "auto" tries them. The last is always present and runs every model. */
static const struct {
	const char *name;
	uint32_t max; /* devices of this kind: NAME is the first; NAME:N is accepted where max > 1 */
	bool (*is_here)(void);
	int (*can_run)(const struct tt_config *config, struct tt_error *err);
	int (*open)(struct tt_backend **out, uint32_t index, uint32_t n_threads, struct tt_error *err);
} DEVICES[] = {
	{"cuda", MAX_DEVICES, is_cuda_here, tt_cuda_can_run, open_cuda},
	{"cpu", 1, NULL, NULL, open_cpu},
};
enum { N_DEVICES = sizeof DEVICES / sizeof *DEVICES };

/* Reads "" or ":N" as an index below max; false when it is neither. */
static bool parse_index(const char *text, uint32_t max, uint32_t *out)
{
	char *end;
	*out = 0;
	if (!*text)
		return true;
	if (text[0] != ':' || text[1] < '0' || text[1] > '9' || max == 1)
		return false;
	unsigned long n = strtoul(text + 1, &end, 10);
	*out = (uint32_t)n;
	return !*end && n < max;
}

static int refuse(const char *device, struct tt_error *err)
{
	char names[200];
	size_t n = 0;
	for (size_t i = 0; i < N_DEVICES; i++) {
		const char *name = DEVICES[i].name;
		n += (size_t)snprintf(names + n, sizeof names - n, ", %s", name);
		if (DEVICES[i].max > 1)
			n += (size_t)snprintf(names + n, sizeof names - n, ", %s:N", name);
	}
	return tt_fail(err, TT_ERR_ARGUMENT, "device \"%.40s\" is none of auto%s", device, names);
}

static int open_named(struct tt_backend **out, const char *device, uint32_t n_threads, struct tt_error *err)
{
	for (size_t i = 0; i < N_DEVICES; i++) {
		size_t n = strlen(DEVICES[i].name);
		uint32_t index;
		if (!strncmp(device, DEVICES[i].name, n) && parse_index(device + n, DEVICES[i].max, &index))
			return DEVICES[i].open(out, index, n_threads, err);
	}
	return refuse(device, err);
}

int tt_device_open(struct tt_backend **out, const char *device, uint32_t n_threads, const struct tt_config *config,
	struct tt_error *note, struct tt_error *err)
{
	*note = (struct tt_error){0};
	if (device && strcmp(device, "auto"))
		return open_named(out, device, n_threads, err);
	for (size_t i = 0; i < N_DEVICES - 1; i++) {
		if (!DEVICES[i].is_here() || (config && DEVICES[i].can_run(config, note) != TT_OK) ||
			DEVICES[i].open(out, 0, n_threads, note) != TT_OK)
			continue;
		if (!config || !(*out)->can_run || (*out)->can_run(*out, config, note) == TT_OK)
			return TT_OK;
		(*out)->close(*out);
	}
	return DEVICES[N_DEVICES - 1].open(out, 0, n_threads, err);
}

int tt_device_open_rank(struct tt_backend **out, const char *name, uint32_t variant, uint32_t rank, uint32_t n_threads,
	struct tt_error *err)
{
	if (!strcmp(name, "cuda") && variant < MAX_DEVICES)
		return tt_cuda_open(out, (int)(variant + rank), err);
	if (strcmp(name, "cpu") || variant > TT_CPU_BODY_BF16)
		return tt_fail(err, TT_ERR_UNSUPPORTED, "%.40s has no ranks", name);
	return tt_cpu_open_body(out, n_threads, (enum tt_cpu_body_choice)variant, err);
}
