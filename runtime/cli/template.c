/* trimtab template: prints the prompt that a chat template makes from messages. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli.h"

static const char about[] = "Renders messages, a JSON list of {\"role\": ..., \"content\": ...}, with the chat "
			    "template of a model or of a .jinja\n"
			    "file, and prints the prompt as it is, with no newline after it. An object {\"messages\": "
			    "[...], \"tools\": [...],\n"
			    "\"documents\": [...]} in place of the list hands those to the template too.";

static const char examples[] =
	"  trimtab template model.gguf --messages chat.json\n"
	"  echo '[{\"role\": \"user\", \"content\": \"Hi\"}]' | trimtab template chat.jinja --messages - --bos '<s>'";

/* Days from 1970-01-01 to a Gregorian date. Years begin in March here, so that the leap day comes last. */
static int64_t days_from_date(int year, int month, int day)
{
	int64_t y = month <= 2 ? year - 1 : year;
	int64_t era = y / 400, year_of_era = y - era * 400;
	int64_t day_of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
	return era * 146097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719468;
}

static int parse_date(const char *text, int64_t *out)
{
	static const int lengths[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
	int year = 0, month = 0, day = 0, used = 0;
	if (strlen(text) != 10 || strspn(text, "0123456789-") != 10 ||
		sscanf(text, "%4d-%2d-%2d%n", &year, &month, &day, &used) != 3 || used != 10)
		return cli_usage_error("template", "--date takes YYYY-MM-DD, not '%s'", text);
	bool leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
	if (year < 1970 || month < 1 || month > 12 || day < 1 || day > lengths[month - 1] + (leap && month == 2))
		return cli_usage_error("template", "--date: there is no %s, or it lies before 1970", text);
	/* Noon, so that no time zone moves the date; 0 would mean the present. */
	*out = days_from_date(year, month, day) * 86400 + 43200;
	return CLI_PROCEED;
}

static int render(const char *model, const char *path, const struct tt_chat_options *chat)
{
	struct tt_error err = {0};
	struct tt_text *text = NULL;
	char *messages = NULL, *prompt = NULL;
	size_t n = 0;
	int status = cli_read_file(&messages, &n, path);
	if (status != CLI_PROCEED)
		return status;
	if (memchr(messages, 0, n))
		status = cli_failf("%s: holds a zero byte", path);
	else if (tt_text_open(&text, model, &err) != TT_OK)
		status = cli_fail(&err);
	else if (!tt_text_has_template(text))
		status = cli_failf("%s: has no chat template", model);
	else if (tt_text_render(text, messages, chat, &prompt, &err) != TT_OK)
		status = cli_fail(&err);
	else {
		bool terminal = isatty(STDOUT_FILENO);
		cli_write_text(stdout, terminal, prompt, strlen(prompt));
		if (terminal)
			putchar('\n');
		status = CLI_OK;
	}
	tt_free(prompt);
	tt_text_close(text);
	free(messages);
	return status;
}

int cli_template(int argc, char **argv)
{
	struct tt_chat_options chat = {.size = sizeof chat};
	const char *messages = NULL, *date = NULL;
	struct cli_list positional = {0};
	const struct cli_option options[] = {
		{"messages", 'm', NULL, CLI_STRING, &messages, "F.json", 0, 0,
			"the messages; - for standard input (required)"},
		{"no-generation-prompt", 0, NULL, CLI_FLAG, &chat.no_generation_prompt, NULL, 0, 0,
			"leave out what opens the model's answer"},
		{"bos", 0, NULL, CLI_STRING, &chat.bos, "S", 0, 0, "bos_token, instead of the model's"},
		{"eos", 0, NULL, CLI_STRING, &chat.eos, "S", 0, 0, "eos_token, instead of the model's"},
		{"date", 0, NULL, CLI_STRING, &date, "YYYY-MM-DD", 0, 0,
			"the day that a template with a date sees, instead of today"},
	};
	const struct cli_usage usage = {"template", "FILE.jinja|MODEL --messages F.json [OPTION]...", about, examples,
		options, CLI_N_OPTIONS(options), 1, 1};
	int status = cli_parse(&usage, argc, argv, &positional);
	if (status != CLI_PROCEED)
		return status;
	if (!messages)
		return cli_usage_error("template", "--messages is missing");
	if (date && (status = parse_date(date, &chat.now)) != CLI_PROCEED)
		return status;
	return render(positional.items[0], messages, &chat);
}
