/* SPDX-License-Identifier: Apache-2.0 */
/* Byte order for a little-endian machine (the examples are compiled for bpfel). */
#ifndef K2_EXAMPLES_BPF_ENDIAN_H
#define K2_EXAMPLES_BPF_ENDIAN_H

#define K2_SWAP16(x) ((__u16)(((__u16)(x) << 8) | ((__u16)(x) >> 8)))
#define K2_SWAP32(x) \
	((__u32)(((__u32)(x) << 24) | (((__u32)(x) & 0xff00U) << 8) | (((__u32)(x) >> 8) & 0xff00U) | ((__u32)(x) >> 24)))

/* Constants are folded by the preprocessor's user, everything else becomes one byte swap instruction. */
#define bpf_htons(x) (__builtin_constant_p(x) ? K2_SWAP16(x) : __builtin_bswap16(x))
#define bpf_ntohs(x) bpf_htons(x)
#define bpf_htonl(x) (__builtin_constant_p(x) ? K2_SWAP32(x) : __builtin_bswap32(x))
#define bpf_ntohl(x) bpf_htonl(x)

#endif
