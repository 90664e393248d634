// Pairs of programs: what `ok_x` does, the kernel accepts; `bad_x` differs in one thing and is refused.
#include <linux/bpf.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_helpers.h>

struct bpf_iter_num {
	__u64 opaque[1];
} __attribute__((aligned(8)));

extern int bpf_iter_num_new(struct bpf_iter_num *it, int start, int end) __ksym __weak;
extern int *bpf_iter_num_next(struct bpf_iter_num *it) __ksym __weak;
extern void bpf_iter_num_destroy(struct bpf_iter_num *it) __ksym __weak;
extern void bpf_throw(__u64 cookie) __ksym __weak;
extern int bpf_dynptr_from_skb(struct __sk_buff *s, __u64 flags, struct bpf_dynptr *ptr) __ksym __weak;
extern void *bpf_dynptr_slice(const struct bpf_dynptr *ptr, __u32 offset, void *buffer, __u32 buffer__szk) __ksym __weak;

struct guarded {
	struct bpf_spin_lock lock;
	int value;
};

struct timed {
	struct bpf_timer timer;
	int value;
};

struct inner {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, int);
	__type(value, __u64);
} inner SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 1);
	__type(key, int);
	__array(values, struct inner);
} outer SEC(".maps") = {.values = {&inner}};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 2);
	__type(key, int);
	__type(value, struct guarded);
} locks SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, int);
	__type(value, struct timed);
} timers SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 16);
	__type(key, int);
	__type(value, __u64);
} numbers SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
} records SEC(".maps");

#define PAIR(name, what)                                                       \
	SEC("?tc") int ok_##name(struct __sk_buff *skb) { return what(skb, 0); } \
	SEC("?tc") int bad_##name(struct __sk_buff *skb) { return what(skb, 1); }
#define BODY static __attribute__((always_inline)) int

BODY inner_map(struct __sk_buff *skb, int bad)
{
	int key = 0;
	void *map = bpf_map_lookup_elem(&outer, &key);
	if (!map && !bad)
		return 0;
	__u64 *value = bpf_map_lookup_elem(map, &key);
	return value ? *value & 1 : 0;
}
PAIR(inner_map, inner_map)

BODY lock(struct __sk_buff *skb, int bad)
{
	int key = 0;
	struct guarded *found = bpf_map_lookup_elem(&locks, &key);
	if (!found)
		return 0;
	bpf_spin_lock(&found->lock);
	found->value++;
	if (bad && skb->len)
		return 0;
	bpf_spin_unlock(&found->lock);
	return 0;
}
PAIR(lock, lock)

BODY same_lock(struct __sk_buff *skb, int bad)
{
	int one = 0, two = 1;
	struct guarded *a = bpf_map_lookup_elem(&locks, &one), *b = bpf_map_lookup_elem(&locks, &two);
	if (!a || !b)
		return 0;
	bpf_spin_lock(&a->lock);
	a->value++;
	bpf_spin_unlock(bad ? &b->lock : &a->lock);
	return 0;
}
PAIR(same_lock, same_lock)

BODY lock_bytes(struct __sk_buff *skb, int bad)
{
	int key = 0;
	struct guarded *found = bpf_map_lookup_elem(&locks, &key);
	return found ? (bad ? *(volatile int *)&found->lock : *(volatile int *)&found->value) & 1 : 0;
}
PAIR(lock_bytes, lock_bytes)

BODY call_under_lock(struct __sk_buff *skb, int bad)
{
	int key = 0;
	struct guarded *found = bpf_map_lookup_elem(&locks, &key);
	if (!found)
		return 0;
	if (!bad)
		bpf_ktime_get_ns();
	bpf_spin_lock(&found->lock);
	if (bad)
		bpf_ktime_get_ns();
	bpf_spin_unlock(&found->lock);
	return 0;
}
PAIR(call_under_lock, call_under_lock)

static int ring(void *map, int *key, struct timed *value)
{
	return 0;
}

