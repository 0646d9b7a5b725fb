/* Options of commands that generate: what a step may hold, what ends an answer, what it is kept from repeating. */
#ifndef CLI_ANSWER_OPTIONS_H
#define CLI_ANSWER_OPTIONS_H

#include "options.h"

/* Stop strings (a list) and penalties of a request. */
#define CLI_ANSWER_OPTIONS(stops, r)                                                                                   \
	{"stop", 0, "reverse-prompt", CLI_LIST, &(stops), "TEXT", 0, 0, "end before this text; may be repeated"},      \
		{"repetition-penalty", 0, "repeat-penalty", CLI_FLOAT, &(r)->repetition_penalty, "P", 0.01, 100,       \
			"makes tokens of prompt and answer less likely; 1: off"},                                      \
		{"presence-penalty", 0, NULL, CLI_FLOAT, &(r)->presence_penalty, "P", -2, 2,                           \
			"taken from the logits of tokens that were generated; 0: off"},                                \
	{                                                                                                              \
		"frequency-penalty", 0, NULL, CLI_FLOAT, &(r)->frequency_penalty, "P", -2, 2,                          \
			"the same, times how often they were; 0: off"                                                  \
	}

/* What a step may hold, for commands whose requests come in numbers. No -b: llama.cpp's is tokens, not requests. */
#define CLI_BATCH_OPTIONS(max_batch, a, help)                                                                          \
	{"max-batch", 0, "max-num-seqs", CLI_U32, &(max_batch), "N", 1, 4096, help},                                   \
	{                                                                                                              \
		"max-step-tokens", 0, "max-num-batched-tokens", CLI_U32, &(a).max_step_tokens, "N", 0, 1 << 16,        \
			"tokens of a step, prompts and generation together, --max-batch at least; 0: 512, on a GPU "   \
			"2048"                                                                                         \
	}

#endif
