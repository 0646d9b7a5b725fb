/* String functions that filters and methods share. Private to the interpreter. */
#ifndef RUNTIME_TEXT_JINJA_STRINGS_H
#define RUNTIME_TEXT_JINJA_STRINGS_H

#include "runtime/text/jinja/run.h"

/* JJ_WORDS is the rule of the title filter, JJ_TITLE that of the title method. */
enum jj_case { JJ_UPPER, JJ_LOWER, JJ_CAPITAL, JJ_TITLE, JJ_WORDS, JJ_SWAP };

/* chars: a string of characters to strip; none or missing for white space. */
int tt_jj_strip(struct jj_run *run, const struct jj_string *s, struct jj_value chars, bool left, bool right,
	struct jj_value *out);
int tt_jj_change_case(struct jj_run *run, const struct jj_string *s, enum jj_case how, struct jj_value *out);
/* count below 0: all occurrences. */
int tt_jj_replace(struct jj_run *run, const struct jj_string *s, const struct jj_string *old,
	const struct jj_string *fresh, int64_t count, struct jj_value *out);
/* The end of the line that starts at from; *next is where the following one starts. */
size_t tt_jj_line_end(const struct jj_string *s, size_t from, size_t *next);
bool tt_jj_all_cased(const struct jj_string *s, bool want_upper);
/* str.format */
int tt_jj_format(struct jj_run *run, struct jj_value self, const struct jj_args *args, struct jj_value *out);

#endif