static int ring_one(void *map, int *key, struct timed *value)
{
	return 1;
}

BODY timer(struct __sk_buff *skb, int bad)
{
	int key = 0;
	struct timed *found = bpf_map_lookup_elem(&timers, &key);
	if (!found)
		return 0;
	bpf_timer_init(&found->timer, &timers, 1);
	bpf_timer_set_callback(&found->timer, bad ? (void *)ring_one : (void *)ring);
	bpf_timer_start(&found->timer, 1000, 0);
	return 0;
}
PAIR(timer, timer)

BODY timer_map(struct __sk_buff *skb, int bad)
{
	int key = 0;
	struct timed *found = bpf_map_lookup_elem(&timers, &key);
	if (found)
		bpf_timer_init(&found->timer, bad ? (void *)&numbers : (void *)&timers, 1);
	return 0;
}
PAIR(timer_map, timer_map)

struct counted {
	__u64 sum;
	__u64 values[4];
};

static int add(__u32 index, struct counted *context)
{
	context->sum += context->values[index & 3];
	return 0;
}

static int add_beyond(__u32 index, struct counted *context)
{
	context->sum += context->values[index & 7];
	return 0;
}

static int two(__u32 index, struct counted *context)
{
	return 2;
}

BODY loop(struct __sk_buff *skb, int bad)
{
	struct counted context = {.values = {1, 2, 3, 4}};
	bpf_loop(100, bad ? (void *)add_beyond : (void *)add, &context, 0);
	return context.sum & 1;
}
PAIR(loop, loop)

BODY loop_result(struct __sk_buff *skb, int bad)
{
	struct counted context = {.values = {1, 2, 3, 4}};
	bpf_loop(100, bad ? (void *)two : (void *)add, &context, 0);
	return 0;
}
PAIR(loop_result, loop_result)

static int bump(__u32 index, __u64 *at)
{
	*at += 1;
	return 0;
}

// What the callback makes of its caller's stack is not known behind the loop: it cannot be an index.
BODY loop_changes(struct __sk_buff *skb, int bad)
{
	volatile __u64 buffer[4] = {};
	__u64 at = 0;
	bpf_loop(10, bump, &at, 0);
	return bad ? buffer[at] & 1 : at & 1;
}
PAIR(loop_changes, loop_changes)

static long visit(void *map, int *key, __u64 *value, void *context)
{
	*value += 1;
	return 0;
}

static long visit_key(void *map, int *key, __u64 *value, void *context)
{
	*key += 1;
	return 0;
}

BODY each(struct __sk_buff *skb, int bad)
{
	bpf_for_each_map_elem(&numbers, bad ? (void *)visit_key : (void *)visit, 0, 0);
	return 0;
}
PAIR(each, each)

BODY iterate(struct __sk_buff *skb, int bad)
{
	struct bpf_iter_num it;
	__u64 sum = 0;
	int *at;
	bpf_iter_num_new(&it, 0, 100);
	while ((at = bpf_iter_num_next(&it)))
		sum += *at;
	if (!bad)
		bpf_iter_num_destroy(&it);
	return sum & 1;
}
PAIR(iterate, iterate)

BODY element(struct __sk_buff *skb, int bad)
{
	struct bpf_iter_num it;
	int *at, found = 0;
	bpf_iter_num_new(&it, 0, 100);
	at = bpf_iter_num_next(&it);
	if (at && !bad)
		found = *(volatile int *)at;
	bpf_iter_num_destroy(&it);
	if (at && bad)
		found = *(volatile int *)at;
	return found & 1;
}
PAIR(element, element)

BODY iterator_bytes(struct __sk_buff *skb, int bad)
{
	struct bpf_iter_num it;
	volatile __u64 other = 0;
	bpf_iter_num_new(&it, 0, 100);
	if (bad)
		*(volatile __u64 *)&it = 1;
	else
		other = 1;
	bpf_iter_num_destroy(&it);
	return other & 1;
}
PAIR(iterator_bytes, iterator_bytes)

