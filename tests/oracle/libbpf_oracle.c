/*
 * Asks libbpf what dedup gives, for the differential tests. Compiled on demand by
 * tests/oracle_libbpf.py; needs nothing newer than libbpf 1.0.
 *
 *   libbpf_oracle plain   OUT FILE          dedup one standalone BTF
 *   libbpf_oracle merge   OUT FILE...       add each to an empty BTF, dedup
 *   libbpf_oracle split   OUT BASE MODULE   add the module to an empty split BTF on the base, dedup
 *   libbpf_oracle resplit OUT BASE SPLIT    dedup a split BTF read from a file
 *
 * Exit status: 0 OUT holds the result, 1 libbpf refused (the step and the error are on stderr),
 * 2 wrong usage or OUT cannot be written. Memory is left to the end of the process.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef LIBBPF_SOURCE_TREE
#include "btf.h"
#include "libbpf.h"
#else
#include <bpf/btf.h>
#include <bpf/libbpf.h>
#endif

enum { DONE = 0, REFUSED = 1, UNUSABLE = 2 };

static int no_chatter(enum libbpf_print_level level, const char *format, va_list args)
{
	(void)level, (void)format, (void)args;
	return 0;
}

/* Ends the process with libbpf's reason; `result` is what the call returned, 0 if it was a NULL. */
static void refused(const char *step, const char *path, int result)
{
	int code = result ? -result : errno;

	fprintf(stderr, "%s %s: %s\n", step, path, strerror(code));
	exit(REFUSED);
}

static struct btf *open_btf(const char *path, struct btf *base)
{
	struct btf *btf = base ? btf__parse_split(path, base) : btf__parse(path, NULL);

	if (!btf)
		refused("parse", path, 0);
	return btf;
}

static void append(struct btf *to, const char *path)
{
	int first = btf__add_btf(to, open_btf(path, NULL));

	if (first < 0)
		refused("add", path, first);
}

static struct btf *empty(struct btf *base)
{
	struct btf *btf = base ? btf__new_empty_split(base) : btf__new_empty();

	if (!btf)
		refused("new", "empty", 0);
	return btf;
}

static int save(struct btf *btf, const char *path)
{
	__u32 size = 0;
	const void *bytes = btf__raw_data(btf, &size);
	FILE *file;
	size_t written;

	if (!bytes)
		refused("encode", path, 0);
	file = fopen(path, "wb");
	if (!file)
		return UNUSABLE;
	written = fwrite(bytes, 1, size, file);
	return fclose(file) == 0 && written == size ? DONE : UNUSABLE;
}

int main(int argc, char **argv)
{
	const char *mode = argc > 3 ? argv[1] : "";
	struct btf *btf = NULL;
	int i, result;

	libbpf_set_print(no_chatter);
	if (strcmp(mode, "plain") == 0 && argc == 4) {
		btf = open_btf(argv[3], NULL);
	} else if (strcmp(mode, "merge") == 0) {
		btf = empty(NULL);
		for (i = 3; i < argc; i++)
			append(btf, argv[i]);
	} else if (strcmp(mode, "split") == 0 && argc == 5) {
		btf = empty(open_btf(argv[3], NULL));
		append(btf, argv[4]);
	} else if (strcmp(mode, "resplit") == 0 && argc == 5) {
		btf = open_btf(argv[4], open_btf(argv[3], NULL));
	}
	if (!btf) {
		fprintf(stderr, "usage: %s plain|merge|split|resplit OUT FILE...\n", argv[0]);
		return UNUSABLE;
	}
	result = btf__dedup(btf, NULL);
	if (result)
		refused("dedup", mode, result);
	return save(btf, argv[2]);
}
