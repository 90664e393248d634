/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Put in front of a BPF sample of the kernel with -include: the few names that the sample expects from headers inside
 * the kernel tree, stated here so that only exported (uapi) headers are needed and the sample itself stays unmodified.
 * Layouts and values are those of the kernel; little-endian targets only.
 */
#ifndef K2_LINUX_SAMPLE_H
#define K2_LINUX_SAMPLE_H

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "the byte swaps below are those of a little-endian target"
#endif

#include <linux/types.h>

typedef __u8 u8;
typedef __u16 u16;
typedef __u32 u32;
typedef __u64 u64;
typedef __s8 s8;
typedef __s16 s16;
typedef __s32 s32;
typedef __s64 s64;
typedef _Bool bool;

#define true 1
#define false 0

/* Marks for the kernel's own static checker; no meaning for a compiler. */
#define __force
#define __percpu

#define AF_INET 2
#define AF_INET6 10

#define htons(x) ((__be16)__builtin_bswap16(x))
#define ntohs(x) ((__u16)__builtin_bswap16(x))
#define htonl(x) ((__be32)__builtin_bswap32(x))
#define ntohl(x) ((__u32)__builtin_bswap32(x))
#define cpu_to_be16(x) htons(x)
#define cpu_to_be32(x) htonl(x)
#define be16_to_cpu(x) ntohs(x)
#define be32_to_cpu(x) ntohl(x)

#define memcpy(to, from, size) __builtin_memcpy(to, from, size)
#define memset(to, byte, size) __builtin_memset(to, byte, size)

/* IEEE 802.1Q tag behind the addresses and the tag's own protocol number. */
struct vlan_hdr {
	__be16 h_vlan_TCI;
	__be16 h_vlan_encapsulated_proto;
};

#endif
