/* SPDX-License-Identifier: Apache-2.0 */
/* The IPv4 header (RFC 791), little-endian bit order. */
#ifndef K2_EXAMPLES_LINUX_IP_H
#define K2_EXAMPLES_LINUX_IP_H

#include <linux/types.h>

struct iphdr {
	__u8 ihl : 4, version : 4;
	__u8 tos;
	__be16 tot_len;
	__be16 id;
	__be16 frag_off;
	__u8 ttl;
	__u8 protocol;
	__sum16 check;
	__be32 saddr;
	__be32 daddr;
};

#endif
