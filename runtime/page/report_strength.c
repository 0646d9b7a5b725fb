/* Where the arms are one policy at several scales: what is refused at each, as curves. */
#include "runtime/page/report_strength.h"

#include <string.h>

#include "base/json.h"
#include "runtime/page/report_figures.h"

enum { WIDTH = 600, HEIGHT = 160, LEFT = 44, RIGHT = 12, TOP = 8, BOTTOM = 26, MAX_POINTS = 33 };

/* A scale, and its labels' figures: the arm's, at 0 those of the model alone. */
struct point {
	double scale;
	const json_t *figures;
	const char *side;
};

/* The points in order of their scales; 0 if the arms are anything else than one policy at two scales or more. */
static size_t points_of(struct point points[MAX_POINTS], const struct tt_page_report *report)
{
	const json_t *arms = json_object_get(report->eval, "arms");
	size_t n = 0;
	if (json_array_size(arms) != report->n_arms || report->n_arms < 2 || report->n_arms >= MAX_POINTS)
		return 0;
	points[n++] = (struct point){0, report->eval, "unsteered"};
	for (size_t arm = 0; arm < report->n_arms; arm++) {
		const struct tt_steering *steering = report->arms[arm].steering;
		if (report->arms[arm].n_steering != 1 || steering[0].policy != report->arms[0].steering[0].policy)
			return 0;
		double scale = (double)steering[0].scale;
		size_t at = n;
		while (at > 0 && points[at - 1].scale > scale)
			at--;
		if (at > 0 && points[at - 1].scale == scale)
			continue;
		memmove(points + at + 1, points + at, (n - at) * sizeof *points);
		points[at] = (struct point){scale, json_array_get(arms, arm), "steered"};
		n++;
	}
	return n > 2 ? n : 0;
}

/* The share of the label's prompts that are refused; negative where there are none. */
static double refused(const struct point *point, const char *label)
{
	size_t i;
	json_t *row;
	json_array_foreach(json_object_get(point->figures, "labels"), i, row)
	{
		if (strcmp(tt_json_string_or(row, "label", ""), label) == 0)
			return tt_json_number_or(row, "refused", point->side, -1);
	}
	return -1;
}

static double x_of(const struct point *points, size_t n, double scale)
{
	double from = points[0].scale, to = points[n - 1].scale;
	return LEFT + (WIDTH - LEFT - RIGHT) * (scale - from) / (to - from);
}

static double y_of(double share)
{
	return TOP + (HEIGHT - TOP - BOTTOM) * (1 - share);
}

static void write_curve(FILE *to, const struct point *points, size_t n, const char *label)
{
	fprintf(to, "<g class=%s><polyline points=\"", label);
	for (size_t i = 0; i < n; i++)
		fprintf(to, "%.1f,%.1f ", x_of(points, n, points[i].scale), y_of(refused(&points[i], label)));
	fputs("\"/>", to);
	for (size_t i = 0; i < n; i++)
		fprintf(to, "<circle cx=%.1f cy=%.1f r=3 />", x_of(points, n, points[i].scale),
			y_of(refused(&points[i], label)));
	fputs("</g>\n", to);
}

static void write_axes(FILE *to, const struct point *points, size_t n)
{
	for (int percent = 0; percent <= 100; percent += 50)
		fprintf(to, "<line x1=%d x2=%d y1=%.1f y2=%.1f /><text x=%d y=%.1f text-anchor=end>%d%%</text>", LEFT,
			WIDTH - RIGHT, y_of(percent / 100.0), y_of(percent / 100.0), LEFT - 6,
			y_of(percent / 100.0) + 4, percent);
	for (size_t i = 0; i < n; i++)
		fprintf(to, "<text x=%.1f y=%d text-anchor=middle>%g</text>", x_of(points, n, points[i].scale),
			HEIGHT - 8, points[i].scale);
	fputs("\n", to);
}

void tt_page_strength_write(FILE *to, const struct tt_page_report *report)
{
	const char *const *labels = tt_page_labels;
	struct point points[MAX_POINTS];
	size_t n = points_of(points, report);
	if (n == 0)
		return;
	fprintf(to, "<section><h2>By strength</h2>\n<div class=policy><p class=legend>refused:&nbsp;");
	for (size_t k = 0; k < TT_PAGE_LABELS; k++)
		if (refused(&points[0], labels[k]) >= 0)
			fprintf(to, "<span class=\"tag %s\">%s</span>", labels[k], labels[k]);
	fprintf(to, "</p>\n<div class=curve><svg viewBox=\"0 0 %d %d\" aria-hidden=true>\n", WIDTH, HEIGHT);
	write_axes(to, points, n);
	for (size_t k = 0; k < TT_PAGE_LABELS; k++)
		if (refused(&points[0], labels[k]) >= 0)
			write_curve(to, points, n, labels[k]);
	fputs("</svg></div>\n<p class=note>The share of each label's prompts that are refused, by the scale of the "
	      "policy; at 0 the model alone. The numbers stand in the table of arms.</p></div></section>\n",
		to);
}
