/* The curves of what is refused by strength. */
#ifndef PAGE_REPORT_STRENGTH_H
#define PAGE_REPORT_STRENGTH_H

#include <stdio.h>

#include "runtime/page/report.h"

/* Nothing where the arms are anything else than one policy at two scales or more. */
void tt_page_strength_write(FILE *to, const struct tt_page_report *report);

#endif
