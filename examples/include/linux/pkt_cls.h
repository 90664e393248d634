/* SPDX-License-Identifier: Apache-2.0 */
#ifndef K2_EXAMPLES_LINUX_PKT_CLS_H
#define K2_EXAMPLES_LINUX_PKT_CLS_H

/* What a classifier may ask traffic control to do with a packet. */
#define TC_ACT_UNSPEC (-1)
#define TC_ACT_OK 0
#define TC_ACT_SHOT 2

#endif
