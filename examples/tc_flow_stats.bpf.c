/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Flow accounting at traffic control: packets, bytes, TCP flags and times per 5-tuple in an LRU table, and a record in
 * the ring buffer when a flow begins, ends, or has moved `report_bytes` more.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/pkt_cls.h>
#include <linux/tcp.h>
#include <linux/udp.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define MAX_FLOWS 32768
#define RING_BYTES (256 * 1024)
#define HEADER_BYTES 74 /* Ethernet, IPv6, TCP without options */
#define IP_OFFSET_MASK 0x1fff

const volatile __u64 report_bytes = 1 << 20;

struct flow_id {
	struct in6_addr saddr; /* IPv4 as ::ffff:a.b.c.d */
	struct in6_addr daddr;
	__be16 sport;
	__be16 dport;
	__u8 protocol;
	__u8 pad[3];
};

struct flow_stats {
	__u64 first_seen;
	__u64 last_seen;
	__u64 packets;
	__u64 bytes;
	__u64 reported;
	__u8 tcp_flags;
	__u8 pad[7];
};

enum event_kind {
	EVENT_BEGIN = 1,
	EVENT_PROGRESS,
	EVENT_END,
};

struct event {
	__u32 kind;
	__u32 ifindex;
	__u32 cpu;
	__u32 mark;
	struct flow_id id;
	__u64 packets;
	__u64 bytes;
	__u64 duration;
};

struct totals {
	__u64 packets;
	__u64 bytes;
	__u64 ignored;
	__u64 lost_events;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, MAX_FLOWS);
	__type(key, struct flow_id);
	__type(value, struct flow_stats);
} flows SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, RING_BYTES);
} events SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct totals);
} totals SEC(".maps");

static __always_inline void map_ipv4(struct in6_addr *addr, __be32 v4)
{
	addr->s6_addr32[0] = 0;
	addr->s6_addr32[1] = 0;
	addr->s6_addr32[2] = bpf_htonl(0xffff);
	addr->s6_addr32[3] = v4;
}

/* Fill the id and the TCP flags; 0, or -1 for a packet that belongs to no flow. */
static __always_inline int dissect(void *data, void *data_end, struct flow_id *id, __u8 *tcp_flags)
{
	struct ethhdr *eth = data;
	void *transport;

	if ((void *)(eth + 1) > data_end)
		return -1;

	if (eth->h_proto == bpf_htons(ETH_P_IP)) {
		struct iphdr *ip = (void *)(eth + 1);

		if ((void *)(ip + 1) > data_end || ip->ihl < 5)
			return -1;
		if (ip->frag_off & bpf_htons(IP_OFFSET_MASK))
			return -1;
		map_ipv4(&id->saddr, ip->saddr);
		map_ipv4(&id->daddr, ip->daddr);
		id->protocol = ip->protocol;
		transport = (void *)ip + ip->ihl * 4;
	} else if (eth->h_proto == bpf_htons(ETH_P_IPV6)) {
		struct ipv6hdr *ip6 = (void *)(eth + 1);

		if ((void *)(ip6 + 1) > data_end)
			return -1;
		id->saddr = ip6->saddr;
		id->daddr = ip6->daddr;
		id->protocol = ip6->nexthdr;
		transport = ip6 + 1;
	} else {
		return -1;
	}

	switch (id->protocol) {
	case IPPROTO_TCP: {
		struct tcphdr *tcp = transport;

		if ((void *)(tcp + 1) > data_end)
			return -1;
		id->sport = tcp->source;
		id->dport = tcp->dest;
		*tcp_flags = ((__u8 *)tcp)[13];
		return 0;
	}
	case IPPROTO_UDP: {
		struct udphdr *udp = transport;

		if ((void *)(udp + 1) > data_end)
			return -1;
		id->sport = udp->source;
		id->dport = udp->dest;
		return 0;
	}
	case IPPROTO_ICMP:
	case IPPROTO_ICMPV6:
		return 0;
	default:
		return -1;
	}
}

static __always_inline void report(struct __sk_buff *skb, __u32 kind, const struct flow_id *id,
				   const struct flow_stats *flow, struct totals *t)
{
	struct event *event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);

	if (!event) {
		t->lost_events++;
		return;
	}
	event->kind = kind;
	event->ifindex = skb->ifindex;
	event->cpu = bpf_get_smp_processor_id();
	event->mark = skb->mark;
	event->id = *id;
	event->packets = flow->packets;
	event->bytes = flow->bytes;
	event->duration = flow->last_seen - flow->first_seen;
	bpf_ringbuf_submit(event, 0);
}

#define TCP_FIN 0x01
#define TCP_RST 0x04

SEC("tc")
int tc_flow_stats(struct __sk_buff *skb)
{
	__u64 now = bpf_ktime_get_ns();
	struct flow_stats *flow;
	struct flow_id id = {};
	struct totals *t;
	__u8 tcp_flags = 0;
	__u32 zero = 0;

	t = bpf_map_lookup_elem(&totals, &zero);
	if (!t)
		return TC_ACT_OK;
	t->packets++;
	t->bytes += skb->len;

	/* Headers may lie outside the linear part. */
	if ((void *)(long)skb->data + HEADER_BYTES > (void *)(long)skb->data_end)
		bpf_skb_pull_data(skb, skb->len < HEADER_BYTES ? skb->len : HEADER_BYTES);

	if (dissect((void *)(long)skb->data, (void *)(long)skb->data_end, &id, &tcp_flags)) {
		t->ignored++;
		return TC_ACT_OK;
	}

	flow = bpf_map_lookup_elem(&flows, &id);
	if (!flow) {
		struct flow_stats fresh = {
			.first_seen = now,
			.last_seen = now,
			.packets = 1,
			.bytes = skb->len,
			.tcp_flags = tcp_flags,
		};

		if (bpf_map_update_elem(&flows, &id, &fresh, BPF_NOEXIST) == 0)
			report(skb, EVENT_BEGIN, &id, &fresh, t);
		return TC_ACT_OK;
	}

	flow->last_seen = now;
	flow->tcp_flags |= tcp_flags;
	__sync_fetch_and_add(&flow->packets, 1);
	__sync_fetch_and_add(&flow->bytes, skb->len);

	if (tcp_flags & (TCP_FIN | TCP_RST)) {
		report(skb, EVENT_END, &id, flow, t);
		bpf_map_delete_elem(&flows, &id);
	} else if (flow->bytes - flow->reported >= report_bytes) {
		flow->reported = flow->bytes;
		report(skb, EVENT_PROGRESS, &id, flow, t);
	}
	return TC_ACT_OK;
}

char _license[] SEC("license") = "GPL";
