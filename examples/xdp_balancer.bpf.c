/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A layer-4 load balancer: a virtual address and port is spread over backends by a hash of the flow, and the packet
 * goes to the backend inside a second IPv4 header (RFC 2003).  A flow that has a backend keeps it while its entry in the
 * connection table lives, even if the ring changes.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/tcp.h>
#include <linux/udp.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define MAX_VIPS 512
#define MAX_BACKENDS 4096
#define RING_SIZE 251
#define MAX_CONNECTIONS 65536
#define IP_FRAGMENT_MASK 0x3fff
#define OUTER_TTL 64

const volatile __be32 outer_saddr = 0;
const volatile __u8 gateway_mac[ETH_ALEN] = {};
const volatile __u32 hash_seed = 0x9e3779b9;

struct vip_key {
	__be32 addr;
	__be16 port;
	__u8 protocol;
	__u8 pad;
};

struct vip {
	__u32 index;
	__u32 flags;
};

/* Ignore the source port: all connections of one client go to one backend. */
#define VIP_BY_CLIENT 1

struct flow {
	__be32 saddr;
	__be32 daddr;
	__be16 sport;
	__be16 dport;
	__u8 protocol;
	__u8 pad[3];
};

struct connection {
	__u32 backend;
	__u32 packets;
};

struct backend {
	__be32 addr;
	__u32 is_up;
};

struct vip_stats {
	__u64 packets;
	__u64 bytes;
	__u64 new_connections;
	__u64 dropped;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MAX_VIPS);
	__type(key, struct vip_key);
	__type(value, struct vip);
} vips SEC(".maps");

/* RING_SIZE backend numbers for each virtual address. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, MAX_VIPS * RING_SIZE);
	__type(key, __u32);
	__type(value, __u32);
} rings SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, MAX_BACKENDS);
	__type(key, __u32);
	__type(value, struct backend);
} backends SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, MAX_CONNECTIONS);
	__type(key, struct flow);
	__type(value, struct connection);
} connections SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, MAX_VIPS);
	__type(key, __u32);
	__type(value, struct vip_stats);
} stats SEC(".maps");

static __always_inline __u32 rotate_left(__u32 word, unsigned int by)
{
	return word << by | word >> (32 - by);
}

/* Three rounds of add, rotate and xor over the flow; good spread, no table. */
static __noinline __u32 hash_flow(const struct flow *flow, __u32 seed)
{
	__u32 a = flow->saddr + seed;
	__u32 b = flow->daddr ^ (seed << 7);
	__u32 c = (__u32)flow->sport << 16 | flow->dport;

	c += flow->protocol;
#pragma unroll
	for (int i = 0; i < 3; i++) {
		a += b;
		b = rotate_left(b, 13) ^ a;
		c += rotate_left(a, 7);
		a ^= rotate_left(c, 18);
		b += c;
	}
	return a ^ b ^ c;
}

/* The Internet checksum (RFC 1071) of a header without options whose checksum field is zero. */
static __noinline __u16 header_checksum(const struct iphdr *ip)
{
	const __u16 *word = (const __u16 *)ip;
	__u32 sum = 0;

#pragma unroll
	for (unsigned int i = 0; i < sizeof(*ip) / 2; i++)
		sum += word[i];
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return (__u16)~sum;
}

/* The backend number for the flow: from the connection table, else from the ring. */
static __always_inline int pick_backend(struct flow *flow, const struct vip *vip, struct vip_stats *stats)
{
	struct connection *known = bpf_map_lookup_elem(&connections, flow);
	struct connection fresh = {};
	struct flow client;
	__u32 slot, *number;

	if (known) {
		known->packets++;
		return known->backend;
	}

	client = *flow;
	if (vip->flags & VIP_BY_CLIENT)
		client.sport = 0;
	slot = vip->index * RING_SIZE + hash_flow(&client, hash_seed) % RING_SIZE;
	number = bpf_map_lookup_elem(&rings, &slot);
	if (!number)
		return -1;

	fresh.backend = *number;
	fresh.packets = 1;
	bpf_map_update_elem(&connections, flow, &fresh, BPF_ANY);
	stats->new_connections++;
	return fresh.backend;
}

