// SPDX-License-Identifier: GPL-2.0
/* The shape of the larger of two programs whose proof times K2 reports: a tracepoint, 36 slots, two maps. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct event {
	__u64 unused;
	__u32 device;
	__u32 count;
	__u64 bytes;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 64);
	__type(key, __u32);
	__type(value, __u64);
} totals SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, __u64);
	__type(value, __u64);
} owners SEC(".maps");

SEC("tracepoint/net/shape")
int count_events(struct event *event)
{
	__u64 owner = bpf_get_current_pid_tgid(), first = event->bytes;
	__u32 slot = event->device;
	__u64 *total = bpf_map_lookup_elem(&totals, &slot);
	__u64 *known;

	if (total)
		*total += 1;
	known = bpf_map_lookup_elem(&owners, &owner);
#ifdef REWRITTEN /* the arms changed places, and one has an exit of its own */
	if (known) {
#ifdef WRONG
		first ^= 1;
#endif
		*known = first + *known;
		return 0;
	}
	bpf_map_update_elem(&owners, &owner, &first, BPF_ANY);
	asm volatile("" ::: "memory");
	return 0;
#else
	if (!known)
		bpf_map_update_elem(&owners, &owner, &first, BPF_ANY);
	else
		*known += first;
	return 0;
#endif
}

char LICENSE[] SEC("license") = "GPL";
