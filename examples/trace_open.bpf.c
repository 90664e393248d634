/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who opens which file, and how long it takes: the entry of openat(2) is remembered per thread, its exit sends a
 * record with process, parent, path and result.
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#define MAX_THREADS 10240
#define RING_BYTES (1024 * 1024)
#define PATH_BYTES 256
#define COMM_BYTES 16

/* 0: everybody. */
const volatile __u32 target_tgid = 0;
const volatile __u32 target_uid = 0;
const volatile __u8 filter_uid = 0;
const volatile __u8 only_failed = 0;
const volatile __u64 min_duration_ns = 0;

/* What the kernel records at syscalls/sys_enter_openat and sys_exit_openat (tracefs, events/.../format). */
struct enter_args {
	__u64 common;
	long syscall_nr;
	long dfd;
	const char *filename;
	long flags;
	long mode;
};

struct exit_args {
	__u64 common;
	long syscall_nr;
	long ret;
};

/* Only the members that are read; the loader finds their offsets in the running kernel. */
struct task_struct {
	struct task_struct *real_parent;
	int tgid;
} __attribute__((preserve_access_index));

struct pending {
	__u64 start;
	const char *filename;
	int flags;
	__u32 mode;
};

struct event {
	__u64 duration;
	__u32 tgid;
	__u32 tid;
	__u32 ppid;
	__u32 uid;
	int flags;
	int ret;
	__u32 mode;
	int path_len;
	char comm[COMM_BYTES];
	char path[PATH_BYTES];
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MAX_THREADS);
	__type(key, __u32);
	__type(value, struct pending);
} started SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, RING_BYTES);
} events SEC(".maps");

static __always_inline int is_wanted(__u32 tgid)
{
	if (target_tgid && tgid != target_tgid)
		return 0;
	if (filter_uid && (__u32)bpf_get_current_uid_gid() != target_uid)
		return 0;
	return 1;
}

static __always_inline __u32 parent_tgid(void)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	struct task_struct *parent = 0;
	int tgid = 0;

	bpf_core_read_into(&parent, task->real_parent);
	bpf_core_read_into(&tgid, parent->tgid);
	return tgid;
}

SEC("tracepoint/syscalls/sys_enter_openat")
int trace_open_enter(struct enter_args *ctx)
{
	__u64 id = bpf_get_current_pid_tgid();
	struct pending pending = {};
	__u32 tid = (__u32)id;

	if (!is_wanted(id >> 32))
		return 0;
	pending.start = bpf_ktime_get_ns();
	pending.filename = ctx->filename;
	pending.flags = (int)ctx->flags;
	pending.mode = (__u32)ctx->mode;
	bpf_map_update_elem(&started, &tid, &pending, BPF_ANY);
	return 0;
}

SEC("tracepoint/syscalls/sys_exit_openat")
int trace_open_exit(struct exit_args *ctx)
{
	__u64 id = bpf_get_current_pid_tgid();
	__u32 tid = (__u32)id;
	struct pending *pending;
	struct event *event;
	__u64 duration;
	int ret;

	pending = bpf_map_lookup_elem(&started, &tid);
	if (!pending)
		return 0;
	ret = (int)ctx->ret;
	duration = bpf_ktime_get_ns() - pending->start;
	if ((only_failed && ret >= 0) || duration < min_duration_ns)
		goto done;

	event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);
	if (!event)
		goto done;
	event->duration = duration;
	event->tgid = id >> 32;
	event->tid = tid;
	event->ppid = parent_tgid();
	event->uid = (__u32)bpf_get_current_uid_gid();
	event->flags = pending->flags;
	event->ret = ret;
	event->mode = pending->mode;
	bpf_get_current_comm(event->comm, sizeof(event->comm));
	event->path_len = bpf_probe_read_user_str(event->path, sizeof(event->path), pending->filename);
	if (event->path_len < 0) {
		bpf_ringbuf_discard(event, 0);
		goto done;
	}
	bpf_ringbuf_submit(event, 0);
done:
	bpf_map_delete_elem(&started, &tid);
	return 0;
}

char _license[] SEC("license") = "GPL";
