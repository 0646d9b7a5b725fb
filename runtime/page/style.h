/* What the pages look like: runtime/page/style.css. */
#ifndef PAGE_STYLE_H
#define PAGE_STYLE_H

#include "base/embedded.h"

extern const struct tt_file tt_file_style_css;

#endif
