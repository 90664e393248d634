// CO-RE records of every class of instruction that carries them.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

enum colour {
	RED = 3,
	GREEN = 5,
};

struct inner {
	int pad[3];
	long long value;
} __attribute__((preserve_access_index));

struct outer {
	char name[16];
	struct inner parts[4];
	struct inner *next;
	unsigned flag_a : 3;
	unsigned flag_b : 9;
	int tail;
} __attribute__((preserve_access_index));

struct event {
	long long sum;
	int size;
};

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
} events SEC(".maps");

SEC("raw_tp/sys_enter")
int reads(unsigned long long *ctx)
{
	struct outer *o = (void *)ctx[0];
	struct event *e = bpf_ringbuf_reserve(&events, sizeof(*e), 0);
	struct inner *next;

	if (!e)
		return 0;
	e->sum = BPF_CORE_READ(o, parts[2].value);
	bpf_core_read(&next, sizeof(next), &o->next);
	if (bpf_core_field_exists(o->tail))
		e->sum += BPF_CORE_READ(o, tail);
	e->sum += BPF_CORE_READ_BITFIELD_PROBED(o, flag_b);
	e->size = bpf_core_field_size(o->name);
	if (bpf_core_type_exists(struct inner))
		e->size += bpf_core_type_size(struct outer);
	e->size += bpf_core_enum_value(enum colour, GREEN);
	e->size += bpf_core_type_id_local(struct inner);
	bpf_ringbuf_submit(e, 0);
	return next != 0;
}

SEC("tp_btf/sched_switch")
int direct(unsigned long long *ctx)
{
	struct outer *o = (void *)ctx[1];

	return o->parts[1].pad[2] + o->tail + o->flag_a;
}

char LICENSE[] SEC("license") = "GPL";
