/* SPDX-License-Identifier: Apache-2.0 */
/* The IPv6 header and the common start of its extension headers (RFC 8200). */
#ifndef K2_EXAMPLES_LINUX_IPV6_H
#define K2_EXAMPLES_LINUX_IPV6_H

#include <linux/in.h>
#include <linux/types.h>

struct ipv6hdr {
	__u8 priority : 4, version : 4;
	__u8 flow_lbl[3];
	__be16 payload_len;
	__u8 nexthdr;
	__u8 hop_limit;
	struct in6_addr saddr;
	struct in6_addr daddr;
};

struct ipv6_opt_hdr {
	__u8 nexthdr;
	__u8 hdrlen;
} __attribute__((packed));

#endif
