// Branches, loops and a switch over packet data, with a read-only table and atomics.
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/ip.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>

static const __u64 weights[6] = { 1, 10, 100, 1000, 10000, 100000 };

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 8);
	__type(key, __u32);
	__type(value, __u64);
} counts SEC(".maps");

__u64 total;

SEC("xdp.frags")
int classify(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct ethhdr *eth = data;
	struct iphdr *ip = (void *)(eth + 1);
	__u32 key = 0;
	__u64 *slot, sum = 0;

	if ((void *)(ip + 1) > end)
		return XDP_DROP;
	switch (eth->h_proto) {
	case bpf_htons(ETH_P_IP):
		key = 1;
		break;
	case bpf_htons(ETH_P_ARP):
		return XDP_PASS;
	case bpf_htons(ETH_P_IPV6):
		key = 2;
		break;
	default:
		key = 3 + (eth->h_source[5] & 1);
	}
	for (int i = 0; i < 6; i++)
		if (eth->h_dest[i] > (int)key)
			sum += weights[i] * eth->h_dest[i];
	slot = bpf_map_lookup_elem(&counts, &key);
	if (slot)
		*slot += sum;
	__sync_fetch_and_add(&total, sum);
	if (ip->ttl == 0 || (signed char)ip->tos < -3)
		return XDP_ABORTED;
	return sum & 1 ? XDP_TX : XDP_PASS;
}

char LICENSE[] SEC("license") = "GPL";