/* Put Ethernet and an outer IPv4 header in front of the packet; 0, or -1 without room for them. */
static __noinline int encapsulate(struct xdp_md *ctx, __be32 daddr, __u16 inner_len, __u8 tos)
{
	struct ethhdr *eth, old;
	struct iphdr *outer;
	void *data, *data_end;

	data = (void *)(long)ctx->data;
	data_end = (void *)(long)ctx->data_end;
	if (data + sizeof(old) > data_end)
		return -1;
	__builtin_memcpy(&old, data, sizeof(old));

	if (bpf_xdp_adjust_head(ctx, -(int)sizeof(*outer)))
		return -1;
	data = (void *)(long)ctx->data;
	data_end = (void *)(long)ctx->data_end;
	eth = data;
	outer = (void *)(eth + 1);
	if ((void *)(outer + 1) > data_end)
		return -1;

	__builtin_memcpy(eth->h_source, old.h_dest, ETH_ALEN);
#pragma unroll
	for (int i = 0; i < ETH_ALEN; i++)
		eth->h_dest[i] = gateway_mac[i];
	eth->h_proto = bpf_htons(ETH_P_IP);

	outer->version = 4;
	outer->ihl = sizeof(*outer) / 4;
	outer->tos = tos;
	outer->tot_len = bpf_htons(inner_len + sizeof(*outer));
	outer->id = 0;
	outer->frag_off = 0;
	outer->ttl = OUTER_TTL;
	outer->protocol = IPPROTO_IPIP;
	outer->check = 0;
	outer->saddr = outer_saddr;
	outer->daddr = daddr;
	outer->check = header_checksum(outer);
	return 0;
}

SEC("xdp")
int xdp_balancer(struct xdp_md *ctx)
{
	void *data_end = (void *)(long)ctx->data_end;
	void *data = (void *)(long)ctx->data;
	struct ethhdr *eth = data;
	struct iphdr *ip = (void *)(eth + 1);
	struct vip_key vip_key = {};
	struct backend *backend;
	struct vip_stats *s;
	struct flow flow = {};
	struct vip *vip;
	__u16 inner_len;
	__u32 index;
	int number;

	if ((void *)(ip + 1) > data_end)
		return XDP_PASS;
	if (eth->h_proto != bpf_htons(ETH_P_IP) || ip->version != 4 || ip->ihl != 5)
		return XDP_PASS;
	/* Only the first fragment has ports; a balancer cannot keep the others together. */
	if (ip->frag_off & bpf_htons(IP_FRAGMENT_MASK))
		return XDP_DROP;

	if (ip->protocol == IPPROTO_TCP) {
		struct tcphdr *tcp = (void *)(ip + 1);

		if ((void *)(tcp + 1) > data_end)
			return XDP_DROP;
		flow.sport = tcp->source;
		flow.dport = tcp->dest;
	} else if (ip->protocol == IPPROTO_UDP) {
		struct udphdr *udp = (void *)(ip + 1);

		if ((void *)(udp + 1) > data_end)
			return XDP_DROP;
		flow.sport = udp->source;
		flow.dport = udp->dest;
	} else {
		return XDP_PASS;
	}
	flow.saddr = ip->saddr;
	flow.daddr = ip->daddr;
	flow.protocol = ip->protocol;

	vip_key.addr = flow.daddr;
	vip_key.port = flow.dport;
	vip_key.protocol = flow.protocol;
	vip = bpf_map_lookup_elem(&vips, &vip_key);
	if (!vip)
		return XDP_PASS;
	index = vip->index;
	s = bpf_map_lookup_elem(&stats, &index);
	if (!s)
		return XDP_ABORTED;

	s->packets++;
	s->bytes += data_end - data;
	number = pick_backend(&flow, vip, s);
	if (number < 0)
		goto drop;
	index = number;
	backend = bpf_map_lookup_elem(&backends, &index);
	if (!backend || !backend->is_up)
		goto drop;

	inner_len = bpf_ntohs(ip->tot_len);
	if (encapsulate(ctx, backend->addr, inner_len, ip->tos))
		goto drop;
	return XDP_TX;

drop:
	s->dropped++;
	return XDP_DROP;
}

char _license[] SEC("license") = "GPL";
