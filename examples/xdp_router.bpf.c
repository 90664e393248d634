/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A router at the driver: longest prefix match for IPv4 and IPv6, next hop's MAC addresses, TTL minus one with the
 * checksum updated in place (RFC 1624), and out through a device map.  What needs thought goes up to the kernel's stack.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define MAX_ROUTES_V4 16384
#define MAX_ROUTES_V6 4096
#define MAX_NEXT_HOPS 256
#define MAX_PORTS 64

struct lpm_v4 {
	__u32 prefixlen;
	__be32 addr;
};

struct lpm_v6 {
	__u32 prefixlen;
	struct in6_addr addr;
};

struct route {
	__u32 next_hop;
	__u32 flags;
};

#define ROUTE_LOCAL 1
#define ROUTE_BLACKHOLE 2

struct next_hop {
	__u8 dmac[ETH_ALEN];
	__u8 smac[ETH_ALEN];
	__u32 port;
	__u32 mtu;
};

struct port_stats {
	__u64 packets;
	__u64 bytes;
};

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, MAX_ROUTES_V4);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct lpm_v4);
	__type(value, struct route);
} routes_v4 SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, MAX_ROUTES_V6);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct lpm_v6);
	__type(value, struct route);
} routes_v6 SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, MAX_NEXT_HOPS);
	__type(key, __u32);
	__type(value, struct next_hop);
} next_hops SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_DEVMAP);
	__uint(max_entries, MAX_PORTS);
	__type(key, __u32);
	__type(value, __u32);
} ports SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, MAX_PORTS);
	__type(key, __u32);
	__type(value, struct port_stats);
} stats SEC(".maps");

static __always_inline struct next_hop *follow(const struct route *route)
{
	__u32 index = route->next_hop;

	return bpf_map_lookup_elem(&next_hops, &index);
}

/* One less in the TTL byte is 0x0100 less in the 16-bit word that holds it, so the checksum grows by as much. */
static __always_inline void decrease_ttl(struct iphdr *ip)
{
	__u32 check = ip->check;

	check += bpf_htons(0x0100);
	ip->check = (__sum16)(check + (check >= 0xffff));
	ip->ttl--;
}

static __always_inline int forward(struct ethhdr *eth, const struct next_hop *hop, __u64 bytes)
{
	__u32 port = hop->port;
	struct port_stats *s;

	__builtin_memcpy(eth->h_dest, hop->dmac, ETH_ALEN);
	__builtin_memcpy(eth->h_source, hop->smac, ETH_ALEN);

	s = bpf_map_lookup_elem(&stats, &port);
	if (s) {
		s->packets++;
		s->bytes += bytes;
	}
	return bpf_redirect_map(&ports, port, XDP_PASS);
}

static __always_inline int route_ipv4(struct ethhdr *eth, void *data_end)
{
	struct iphdr *ip = (void *)(eth + 1);
	struct lpm_v4 key = { .prefixlen = 32 };
	struct next_hop *hop;
	struct route *route;
	__u16 total;

	if ((void *)(ip + 1) > data_end)
		return XDP_DROP;
	/* Options are rare and slow: leave them to the stack. */
	if (ip->version != 4 || ip->ihl != 5)
		return XDP_PASS;
	if (ip->ttl <= 1)
		return XDP_PASS;

	key.addr = ip->daddr;
	route = bpf_map_lookup_elem(&routes_v4, &key);
	if (!route || (route->flags & ROUTE_LOCAL))
		return XDP_PASS;
	if (route->flags & ROUTE_BLACKHOLE)
		return XDP_DROP;

	hop = follow(route);
	if (!hop)
		return XDP_PASS;
	total = bpf_ntohs(ip->tot_len);
	if (total > hop->mtu)
		return XDP_PASS;

	decrease_ttl(ip);
	return forward(eth, hop, sizeof(*eth) + total);
}

static __always_inline int route_ipv6(struct ethhdr *eth, void *data_end)
{
	struct ipv6hdr *ip6 = (void *)(eth + 1);
	struct lpm_v6 key = { .prefixlen = 128 };
	struct next_hop *hop;
	struct route *route;
	__u32 total;

	if ((void *)(ip6 + 1) > data_end)
		return XDP_DROP;
	if (ip6->version != 6 || ip6->hop_limit <= 1)
		return XDP_PASS;
	/* Link-local and multicast destinations are not routed. */
	if (ip6->daddr.s6_addr[0] == 0xff || (ip6->daddr.s6_addr32[0] & bpf_htonl(0xffc00000)) == bpf_htonl(0xfe800000))
		return XDP_PASS;

	key.addr = ip6->daddr;
	route = bpf_map_lookup_elem(&routes_v6, &key);
	if (!route || (route->flags & ROUTE_LOCAL))
		return XDP_PASS;
	if (route->flags & ROUTE_BLACKHOLE)
		return XDP_DROP;

	hop = follow(route);
	if (!hop)
		return XDP_PASS;
	total = sizeof(*ip6) + bpf_ntohs(ip6->payload_len);
	if (total > hop->mtu)
		return XDP_PASS;

	ip6->hop_limit--;
	return forward(eth, hop, sizeof(*eth) + total);
}

SEC("xdp")
int xdp_router(struct xdp_md *ctx)
{
	void *data_end = (void *)(long)ctx->data_end;
	void *data = (void *)(long)ctx->data;
	struct ethhdr *eth = data;

	if ((void *)(eth + 1) > data_end)
		return XDP_DROP;

	switch (bpf_ntohs(eth->h_proto)) {
	case ETH_P_IP:
		return route_ipv4(eth, data_end);
	case ETH_P_IPV6:
		return route_ipv6(eth, data_end);
	default:
		return XDP_PASS;
	}
}

char _license[] SEC("license") = "GPL";
