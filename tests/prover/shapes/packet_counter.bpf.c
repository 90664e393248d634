// SPDX-License-Identifier: GPL-2.0
/* The shape of the smaller of two programs whose proof times K2 reports: XDP, bounds checks, one array map. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#ifdef WRONG
#define ETHERTYPE_IN_MEMORY 0x0018
#else
#define ETHERTYPE_IN_MEMORY 0x0008 /* IPv4 as a little-endian machine reads it */
#endif

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 256);
	__type(key, __u32);
	__type(value, __u64);
} packets SEC(".maps");

SEC("xdp")
int count_packets(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data;
	void *end = (void *)(long)ctx->data_end;
	unsigned char *frame = data;
	__u32 protocol;
	__u64 *seen;

#ifdef REWRITTEN /* two bytes at once, and the other way round */
	if (!(data + 24 <= end && *(unsigned short *)(frame + 12) == ETHERTYPE_IN_MEMORY))
		return XDP_PASS;
#else
	if (data + 24 > end || frame[12] != 8 || frame[13] != 0)
		return XDP_PASS;
#endif
	protocol = frame[23];
	seen = bpf_map_lookup_elem(&packets, &protocol);
	if (seen)
		*seen += 1;
	return XDP_PASS;
}

char LICENSE[] SEC("license") = "GPL";
