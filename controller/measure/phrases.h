/* The phrases of arXiv 2505.20309: its authors count refusals by the first list, and take the direction that they push
 * along from the tokens of both. */
#ifndef CONTROLLER_MEASURE_PHRASES_H
#define CONTROLLER_MEASURE_PHRASES_H

enum { TT_N_REFUSAL_PHRASES = 13, TT_N_ANSWER_PHRASES = 11 };

extern const char *const tt_refusal_phrases[TT_N_REFUSAL_PHRASES];
extern const char *const tt_answer_phrases[TT_N_ANSWER_PHRASES];

#endif
