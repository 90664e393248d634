/* SPDX-License-Identifier: Apache-2.0 */
/* Protocol numbers (IANA) and the IPv6 address. */
#ifndef K2_EXAMPLES_LINUX_IN_H
#define K2_EXAMPLES_LINUX_IN_H

#include <linux/types.h>

#define IPPROTO_HOPOPTS 0
#define IPPROTO_ICMP 1
#define IPPROTO_IPIP 4
#define IPPROTO_TCP 6
#define IPPROTO_UDP 17
#define IPPROTO_ROUTING 43
#define IPPROTO_FRAGMENT 44
#define IPPROTO_ICMPV6 58
#define IPPROTO_DSTOPTS 60

struct in6_addr {
	union {
		__u8 u6_addr8[16];
		__be16 u6_addr16[8];
		__be32 u6_addr32[4];
	} in6_u;
#define s6_addr in6_u.u6_addr8
#define s6_addr32 in6_u.u6_addr32
};

#endif
