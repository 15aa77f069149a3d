/* What splitbtf is measured against: libbpf, one core, one base, many modules one after the other.
 *
 *     gcc -O2 -o peer peer.c -lbpf -lelf -lz
 *     ./peer BASE MODULE...
 *
 * All inputs are raw BTF; modules are standalone. The base is read once, before the clock starts
 * that total_s is taken from; each module is read, put on the base as split BTF, deduplicated and
 * serialized, and the result is dropped. Prints one line of JSON.
 */
#include <stdbool.h>
#include <stdio.h>
#include <time.h>

#include <bpf/btf.h>
#include <bpf/libbpf.h>

struct totals {
	unsigned long modules, failed, bytes_in, bytes_out, types_in, types_out;
	double read_s, dedup_s;
};

static double seconds(void)
{
	struct timespec at;

	clock_gettime(CLOCK_MONOTONIC, &at);
	return (double)at.tv_sec + (double)at.tv_nsec / 1e9;
}

static bool one_module(struct btf *base, const char *path, struct totals *sum)
{
	struct btf *in, *split = NULL;
	const double began = seconds();
	double added;
	unsigned int bytes_in, bytes_out;
	bool done = false;

	in = btf__parse(path, NULL);
	if (libbpf_get_error(in))
		return false;
	split = btf__new_empty_split(base);
	if (libbpf_get_error(split)) {
		btf__free(in);
		return false;
	}
	if (btf__raw_data(in, &bytes_in) && btf__add_btf(split, in) >= 0) {
		added = seconds();
		if (!btf__dedup(split, NULL) && btf__raw_data(split, &bytes_out)) {
			sum->read_s += added - began;
			sum->dedup_s += seconds() - added;
			sum->bytes_in += bytes_in;
			sum->bytes_out += bytes_out;
			sum->types_in += btf__type_cnt(in) - 1;
			sum->types_out += btf__type_cnt(split) - btf__type_cnt(base);
			done = true;
		}
	}
	btf__free(split);
	btf__free(in);
	return done;
}

int main(int argc, char **argv)
{
	struct totals sum = {};
	struct btf *base;
	double began = seconds(), base_s;

	if (argc < 3) {
		fprintf(stderr, "usage: %s BASE MODULE...\n", argv[0]);
		return 2;
	}
	libbpf_set_print(NULL);
	base = btf__parse(argv[1], NULL);
	if (libbpf_get_error(base)) {
		fprintf(stderr, "cannot read the base\n");
		return 2;
	}
	base_s = seconds() - began;

	began = seconds();
	for (int i = 2; i < argc; i++) {
		if (one_module(base, argv[i], &sum))
			sum.modules++;
		else
			sum.failed++;
	}
	printf("{\"modules\": %lu, \"failed\": %lu, \"bytes_in\": %lu, \"bytes_out\": %lu, "
	       "\"types_in\": %lu, \"types_out\": %lu, \"base_s\": %.6f, \"read_s\": %.6f, "
	       "\"dedup_s\": %.6f, \"total_s\": %.6f, \"libbpf\": \"%s\"}\n",
	       sum.modules, sum.failed, sum.bytes_in, sum.bytes_out, sum.types_in, sum.types_out,
	       base_s, sum.read_s, sum.dedup_s, seconds() - began, libbpf_version_string());
	btf__free(base);
	return sum.failed != 0;
}
