/* SPDX-License-Identifier: Apache-2.0 */
/* Fixed-width types of the kernel's user interface, written for these examples so that no system header is needed. */
#ifndef K2_EXAMPLES_LINUX_TYPES_H
#define K2_EXAMPLES_LINUX_TYPES_H

typedef unsigned char __u8;
typedef signed char __s8;
typedef unsigned short __u16;
typedef short __s16;
typedef unsigned int __u32;
typedef int __s32;
typedef unsigned long long __u64;
typedef long long __s64;

/* Numbers in network byte order, and checksums. */
typedef __u16 __be16;
typedef __u32 __be32;
typedef __u64 __be64;
typedef __u16 __sum16;
typedef __u32 __wsum;

#endif
