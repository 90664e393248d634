/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A stateless firewall at the driver: exact 5-tuple rules for IPv4 and IPv6, and counters per verdict and CPU.
 *
 * A rule is looked up three times, from the most to the least specific: the full 5-tuple, the same without the source
 * port, and the destination alone.  What no rule names goes where `default_action` says.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/tcp.h>
#include <linux/udp.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define MAX_RULES 65536
#define MAX_VLAN_TAGS 2
#define IP_OFFSET_MASK 0x1fff
#define IP_MORE_FRAGMENTS 0x2000

/* Set by the loader before the program is verified. */
const volatile __u32 default_action = XDP_PASS;
const volatile __u8 drop_fragments = 1;
const volatile __u8 allow_icmp = 1;
const volatile __u8 drop_bogus_tcp = 1;

struct flow_key {
	__be32 saddr[4];
	__be32 daddr[4];
	__be16 sport;
	__be16 dport;
	__u8 protocol;
	__u8 family;
	__u16 pad;
};

struct rule {
	__u32 action;
	__u32 id;
	__u64 packets;
	__u64 bytes;
};

struct counter {
	__u64 packets;
	__u64 bytes;
};

enum counter_id {
	COUNT_MALFORMED,
	COUNT_NOT_IP,
	COUNT_FRAGMENT,
	COUNT_ICMP,
	COUNT_BOGUS_TCP,
	COUNT_RULE,
	COUNT_DEFAULT,
	COUNT_MAX,
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MAX_RULES);
	__type(key, struct flow_key);
	__type(value, struct rule);
} rules SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, COUNT_MAX);
	__type(key, __u32);
	__type(value, struct counter);
} counters SEC(".maps");

struct vlan_hdr {
	__be16 tci;
	__be16 proto;
};

struct packet {
	void *pos;
	void *end;
	__u64 len;
};

static __always_inline int count(const struct packet *pkt, __u32 id, int action)
{
	struct counter *c = bpf_map_lookup_elem(&counters, &id);

	if (c) {
		c->packets++;
		c->bytes += pkt->len;
	}
	return action;
}

/* The network protocol behind Ethernet and up to two VLAN tags, or -1 for a truncated header. */
static __always_inline int parse_ethernet(struct packet *pkt)
{
	struct ethhdr *eth = pkt->pos;
	__be16 proto;

	if ((void *)(eth + 1) > pkt->end)
		return -1;
	proto = eth->h_proto;
	pkt->pos = eth + 1;

#pragma unroll
	for (int i = 0; i < MAX_VLAN_TAGS; i++) {
		struct vlan_hdr *vlan = pkt->pos;

		if (proto != bpf_htons(ETH_P_8021Q) && proto != bpf_htons(ETH_P_8021AD))
			break;
		if ((void *)(vlan + 1) > pkt->end)
			return -1;
		proto = vlan->proto;
		pkt->pos = vlan + 1;
	}
	return proto;
}

/* Fill the key from the network header: 0, or the counter that says why the packet goes no further. */
static __always_inline int parse_ipv4(struct packet *pkt, struct flow_key *key, int *is_fragment)
{
	struct iphdr *ip = pkt->pos;
	int header_len;

	if ((void *)(ip + 1) > pkt->end)
		return -1;
	header_len = ip->ihl * 4;
	if (ip->version != 4 || header_len < (int)sizeof(*ip))
		return -1;
	if (pkt->pos + header_len > pkt->end)
		return -1;

	key->family = 4;
	key->protocol = ip->protocol;
	key->saddr[0] = ip->saddr;
	key->daddr[0] = ip->daddr;
	*is_fragment = (ip->frag_off & bpf_htons(IP_OFFSET_MASK | IP_MORE_FRAGMENTS)) != 0;
	pkt->pos += header_len;
	return 0;
}

static __always_inline int parse_ipv6(struct packet *pkt, struct flow_key *key, int *is_fragment)
{
	struct ipv6hdr *ip6 = pkt->pos;

	if ((void *)(ip6 + 1) > pkt->end)
		return -1;
	if (ip6->version != 6)
		return -1;

	key->family = 6;
	key->protocol = ip6->nexthdr;
	__builtin_memcpy(key->saddr, &ip6->saddr, sizeof(key->saddr));
	__builtin_memcpy(key->daddr, &ip6->daddr, sizeof(key->daddr));
	*is_fragment = ip6->nexthdr == IPPROTO_FRAGMENT;
	pkt->pos = ip6 + 1;
	return 0;
}

/* Flags that no honest sender combines. */
static __always_inline int is_bogus(const struct tcphdr *tcp)
{
	if (tcp->syn && (tcp->fin || tcp->rst))
		return 1;
	if (tcp->fin && !tcp->ack)
		return 1;
	return !tcp->syn && !tcp->ack && !tcp->rst;
}

static __always_inline struct rule *find_rule(struct flow_key *key)
{
	struct rule *rule = bpf_map_lookup_elem(&rules, key);

	if (rule)
		return rule;
	key->sport = 0;
	rule = bpf_map_lookup_elem(&rules, key);
	if (rule)
		return rule;
	__builtin_memset(key->saddr, 0, sizeof(key->saddr));
	return bpf_map_lookup_elem(&rules, key);
}

SEC("xdp")
int xdp_firewall(struct xdp_md *ctx)
{
	struct packet pkt = {
		.pos = (void *)(long)ctx->data,
		.end = (void *)(long)ctx->data_end,
	};
	struct flow_key key = {};
	int is_fragment = 0;
	struct rule *rule;
	int proto, err;

	pkt.len = pkt.end - pkt.pos;
	proto = parse_ethernet(&pkt);
	if (proto < 0)
		return count(&pkt, COUNT_MALFORMED, XDP_DROP);

	if (proto == bpf_htons(ETH_P_IP))
		err = parse_ipv4(&pkt, &key, &is_fragment);
	else if (proto == bpf_htons(ETH_P_IPV6))
		err = parse_ipv6(&pkt, &key, &is_fragment);
	else
		return count(&pkt, COUNT_NOT_IP, XDP_PASS);
	if (err)
		return count(&pkt, COUNT_MALFORMED, XDP_DROP);
	if (is_fragment && drop_fragments)
		return count(&pkt, COUNT_FRAGMENT, XDP_DROP);

	if (key.protocol == IPPROTO_TCP && !is_fragment) {
		struct tcphdr *tcp = pkt.pos;

		if ((void *)(tcp + 1) > pkt.end)
			return count(&pkt, COUNT_MALFORMED, XDP_DROP);
		if (drop_bogus_tcp && is_bogus(tcp))
			return count(&pkt, COUNT_BOGUS_TCP, XDP_DROP);
		key.sport = tcp->source;
		key.dport = tcp->dest;
	} else if (key.protocol == IPPROTO_UDP && !is_fragment) {
		struct udphdr *udp = pkt.pos;

		if ((void *)(udp + 1) > pkt.end)
			return count(&pkt, COUNT_MALFORMED, XDP_DROP);
		key.sport = udp->source;
		key.dport = udp->dest;
	} else if (key.protocol == IPPROTO_ICMP || key.protocol == IPPROTO_ICMPV6) {
		if (allow_icmp)
			return count(&pkt, COUNT_ICMP, XDP_PASS);
	}

	rule = find_rule(&key);
	if (rule) {
		__sync_fetch_and_add(&rule->packets, 1);
		__sync_fetch_and_add(&rule->bytes, pkt.len);
		return count(&pkt, COUNT_RULE, rule->action);
	}
	return count(&pkt, COUNT_DEFAULT, default_action);
}

char _license[] SEC("license") = "GPL";
