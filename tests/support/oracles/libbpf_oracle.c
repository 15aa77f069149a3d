/*
 * Asks libbpf what dedup, distilling and relocating give, for the differential tests. Compiled on
 * demand by oracle_libbpf.py; needs libbpf 1.0, for distill and relocate 1.5.
 *
 *   libbpf_oracle plain   OUT FILE          dedup one standalone BTF
 *   libbpf_oracle merge   OUT FILE...       add each to an empty BTF, dedup
 *   libbpf_oracle split   OUT BASE MODULE   add the module to an empty split BTF on the base, dedup
 *   libbpf_oracle resplit OUT BASE SPLIT    dedup a split BTF read from a file
 *   libbpf_oracle ext     OUT FILE EXT      dedup one standalone BTF and its .BTF.ext, which goes
 *                                           to OUT.more
 *   libbpf_oracle chain   OUT FILE...       each file continues the one before it; OUT has a line for
 *                                           every type of all of them: what libbpf says of it
 *   libbpf_oracle distill OUT BASE SPLIT    the split BTF on a distilled base; that goes to OUT.more
 *   libbpf_oracle relocate OUT BASE DISTILLED SPLIT
 *                                           the split BTF on the distilled base, put on the base
 *
 * Exit status: 0 OUT holds the result, 1 libbpf refused (the step and the error are on stderr),
 * 2 wrong usage or OUT cannot be written, 3 this libbpf is too old. Memory is left to the end of
 * the process.
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

enum { DONE = 0, REFUSED = 1, UNUSABLE = 2, TOO_OLD = 3 };

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

static int write_file(const char *path, const char *suffix, const void *bytes, __u32 size)
{
	char name[4096];
	size_t written;
	FILE *file;

	if (!bytes)
		refused("encode", path, 0);
	snprintf(name, sizeof(name), "%s%s", path, suffix);
	file = fopen(name, "wb");
	if (!file)
		return UNUSABLE;
	written = fwrite(bytes, 1, size, file);
	return fclose(file) == 0 && written == size ? DONE : UNUSABLE;
}

static int save(struct btf *btf, const char *path, const char *suffix)
{
	__u32 size = 0;
	const void *bytes = btf__raw_data(btf, &size);

	return write_file(path, suffix, bytes, size);
}

static int dedup_with_ext(const char *out, const char *path, const char *ext_path)
{
	static char bytes[1 << 24];
	struct btf *btf = open_btf(path, NULL);
	FILE *file = fopen(ext_path, "rb");
	LIBBPF_OPTS(btf_dedup_opts, options);
	const void *result;
	__u32 size;
	int code;

	if (!file)
		return UNUSABLE;
	size = fread(bytes, 1, sizeof(bytes), file);
	fclose(file);
	options.btf_ext = btf_ext__new((const void *)bytes, size);
	if (!options.btf_ext)
		refused("parse", ext_path, 0);
	code = btf__dedup(btf, &options);
	if (code)
		refused("dedup", path, code);
	result = btf_ext__get_raw_data(options.btf_ext, &size);
	code = write_file(out, ".more", result, size);
	return code ? code : save(btf, out, "");
}

#if LIBBPF_MAJOR_VERSION > 1 || (LIBBPF_MAJOR_VERSION == 1 && LIBBPF_MINOR_VERSION >= 5)
static int distill(const char *out, const char *base_path, const char *split_path)
{
	struct btf *split = open_btf(split_path, open_btf(base_path, NULL));
	struct btf *distilled, *result;
	int code = btf__distill_base(split, &distilled, &result);

	if (code)
		refused("distill", split_path, code);
	code = save(distilled, out, ".more");
	return code ? code : save(result, out, "");
}

static int relocate(const char *out, const char *base, const char *distilled, const char *split)
{
	struct btf *btf = open_btf(split, open_btf(distilled, NULL));
	int code = btf__relocate(btf, open_btf(base, NULL));

	if (code)
		refused("relocate", split, code);
	return save(btf, out, "");
}
#else
static int distill(const char *out, const char *base_path, const char *split_path)
{
	(void)out, (void)base_path, (void)split_path;
	return TOO_OLD;
}

static int relocate(const char *out, const char *base, const char *distilled, const char *split)
{
	(void)out, (void)base, (void)distilled, (void)split;
	return TOO_OLD;
}
#endif

/* `id kind size name`, then a space and its name for each member, enumerator or parameter. */
static int describe_chain(const char *out, char **files, int count)
{
	struct btf *btf = NULL;
	__u32 id, i, end;
	FILE *file;

	for (; count > 0; count--, files++)
		btf = open_btf(*files, btf);
	file = fopen(out, "w");
	if (!file)
		return UNUSABLE;
	end = btf__type_cnt(btf);
	for (id = 1; id < end; id++) {
		const struct btf_type *t = btf__type_by_id(btf, id);
		const char *name = t ? btf__name_by_offset(btf, t->name_off) : NULL;

		if (!name)
			refused("read", "type", -EINVAL);
		fprintf(file, "%u %u %lld %s", id, btf_kind(t),
			(long long)btf__resolve_size(btf, id), name);
		for (i = 0; i < btf_vlen(t); i++) {
			__u32 off;

			if (btf_is_composite(t))
				off = btf_members(t)[i].name_off;
			else if (btf_is_enum(t))
				off = btf_enum(t)[i].name_off;
			else if (btf_is_enum64(t))
				off = btf_enum64(t)[i].name_off;
			else if (btf_is_func_proto(t))
				off = btf_params(t)[i].name_off;
			else
				break;
			name = btf__name_by_offset(btf, off);
			if (!name)
				refused("read", "member", -EINVAL);
			fprintf(file, " %s", name);
		}
		fputc('\n', file);
	}
	return fclose(file) == 0 ? DONE : UNUSABLE;
}

int main(int argc, char **argv)
{
	const char *mode = argc > 3 ? argv[1] : "";
	struct btf *btf = NULL;
	int i, result;

	libbpf_set_print(no_chatter);
	if (strcmp(mode, "chain") == 0)
		return describe_chain(argv[2], argv + 3, argc - 3);
	if (strcmp(mode, "ext") == 0 && argc == 5)
		return dedup_with_ext(argv[2], argv[3], argv[4]);
	if (strcmp(mode, "distill") == 0 && argc == 5)
		return distill(argv[2], argv[3], argv[4]);
	if (strcmp(mode, "relocate") == 0 && argc == 6)
		return relocate(argv[2], argv[3], argv[4], argv[5]);
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
		fprintf(stderr, "usage: %s MODE OUT FILE...\n", argv[0]);
		return UNUSABLE;
	}
	result = btf__dedup(btf, NULL);
	if (result)
		refused("dedup", mode, result);
	return save(btf, argv[2], "");
}
