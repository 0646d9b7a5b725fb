/* trimtab import and export: control vectors to policies and back. */
#include "cli.h"

static const char import_about[] =
	"Makes a policy file of a control vector, a GGUF file as llama.cpp's cvector-generator and repeng write it. "
	"The\n"
	"policy adds direction.N to the output of layer N, counted from 0, at every token, without a gate. A control\n"
	"vector does not say for which model it is, and a policy does: --model is the one. (--policy of the other\n"
	"commands takes control vectors as they are.)";

static const char import_examples[] =
	"  trimtab import happy.gguf --model model.gguf -o happy.safetensors\n"
	"  trimtab import happy.gguf --model model.gguf --layers 10-20 -o middle.safetensors";

static const char export_about[] =
	"Makes a control vector of a policy, for llama.cpp (--control-vector), repeng and others. Each direction is\n"
	"multiplied by its layer's weight and the policy's alpha. Policies that say more than a control vector can, "
	"with a\n"
	"gate, an operation other than add, a norm that is kept, tokens that they leave alone or a direction for layer "
	"0,\n"
	"are refused.";

static const char export_examples[] = "  trimtab export calm.safetensors -o calm.gguf\n"
				      "  trimtab export calm.safetensors --layers 8-16 -o calm.gguf";

struct conversion {
	const char *output, *layers;
	struct tt_policy *policy;
};

static int check_files(const char *input, const char *model, const struct conversion *c, const char *command)
{
	struct cli_files files = {0};
	cli_reads(&files, input, "the input");
	cli_reads(&files, model, "the model");
	cli_writes(&files, c->output, "the output");
	int status = cli_check_files(&files, command);
	return status == CLI_PROCEED ? cli_check_output(c->output) : status;
}

static int load(struct conversion *c, const char *path)
{
	struct tt_error err = {0};
	if (tt_policy_load(&c->policy, path, &err) != TT_OK)
		return cli_fail(&err);
	if (c->layers && tt_policy_keep_layers(c->policy, c->layers, &err) != TT_OK)
		return cli_failf("--%s", err.message);
	return CLI_PROCEED;
}

static int import(const struct conversion *c, const char *model, const struct cli_engine_args *engine_args)
{
	struct tt_error err = {0};
	struct tt_engine *engine = NULL;
	const char *warning = NULL;
	int status = cli_engine_open(&engine, model, engine_args, 1);
	if (status != CLI_PROCEED)
		return status;
	status = CLI_OK;
	if (tt_engine_add_policy(engine, c->policy, &warning, &err) != TT_OK ||
		tt_policy_save(c->policy, c->output, &err) != TT_OK)
		status = cli_fail(&err);
	else if (warning)
		cli_warn("%s", warning);
	tt_engine_remove_policy(engine, c->policy, NULL);
	tt_engine_close(engine);
	return status;
}

int cli_import(int argc, char **argv)
{
	struct conversion c = {0};
	struct cli_engine_args engine_args = {.device = "cpu", .context = 16};
	struct cli_list positional = {0};
	const char *model = NULL;
	const struct cli_option options[] = {
		{"model", 'm', NULL, CLI_STRING, &model, "MODEL", 0, 0,
			"the model that the policy will be for (required)"},
		{"output", 'o', NULL, CLI_STRING, &c.output, "F.safetensors", 0, 0, "policy file to write (required)"},
		CLI_LAYERS_OPTION(c.layers),
	};
	const struct cli_usage usage = {"import", "FILE.gguf --model MODEL -o F.safetensors [OPTION]...", import_about,
		import_examples, options, CLI_N_OPTIONS(options), 1, 1};
	int status = cli_parse(&usage, argc, argv, &positional);
	if (status != CLI_PROCEED)
		return status;
	if (!model || !c.output)
		return cli_usage_error("import", "--%s is missing", model ? "output" : "model");
	status = check_files(positional.items[0], model, &c, "import");
	if (status == CLI_PROCEED)
		status = load(&c, positional.items[0]);
	if (status == CLI_PROCEED)
		status = import(&c, model, &engine_args);
	tt_policy_free(c.policy);
	return status;
}

int cli_export(int argc, char **argv)
{
	struct conversion c = {0};
	struct tt_error err = {0};
	struct cli_list positional = {0};
	const struct cli_option options[] = {
		{"output", 'o', NULL, CLI_STRING, &c.output, "F.gguf", 0, 0, "control vector to write (required)"},
		CLI_LAYERS_OPTION(c.layers),
	};
	const struct cli_usage usage = {"export", "POLICY -o F.gguf [OPTION]...", export_about, export_examples,
		options, CLI_N_OPTIONS(options), 1, 1};
	int status = cli_parse(&usage, argc, argv, &positional);
	if (status != CLI_PROCEED)
		return status;
	if (!c.output)
		return cli_usage_error("export", "--output is missing");
	status = check_files(positional.items[0], NULL, &c, "export");
	if (status == CLI_PROCEED)
		status = load(&c, positional.items[0]);
	if (status == CLI_PROCEED)
		status = tt_policy_export(c.policy, c.output, &err) == TT_OK ? CLI_OK : cli_fail(&err);
	tt_policy_free(c.policy);
	return status;
}
