/* Says which device a model would run on: device MODEL [DEVICE], where DEVICE is auto, cpu, cuda or cuda:N. The exit
 * status is 1 if that device cannot be had.
 *     cc device.c -o device $(pkg-config --cflags --libs trimtab) */
#include <stdio.h>
#include <string.h>
#include <trimtab.h>

/* A program may meet another version of the library than it was compiled with. */
static int say_version(void)
{
	struct tt_error err = {0};
	char *build = NULL;
	if (tt_describe_build(&build, &err) != TT_OK)
		return fprintf(stderr, "device: %s\n", err.message), 1;
	printf("compiled with trimtab %s, runs with %s: %s\n", TT_VERSION, tt_version(), build);
	tt_free(build);
	return 0;
}

int main(int argc, char **argv)
{
	struct tt_error err = {0};
	struct tt_engine *engine = NULL;
	struct tt_engine_options options;
	if (argc < 2)
		return fprintf(stderr, "usage: device MODEL [DEVICE]\n"), 2;
	if (say_version())
		return 1;
	tt_engine_options_default(&options);
	options.max_batch = 1;
	if (argc > 2)
		options.device = argv[2];

	if (tt_engine_open(&engine, argv[1], &options, &err) != TT_OK) {
		printf("%s: %s\n", options.device, err.message);
		return 1;
	}
	const struct tt_model_info *info = tt_engine_info(engine);
	printf("%s: %s runs on %s", options.device, info->name, info->backend);
	if (*info->device_note)
		printf(", since %s", info->device_note);
	printf("\n%u layers, %.1f million parameters, KV pages of %.1f MiB, mode %s\n", info->n_layers,
		(double)info->n_parameters / 1e6, (double)info->kv_bytes / (1 << 20), info->mode);
	tt_engine_close(engine);
	return 0;
}
