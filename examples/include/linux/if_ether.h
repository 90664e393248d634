/* SPDX-License-Identifier: Apache-2.0 */
/* Ethernet II (IEEE 802.3) and VLAN tags (IEEE 802.1Q). */
#ifndef K2_EXAMPLES_LINUX_IF_ETHER_H
#define K2_EXAMPLES_LINUX_IF_ETHER_H

#include <linux/types.h>

#define ETH_ALEN 6

#define ETH_P_IP 0x0800
#define ETH_P_8021Q 0x8100
#define ETH_P_IPV6 0x86DD
#define ETH_P_8021AD 0x88A8

struct ethhdr {
	unsigned char h_dest[ETH_ALEN];
	unsigned char h_source[ETH_ALEN];
	__be16 h_proto;
} __attribute__((packed));

#endif