BODY record(struct __sk_buff *skb, int bad)
{
	struct bpf_dynptr record;
	__u64 value = skb->len;
	bpf_ringbuf_reserve_dynptr(&records, 8, 0, &record);
	bpf_dynptr_write(&record, 0, &value, sizeof(value), 0);
	if (bad && skb->len)
		return 0;
	bpf_ringbuf_submit_dynptr(&record, 0);
	return 0;
}
PAIR(record, record)

BODY slice_of_record(struct __sk_buff *skb, int bad)
{
	struct bpf_dynptr record;
	__u64 *value;
	bpf_ringbuf_reserve_dynptr(&records, 8, 0, &record);
	value = bpf_dynptr_data(&record, 0, 8);
	if (value && !bad)
		*(volatile __u64 *)value = 1;
	bpf_ringbuf_submit_dynptr(&record, 0);
	if (value && bad)
		*(volatile __u64 *)value = 1;
	return 0;
}
PAIR(slice_of_record, slice_of_record)

BODY slice_size(struct __sk_buff *skb, int bad)
{
	int key = 0;
	__u64 *found = bpf_map_lookup_elem(&numbers, &key);
	struct bpf_dynptr memory;
	char *bytes;
	if (!found)
		return 0;
	bpf_dynptr_from_mem(found, 8, 0, &memory);
	bytes = bpf_dynptr_data(&memory, 0, 4);
	return bytes ? ((volatile char *)bytes)[bad ? 4 : 3] & 1 : 0;
}
PAIR(slice_size, slice_size)

// A slice of the packet is gone when the packet may have moved.
BODY slice_of_packet(struct __sk_buff *skb, int bad)
{
	struct bpf_dynptr packet;
	__u64 buffer = 0, *bytes;
	if (bpf_dynptr_from_skb(skb, 0, &packet))
		return 0;
	bytes = bpf_dynptr_slice(&packet, 0, &buffer, sizeof(buffer));
	if (!bytes)
		return 0;
	if (bad)
		bpf_skb_pull_data(skb, 0);
	return *(volatile __u64 *)bytes & 1;
}
PAIR(slice_of_packet, slice_of_packet)

BODY reference(struct __sk_buff *skb, int bad)
{
	struct bpf_sock_tuple tuple = {};
	struct bpf_sock *sk = bpf_sk_lookup_udp(skb, &tuple, sizeof(tuple.ipv4), -1, 0);
	struct bpf_sock *full;
	int mark = 0;
	if (!sk)
		return 0;
	full = bpf_sk_fullsock(sk);
	if (full && !bad)
		mark = full->mark;
	bpf_sk_release(sk);
	if (full && bad)
		mark = full->mark;
	return mark & 1;
}
PAIR(reference, reference)

BODY empty(struct __sk_buff *skb, int bad)
{
	__u64 value = 0;
	__u32 size = skb->len & 8;
	bpf_ringbuf_output(&records, &value, size, 0);
	return bad ? bpf_skb_load_bytes(skb, 0, &value, size) : 0;
}
PAIR(empty, empty)

BODY throw(struct __sk_buff *skb, int bad)
{
	int key = 0;
	void *record = 0;
	if (bad)
		record = bpf_ringbuf_reserve(&records, 8, 0);
	if (skb->len == 17)
		bpf_throw(0);
	if (record)
		bpf_ringbuf_discard(record, 0);
	return key;
}
PAIR(throw, throw)

// Tested first, the number counts: no turn is like the one before, and the walk never ends.
SEC("?tc") int bad_endless(struct __sk_buff *skb)
{
	volatile __u64 buffer[4] = {};
	__u64 at = 0;
	bpf_loop(skb->len, bump, &at, 0);
	return at > 3 ? 0 : buffer[at] & 1;
}

char _license[] SEC("license") = "GPL";
