// The guest's only program for verdicts.py: gives each file of /pack (its length, its bytes, and so
// on) to the kernel with bpf(BPF_BTF_LOAD), and reports on the second serial port
//
//   load NUMBER ERRNO LAST LINE OF THE VERIFIER'S LOG

#include <errno.h>
#include <linux/bpf.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

static char text[8 << 20];

// Loads a file, with a log if wanted; returns 0 or an error number.
static int load(const void *data, unsigned size, int log)
{
	union bpf_attr attr = {0};

	attr.btf = (unsigned long)data;
	attr.btf_size = size;
	if (log) {
		attr.btf_log_buf = (unsigned long)text;
		attr.btf_log_size = sizeof(text);
		attr.btf_log_level = 1;
	}
	int file = syscall(SYS_bpf, BPF_BTF_LOAD, &attr, sizeof(attr));
	if (file < 0)
		return errno;
	close(file);
	return 0;
}

static const char *last_line(void)
{
	size_t end = strlen(text);
	while (end && text[end - 1] == '\n')
		text[--end] = 0;
	for (char *at = text; *at; at++)
		if (*at != '\n' && (*at < 32 || *at > 126))
			*at = '?';
	char *line = strrchr(text, '\n');
	return line ? line + 1 : text;
}

int main(void)
{
	mkdir("/dev", 0755);
	mknod("/dev/ttyS1", S_IFCHR | 0600, makedev(4, 65));
	FILE *reports = fopen("/dev/ttyS1", "w"), *pack = fopen("/pack", "rb");
	unsigned size;

	for (int number = 0; fread(&size, sizeof(size), 1, pack) == 1; number++) {
		char *data = malloc(size + 1);
		if (size && fread(data, size, 1, pack) != 1)
			break;
		int error = load(data, size, 0);
		text[0] = 0;
		if (error)
			load(data, size, 1);
		fprintf(reports, "load %d %d %.9000s\n", number, error, last_line());
		free(data);
	}
	fputs("end\n", reports);
	fclose(reports);
	sync();
	usleep(200000);
	reboot(RB_POWER_OFF);
}
