/* A table whose columns are as wide as their widest cell. */
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"

void cli_table_begin(struct cli_table *table, const char *align)
{
	*table = (struct cli_table){.n_columns = strlen(align), .align = align};
}

void cli_table_cell(struct cli_table *table, const char *format, ...)
{
	cli_grow(&table->cells, &table->capacity, table->n_cells + 1, sizeof *table->cells);
	char text[512], *cell = NULL;
	size_t n;
	va_list arguments;
	va_start(arguments, format);
	vsnprintf(text, sizeof text, format, arguments);
	va_end(arguments);
	FILE *file = cli_memory_file(&cell, &n);
	cli_write_line(file, text, strlen(text));
	fclose(file);
	table->cells[table->n_cells++] = cell;
}

void cli_table_interval(struct cli_table *table, const json_t *interval)
{
	if (json_array_size(interval) == 2)
		cli_table_cell(table, "[%.0f,%.0f]", 100 * json_number_value(json_array_get(interval, 0)),
			100 * json_number_value(json_array_get(interval, 1)));
	else
		cli_table_cell(table, "-");
}

void cli_table_share(struct cli_table *table, const json_t *share)
{
	if (json_is_number(share))
		cli_table_cell(table, "%.1f%%", 100 * json_number_value(share));
	else
		cli_table_cell(table, "-");
}

void cli_table_print(struct cli_table *table, FILE *to)
{
	size_t *widths = cli_alloc(table->n_columns, sizeof *widths);
	for (size_t i = 0; i < table->n_cells; i++) {
		size_t width = cli_text_width(table->cells[i]);
		if (width > widths[i % table->n_columns])
			widths[i % table->n_columns] = width;
	}
	for (size_t i = 0; i < table->n_cells; i++) {
		size_t column = i % table->n_columns;
		int padding = (int)(widths[column] - cli_text_width(table->cells[i]));
		bool last = column + 1 == table->n_columns;
		if (table->align[column] == 'r')
			fprintf(to, "%*s%s", padding, "", table->cells[i]);
		else
			fprintf(to, "%s%*s", table->cells[i], last ? 0 : padding, "");
		fputs(last ? "\n" : "  ", to);
		if (i + 1 != table->n_columns)
			continue;
		for (size_t k = 0; k < table->n_columns; k++) {
			for (size_t w = 0; w < widths[k]; w++)
				fputc('-', to);
			fputs(k + 1 == table->n_columns ? "\n" : "  ", to);
		}
	}
	for (size_t i = 0; i < table->n_cells; i++)
		free(table->cells[i]);
	free(table->cells);
	free(widths);
	*table = (struct cli_table){0};
}
