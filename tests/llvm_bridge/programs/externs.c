// External symbols: kconfig, ksym variables and functions, weak ones; and functions that data points at.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

extern int LINUX_KERNEL_VERSION __kconfig;
extern int CONFIG_HZ __kconfig __weak;
extern const void bpf_prog_active __ksym;
extern void bpf_rcu_read_lock(void) __ksym __weak;
extern void bpf_rcu_read_unlock(void) __ksym __weak;

struct operations {
	int (*init)(unsigned long long *ctx);
	void (*release)(unsigned long long *ctx);
	char name[16];
};

int stored;

SEC("struct_ops/init")
int ops_init(unsigned long long *ctx)
{
	stored = ctx[0];
	return stored > 3;
}

SEC("struct_ops/release")
void ops_release(unsigned long long *ctx)
{
	if (stored != (int)ctx[0])
		stored = 0;
}

SEC(".struct_ops")
struct operations table = {
	.init = ops_init,
	.release = ops_release,
	.name = "ops",
};

SEC("tc")
int target(struct __sk_buff *skb)
{
	return skb->len;
}

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 2);
	__uint(key_size, 4);
	__array(values, int (struct __sk_buff *));
} jumps SEC(".maps") = {
	.values = {
		[1] = &target,
	},
};

SEC("tc")
int caller(struct __sk_buff *skb)
{
	const void *active = &bpf_prog_active;

	if (LINUX_KERNEL_VERSION > 5 && CONFIG_HZ)
		bpf_tail_call(skb, &jumps, 1);
	if (bpf_rcu_read_lock) {
		bpf_rcu_read_lock();
		stored += skb->mark;
		bpf_rcu_read_unlock();
	}
	return (long)active >> 5;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
