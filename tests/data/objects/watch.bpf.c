// SPDX-License-Identifier: Apache-2.0
/*
 * A BPF program for the tests of .BTF.ext: two program sections and a function of its own in
 * .text, line information, and CO-RE relocations of several kinds (fields, a bit field, arrays,
 * whether a field and a type exist, a type's size, an enumerator's value). It is never loaded.
 */
typedef unsigned int u32;
typedef unsigned long long u64;

#define SEC(name) __attribute__((section(name), used))
#define CORE __attribute__((preserve_access_index))

enum { FIELD_BYTE_OFFSET = 0, FIELD_EXISTS = 2 };
enum { TYPE_EXISTS = 0, TYPE_SIZE = 1 };
enum { ENUM_VALUE = 1 };

enum watch_state { WATCH_IDLE = 3, WATCH_BUSY = 9 };

struct namespace_link {
	u32 level;
	struct {
		int nr;
		void *ns;
	} numbers[4];
} CORE;

struct task_struct {
	int pid;
	u32 in_execve : 1;
	u32 in_iowait : 3;
	const struct task_struct *real_parent;
	struct namespace_link *thread_pid;
	char comm[16];
} CORE;

struct event {
	u32 pid;
	u64 parent;
	u32 flags;
	char comm[16];
};

char LICENSE[] SEC("license") = "Apache-2.0";
struct event last_event;

static long (*read_kernel)(void *to, u32 size, const void *from) = (void *)113;

static __attribute__((noinline)) int remember(const struct task_struct *task)
{
	const struct task_struct *parent = 0;
	int nr = 0;

	read_kernel(&last_event.pid, sizeof(last_event.pid), &task->pid);
	read_kernel(&last_event.comm, sizeof(last_event.comm), &task->comm);
	read_kernel(&parent, sizeof(parent), &task->real_parent);
	read_kernel(&nr, sizeof(nr), &task->thread_pid->numbers[1].nr);
	last_event.parent = (u64)parent;
	return nr;
}

SEC("kprobe/do_exit")
int on_exit(const struct task_struct *task)
{
	if (__builtin_preserve_field_info(((struct task_struct *)0)->in_iowait, FIELD_EXISTS))
		last_event.flags =
			__builtin_preserve_field_info(task->in_iowait, FIELD_BYTE_OFFSET);
	return remember(task);
}

SEC("raw_tp/sched_switch")
int on_switch(const struct task_struct *task)
{
	if (!__builtin_preserve_type_info(*(struct namespace_link *)0, TYPE_EXISTS))
		return 0;
	last_event.flags =
		__builtin_preserve_type_info(*(struct namespace_link *)0, TYPE_SIZE) +
		__builtin_preserve_enum_value(*(enum watch_state *)WATCH_BUSY, ENUM_VALUE);
	return remember(task);
}
