/* Finds the PTX of a kernel: its symbol, by its address, in the program's own symbol table; then the entry of that name
 * in one of the files of a folder. */
#define _GNU_SOURCE /* dl_iterate_phdr, memmem */
#include <elf.h>
#include <fcntl.h>
#include <glob.h>
#include <link.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kernels/emu/ptx/code.h"
#include "kernels/emu/ptx/ptx.h"

#ifndef TT_PTX_FOLDER
#define TT_PTX_FOLDER ""
#endif

struct bytes {
	const char *at;
	size_t n;
};

struct file {
	char *name;
	struct bytes text;
};
static struct file *files; // [n_files]
static size_t n_files, file_capacity;

static struct known {
	const void *address;
	struct ptx_code *code;
} * known; // [n_known]
static size_t n_known, known_capacity;

static struct bytes map(const char *path)
{
	struct stat status;
	struct bytes out = {NULL, 0};
	int file = open(path, O_RDONLY);
	if (file < 0)
		return out;
	if (!fstat(file, &status) && status.st_size > 0) {
		void *p = mmap(NULL, (size_t)status.st_size, PROT_READ, MAP_PRIVATE, file, 0);
		if (p != MAP_FAILED)
			out = (struct bytes){p, (size_t)status.st_size};
	}
	close(file);
	return out;
}

/* -- The symbol -- */

static int program_base(struct dl_phdr_info *info, size_t size, void *out)
{
	(void)size;
	*(uintptr_t *)out = info->dlpi_addr;
	return 1; /* the program comes first */
}

/* nvcc leaves out the L of a function that is the file's own: _ZL3sumPf is its _Z3sumPf. */
static void symbol_of(const char *name, char out[PTX_ANY_LENGTH])
{
	bool own = !strncmp(name, "_ZL", 3);
	snprintf(out, PTX_ANY_LENGTH, "%s%s", own ? "_Z" : "", own ? name + 3 : name);
}

static bool find_symbol(const void *address, char out[PTX_ANY_LENGTH])
{
	struct bytes program = map("/proc/self/exe");
	uintptr_t base = 0;
	bool found = false;
	dl_iterate_phdr(program_base, &base);
	const ElfW(Ehdr) *header = (const void *)program.at;
	if (!program.at || program.n < sizeof *header || memcmp(header->e_ident, ELFMAG, SELFMAG) ||
		header->e_shoff > program.n || (program.n - header->e_shoff) / sizeof(ElfW(Shdr)) < header->e_shnum)
		return false;
	const ElfW(Shdr) *sections = (const void *)(program.at + header->e_shoff);
	for (unsigned s = 0; s < header->e_shnum && !found; s++) {
		const ElfW(Shdr) *table = &sections[s];
		if (table->sh_type != SHT_SYMTAB || table->sh_link >= header->e_shnum)
			continue;
		const char *names = program.at + sections[table->sh_link].sh_offset;
		const ElfW(Sym) *symbols = (const void *)(program.at + table->sh_offset);
		for (size_t i = 0; i < table->sh_size / sizeof *symbols && !found; i++) {
			found = base + symbols[i].st_value == (uintptr_t)address &&
				(symbols[i].st_info & 15) == STT_FUNC;
			if (found)
				symbol_of(names + symbols[i].st_name, out);
		}
	}
	munmap((void *)(uintptr_t)program.at, program.n);
	return found;
}

/* -- The text -- */

static const char *mode(void)
{
	const char *value = getenv("TT_EMU");
	return value ? value : "";
}

bool ptx_dependent(void)
{
	return strcmp(mode(), "ptx80") != 0;
}

static bool open_files(void)
{
	char pattern[4096];
	const char *folder = getenv("TT_EMU_PTX");
	glob_t found;
	if (n_files)
		return true;
	if (folder)
		snprintf(pattern, sizeof pattern, "%s/*.ptx", folder);
	else
		snprintf(pattern, sizeof pattern, "%s/%s/*.ptx", TT_PTX_FOLDER,
			ptx_dependent() ? "compute_90a" : "compute_80");
	if (glob(pattern, 0, NULL, &found)) {
		emu_fail(NULL, "there is no %s: was the build made with nvcc?", pattern);
		return false;
	}
	for (size_t i = 0; i < found.gl_pathc; i++) {
		const char *slash = strrchr(found.gl_pathv[i], '/');
		struct file file = {strdup(slash ? slash + 1 : found.gl_pathv[i]), map(found.gl_pathv[i])};
		if (!file.name || !file.text.at)
			continue;
		emu_grow(&files, &file_capacity, n_files + 1, sizeof *files);
		files[n_files++] = file;
	}
	globfree(&found);
	return true;
}

