/* The machine on which a figure was measured. Whatever the system does not say is "unknown" or null, never guessed. */
#include "bench/harness/harness_internal.h"

#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "base/compiler.h"
#include "tt_commit.h"

/* Set by the build. */
#ifndef TT_CFLAGS
#define TT_CFLAGS "unknown"
#endif

const char *tt_bench_commit(void)
{
	return TT_COMMIT;
}

/* The first processor's "model name", which x86 kernels print and others may not. */
static void cpu_model(char *out, size_t size)
{
	char line[512];
	FILE *file = fopen("/proc/cpuinfo", "r");
	snprintf(out, size, "unknown");
	while (file && fgets(line, sizeof line, file)) {
		char *colon = strchr(line, ':');
		if (strncmp(line, "model name", 10) || !colon || colon[1] != ' ')
			continue;
		colon[strcspn(colon, "\n")] = 0;
		snprintf(out, size, "%s", colon + 2);
		break;
	}
	if (file)
		fclose(file);
}

/* Runnable threads over the last minute. Above 0 before a benchmark, something else is using the machine. */
static json_t *load_average(void)
{
	double load;
	FILE *file = fopen("/proc/loadavg", "r");
	json_t *value = file && fscanf(file, "%lf", &load) == 1 ? json_real(load) : json_null();
	if (file)
		fclose(file);
	return value;
}

int tt_bench_machine(json_t **out, uint32_t n_threads, struct tt_error *err)
{
	char cpu[256], kernel[512] = "unknown";
	struct utsname name;
	long cores = sysconf(_SC_NPROCESSORS_ONLN), pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);
	cpu_model(cpu, sizeof cpu);
	const char *architecture = "unknown";
	if (uname(&name) == 0) {
		snprintf(kernel, sizeof kernel, "%s %s", name.sysname, name.release);
		architecture = name.machine;
	}
	json_t *machine = json_pack("{s:s, s:s, s:I, s:i, s:I, s:s, s:s, s:s}", "cpu", cpu, "architecture",
		architecture, "cores", (json_int_t)(cores > 0 ? cores : 1), "threads", (int)n_threads, "memory_bytes",
		pages > 0 && page > 0 ? (json_int_t)pages * page : (json_int_t)0, "kernel", kernel, "compiler",
		TT_COMPILER, "flags", TT_CFLAGS);
	if (!machine || json_object_set_new(machine, "load_average", load_average())) {
		json_decref(machine);
		return tt_bench_json_failed(err);
	}
	*out = machine;
	return TT_OK;
}
