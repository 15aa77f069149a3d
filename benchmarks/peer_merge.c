/* What splitbtf merge is measured against: libbpf adding BTF after BTF to an empty one, then dedup.
 *
 *     gcc -O2 -o peer_merge peer_merge.c -lbpf -lelf -lz
 *     ./peer_merge OUT FILE...
 */
#include <stdio.h>

#include <bpf/btf.h>
#include <bpf/libbpf.h>

int main(int argc, char **argv)
{
	struct btf *whole = btf__new_empty();
	const void *content;
	unsigned int size;
	FILE *out;
	int i;

	if (argc < 3) {
		fprintf(stderr, "usage: %s OUT FILE...\n", argv[0]);
		return 2;
	}
	libbpf_set_print(NULL);
	for (i = 2; i < argc; i++) {
		struct btf *one = btf__parse_raw(argv[i]);

		if (libbpf_get_error(one) || btf__add_btf(whole, one) < 0) {
			fprintf(stderr, "%s: cannot be added\n", argv[i]);
			return 3;
		}
		btf__free(one);
	}
	if (btf__dedup(whole, NULL)) {
		fprintf(stderr, "dedup failed\n");
		return 3;
	}
	content = btf__raw_data(whole, &size);
	out = fopen(argv[1], "wb");
	if (!out || fwrite(content, 1, size, out) != size || fclose(out)) {
		fprintf(stderr, "%s: cannot be written\n", argv[1]);
		return 3;
	}
	return 0;
}