static const char *find_entry(const struct file *file, const char *symbol)
{
	char line[PTX_ANY_LENGTH + 16];
	int n = snprintf(line, sizeof line, ".entry %s(", symbol);
	return memmem(file->text.at, file->text.n, line, (size_t)n);
}

static struct ptx_text text_of(const struct file *file, const char *entry)
{
	const char *first = memmem(file->text.at, file->text.n, ".entry ", 7);
	struct ptx_text text = {file->name, file->text.at, first, entry, file->text.at + file->text.n, 1};
	while (text.header_end > file->text.at && text.header_end[-1] != '\n')
		text.header_end--; /* .visible and the like stand before it */
	for (const char *c = file->text.at; c < entry; c++)
		text.line += *c == '\n';
	return text;
}

static bool fits(const struct ptx_code *code, const struct kernel *kernel)
{
	bool same = code->n_parameters == kernel->n_args;
	for (size_t i = 0; same && i < kernel->n_args; i++)
		same = code->parameters[2 * i + 1] == kernel->sizes[i];
	return same;
}

static struct ptx_code *parse(const struct kernel *kernel)
{
	static const struct ptx_row *tables[] = {NULL, ptx_rows_memory, ptx_rows_warp, ptx_rows_flow, NULL};
	char symbol[PTX_ANY_LENGTH], message[2 * PTX_ANY_LENGTH] = "";
	const char *entry = NULL;
	struct ptx_code *code = NULL;
	tables[0] = ptx_rows_arithmetic;
#ifdef __x86_64__
	if (ptx_rows_avx2->name && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
		tables[0] = ptx_rows_avx2;
#endif
	if (!find_symbol(kernel->address, symbol)) {
		emu_fail(NULL, "%s: the program has no symbol at its address", kernel->name);
		return NULL;
	}
	for (size_t i = 0; i < n_files && !entry; i++) {
		struct ptx_text text;
		if (!(entry = find_entry(&files[i], symbol)))
			continue;
		text = text_of(&files[i], entry);
		if (!(code = ptx_parse(&text, tables, message)))
			emu_fail(NULL, "%s", message);
		else
			code->entry = strdup(symbol);
	}
	if (!entry)
		emu_fail(NULL, "%s: no file of PTX has an entry %s", kernel->name, symbol);
	if (code && !fits(code, kernel)) {
		emu_fail(NULL, "%s: %s has other parameters than the launched function", kernel->name, symbol);
		ptx_free(code);
		return NULL;
	}
	return code;
}

bool ptx_chosen(void)
{
	return *mode() && strcmp(mode(), "c") != 0;
}

bool ptx_find(const struct kernel *kernel, struct ptx_code **out)
{
	*out = NULL;
	if (!ptx_chosen() || !strncmp(kernel->name, "cublas", 6)) /* the emulator's own */
		return true;
	if (strcmp(mode(), "ptx") && strcmp(mode(), "ptx80")) {
		emu_fail(NULL, "TT_EMU is %s: known are c, ptx and ptx80", mode());
		return false;
	}
	for (size_t i = 0; i < n_known; i++)
		if (known[i].address == kernel->address)
			return (*out = known[i].code) != NULL;
	if (open_files())
		*out = parse(kernel);
	if (!*out)
		return false;
	emu_grow(&known, &known_capacity, n_known + 1, sizeof *known);
	known[n_known++] = (struct known){kernel->address, *out};
	return true;
}

void ptx_launch_end(struct ptx_code *code)
{
	const char *path = getenv("TT_EMU_PTX_LOG");
	char line[PTX_ANY_LENGTH + 64];
	if (!path)
		return;
	int n = snprintf(
		line, sizeof line, "%s %s %llu\n", code->file, code->entry, (unsigned long long)code->executed);
	int file = open(path, O_WRONLY | O_CREAT | O_APPEND, 0666);
	if (file < 0 || write(file, line, (size_t)n) != n)
		perror(path);
	if (file >= 0)
		close(file);
}
