/* What loading a BTF is measured against: libbpf reading and checking the same file.
 *
 *     gcc -O2 -o peer_load peer_load.c -lbpf -lelf -lz
 *     ./peer_load FILE TIMES
 *
 * Loads the file that often, each time from the beginning, and looks up one type by its name after
 * the last time. Memory is how far the process has grown at its highest over the first load, the
 * file's content included. Prints one line of JSON.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <bpf/btf.h>
#include <bpf/libbpf.h>

static double seconds(void)
{
	struct timespec at;

	clock_gettime(CLOCK_MONOTONIC, &at);
	return (double)at.tv_sec + (double)at.tv_nsec / 1e9;
}

/* A size in /proc/self/status in bytes, -1 if it is not there. */
static long status(const char *name)
{
	FILE *file = fopen("/proc/self/status", "r");
	char line[256];
	long kilobytes = -1;

	while (file && fgets(line, sizeof(line), file))
		if (!strncmp(line, name, strlen(name)))
			sscanf(line + strlen(name), ": %ld", &kilobytes);
	if (file)
		fclose(file);
	return kilobytes < 0 ? -1 : kilobytes * 1024;
}

int main(int argc, char **argv)
{
	const int times = argc == 3 ? atoi(argv[2]) : 0;
	double began, find_s;
	long before, peak = 0;
	unsigned int types = 0;
	struct btf *btf;
	FILE *forget;
	int id;

	if (times < 1) {
		fprintf(stderr, "usage: %s FILE TIMES\n", argv[0]);
		return 2;
	}
	libbpf_set_print(NULL);
	forget = fopen("/proc/self/clear_refs", "w"); /* the highest size so far */
	if (forget) {
		fputs("5", forget);
		fclose(forget);
	}
	before = status("VmRSS");
	printf("{\"seconds\": [");
	for (int i = 1; i <= times; i++) {
		began = seconds();
		btf = btf__parse(argv[1], NULL);
		if (libbpf_get_error(btf)) {
			fprintf(stderr, "cannot read the file\n");
			return 2;
		}
		printf("%s%.6f", i > 1 ? ", " : "", seconds() - began);
		if (i == 1)
			peak = status("VmHWM");
		types = btf__type_cnt(btf);
		if (i < times)
			btf__free(btf);
	}
	began = seconds();
	id = btf__find_by_name_kind(btf, "task_struct", BTF_KIND_STRUCT);
	find_s = seconds() - began;
	printf("], \"find\": %.6f, \"found\": %d, \"memory\": %ld, \"types\": %u, \"libbpf\": \"%s\"}\n",
	       find_s, id, peak - before, types, libbpf_version_string());
	return 0;
}
