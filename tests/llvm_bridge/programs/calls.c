// All four forms of a local call, callbacks, data of every sort, several programs in one section.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

// libbpf 1.x takes no static map and no static function outside .text: -DPLAIN makes an object that loads.
#ifdef PLAIN
#define BESIDE
#define STATIC
#else
#define BESIDE SEC("xdp")
#define STATIC static
#endif

struct key {
	__u32 a, b;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16);
	__type(key, struct key);
	__type(value, __u64);
} table SEC(".maps");

STATIC struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 4);
	__uint(map_flags, 0x80);
	__uint(key_size, 4);
	__uint(value_size, 12);
} hidden SEC(".maps");

const volatile int limit = 5;
const volatile int rates[8] = { 1, 2, 3 };
int counter;
static volatile int private_value = 7;
static volatile int private_array[4];

static __noinline int helper(int x, int *y)
{
	counter += x;
	*y = x;
	return x * 3;
}

__noinline int global_sub(int x)
{
	private_value += x;
	return x * counter;
}

__attribute__((visibility("hidden"))) __noinline int hidden_sub(int x, struct key *k)
{
	if (!k)
		return 0;
	return global_sub(x) + k->a;
}

static __noinline int deeper(int x)
{
	int y = 0;

	return helper(x, &y) + y;
}

static long step(__u32 index, void *ctx)
{
	*(int *)ctx += rates[index & 7];
	return 0;
}

static __noinline BESIDE int beside(int x)
{
	private_array[x & 3] = x;
	return private_array[(x + 1) & 3];
}

SEC("xdp")
int first(struct xdp_md *ctx)
{
	struct key k = { 1, limit };
	int z = 0;
	__u64 *v = bpf_map_lookup_elem(&table, &k);

	if (!v)
		return XDP_PASS;
	*v += helper(ctx->ingress_ifindex, &z);
	return global_sub(z) + beside(z);
}

SEC("xdp")
int second(struct xdp_md *ctx)
{
	int zero = 0, sum = 0;
	int *v = bpf_map_lookup_elem(&hidden, &zero);

	for (int i = 0; i < 7; i++) {
		if (v && v[1] > i)
			sum += deeper(i);
		else
			sum ^= beside(sum);
	}
	return sum;
}

SEC("tc")
int third(struct __sk_buff *skb)
{
	struct key k = { 3, 4 };
	int z = 0;

	bpf_loop(10, step, &z, 0);
	return hidden_sub(z, &k) + deeper(skb->len);
}

char LICENSE[] SEC("license") = "GPL";
