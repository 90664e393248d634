"""C programs around kernel objects, CO-RE, kfuncs and global functions: each with a twin that the kernel refuses.

`HEAD` declares just as much of the kernel as they need; CO-RE finds the rest.
"""

from __future__ import annotations

from typing import NamedTuple

HEAD = r"""
typedef unsigned char u8; typedef unsigned int u32; typedef unsigned long long u64; typedef int s32;
#define SEC(n) __attribute__((section(n), used))
#define CORE __attribute__((preserve_access_index))
#define KSYM __attribute__((section(".ksyms")))
#define WEAK __attribute__((weak))
struct css_set { int nothing; } CORE;
struct cred { struct { u32 val; } uid; } CORE;
struct mm_struct { u64 total_vm; } CORE;
struct task_struct { int pid; int tgid; struct task_struct *real_parent; struct task_struct *group_leader;
                     struct mm_struct *mm; char comm[16]; u64 start_time; } CORE;
struct inode { u64 i_ino; } CORE;
struct file { struct inode *f_inode; u32 f_flags; } CORE;
struct sk_buff { u32 len; u32 data_len; } CORE;
struct seq_file { u64 index; } CORE;
struct bpf_iter_meta { struct seq_file *seq; u64 session_id; u64 seq_num; } CORE;
struct bpf_iter__task { struct bpf_iter_meta *meta; struct task_struct *task; } CORE;
struct __sk_buff { u32 len; u32 pkt_type; u32 mark; } CORE;
struct xdp_md { u32 data; u32 data_end; } CORE;
struct pt_regs { u64 di; u64 si; } CORE;
struct bpf_cpumask { int nothing; } CORE;
static struct task_struct *(*current)(void) = (void *)158;
static long (*probe_read_kernel)(void *, u32, const void *) = (void *)113;
static long (*seq_write)(struct seq_file *, const void *, u32) = (void *)127;
static u64 (*get_current_task)(void) = (void *)35;
char _license[] SEC("license") = "LICENSE";
"""


class Program(NamedTuple):
    """`twin`: what to replace in the text to make the program that the kernel refuses.

    `typed`: only the kernel's own types tell that it may be taken.  `variable`: a symbol of the kernel's data, which
    only kernels with CONFIG_KALLSYMS_ALL find.
    """

    name: str
    text: str
    twin: tuple[str, str]
    license: str = "GPL"
    variable: str = ""
    typed: bool = False


TASK = 'SEC("tp_btf/sched_switch") int p(u64 *ctx) { struct task_struct *t = (void *)ctx[1]; '
REFERENCES = (
    "struct task_struct *bpf_task_acquire(struct task_struct *p) KSYM; "
    "void bpf_task_release(struct task_struct *p) KSYM; "
)
CONNECTIONS = (
    "struct nf_conn { u64 status; u32 mark; } CORE; struct nf_conn___init { u64 status; }; "
    "struct bpf_sock_tuple { u32 saddr; u32 daddr; unsigned short sport, dport; u8 rest[24]; }; "
    "struct bpf_ct_opts { s32 netns_id; s32 error; u8 l4proto; u8 dir; u8 reserved[2]; }; "
    "struct nf_conn___init *bpf_xdp_ct_alloc(struct xdp_md *c, struct bpf_sock_tuple *t, u32 tuple__sz, "
    "struct bpf_ct_opts *opts, u32 opts__sz) KSYM; "
    "struct nf_conn *bpf_xdp_ct_lookup(struct xdp_md *c, struct bpf_sock_tuple *t, u32 tuple__sz, "
    "struct bpf_ct_opts *opts, u32 opts__sz) KSYM; "
    "struct nf_conn *bpf_ct_insert_entry(struct nf_conn___init *ct) KSYM; "
    "void bpf_ct_set_timeout(struct nf_conn___init *ct, u32 timeout) KSYM; "
    "int bpf_ct_change_timeout(struct nf_conn *ct, u32 timeout) KSYM; void bpf_ct_release(struct nf_conn *ct) KSYM; "
    'SEC("xdp") int p(struct xdp_md *c) { struct bpf_sock_tuple t = {}; struct bpf_ct_opts o = {-1, 0, 6}; '
    "struct nf_conn___init *ct = bpf_xdp_ct_alloc(c, &t, 12, &o, 12); if (!ct) return 2; "
)
# The source declares one structure for both; the kernel goes by its own declarations.
DECLARED_ALIKE = CONNECTIONS.replace("struct nf_conn___init { u64 status; };", "").replace("___init", "")
SOCKETS = (
    "struct bpf_sock; struct { int (*type)[15]; int (*max_entries)[1]; u32 *key; u64 *value; } "
    'sockets SEC(".maps"); '
    "static long (*map_update_elem)(void *, const void *, const void *, u64) = (void *)2; "
    "static struct bpf_sock *(*sk_lookup_tcp)(void *, void *, u32, u64, u64) = (void *)84; "
    "static long (*sk_release)(void *) = (void *)86; "
)
PAIR = "struct m { u64 a, b; }; __attribute__((noinline)) int g(struct m *m) { if (!m) return 0; return m->a + m->b; } "
PROGRAMS = (
    Program(
        "a number in a task",
        TASK + "return t->pid; }",
        ("return t->pid", "return *(int *)((char *)t + 100000)"),
    ),
    Program(
        "a kernel object without the licence for it",
        TASK + "return t->pid; }",
        ('"GPL"', '"Proprietary"'),
    ),
    Program(
        "a pointer in a task leads to another",
        TASK + "return t->real_parent->group_leader->tgid; }",
        ("->tgid; }", "->tgid + *(u64 *)((char *)t->mm - 8); }"),
    ),
    Program(
        "kernel objects are read only",
        TASK + "return t->start_time; }",
        ("return t->start_time", "t->start_time = 0; return 0"),
    ),
    Program(
        "the first argument of sched_switch is a number",
        'SEC("tp_btf/sched_switch") int p(u64 *ctx) { return ctx[0]; }',
        ("ctx[0]", "((struct task_struct *)ctx[0])->pid"),
    ),
    Program(
        "sched_switch has four arguments",
        'SEC("tp_btf/sched_switch") int p(u64 *ctx) { return ctx[3]; }',
        ("ctx[3]", "ctx[4]"),
    ),
    Program(
        "an argument of an iterator may be NULL",
        'SEC("iter/task") int p(struct bpf_iter__task *ctx) { struct task_struct *t = ctx->task; '
        "struct seq_file *seq = ctx->meta->seq; u64 one = 1; if (!t) return 0; one = t->tgid; "
        "seq_write(seq, &one, 8); return 0; }",
        ("if (!t) return 0;", ""),
    ),
    Program(
        "the current task is one",
        'SEC("tp_btf/sched_switch") int p(u64 *ctx) { return current()->pid; }',
        ("current()", "((struct task_struct *)get_current_task())"),
    ),
    Program(
        "a field of the context by its name",
        'SEC("tc") int p(struct __sk_buff *skb) { return skb->mark; }',
        ("mark;", "no_such_field;"),
    ),
    Program(
        "the packet by its names",
        'SEC("xdp") int p(struct xdp_md *c) { u8 *d = (void *)(long)c->data; if (d + 1 > (u8 *)(long)c->data_end) '
        "return 1; return *d & 1 ? 1 : 2; }",
        ("d + 1 >", "d >"),
    ),
    Program(
        "registers by their names",
        'SEC("kprobe/x") int p(struct pt_regs *regs) { return regs->di + regs->si; }',
        ("regs->di + regs->si", "*((u64 *)regs + 21)"),
    ),
    Program(
        "a field that the kernel does not have, if asked first",
        "struct task_struct___other { int no_such_field; } CORE; " + TASK
        + "struct task_struct___other *o = (void *)t; if (__builtin_preserve_field_info(o->no_such_field, 2)) "
        "return o->no_such_field; return 0; }",
        ("if (__builtin_preserve_field_info(o->no_such_field, 2)) ", ""),
    ),
    Program(
        "an object that was acquired is given back",
        REFERENCES + TASK
        + "struct task_struct *a = bpf_task_acquire(t); if (!a) return 0; bpf_task_release(a); return 0; }",
        ("bpf_task_release(a);", ""),
    ),
    Program(
        "an acquired object may be NULL",
        REFERENCES + TASK
        + "struct task_struct *a = bpf_task_acquire(t); if (!a) return 0; bpf_task_release(a); return 0; }",
        ("if (!a) return 0;", ""),
    ),
    Program(
        "an object is given back once",
        REFERENCES + TASK
        + "struct task_struct *a = bpf_task_acquire(t); if (!a) return 0; bpf_task_release(a); return 0; }",
        ("bpf_task_release(a);", "bpf_task_release(a); bpf_task_release(a);"),
    ),
    Program(
        "only what is trusted can be acquired",
        REFERENCES + TASK
        + "struct task_struct *a = bpf_task_acquire(t->group_leader); if (!a) return 0; bpf_task_release(a); "
        "return 0; }",
        ("group_leader)", "mm)"),
    ),
    Program(
        "a connection that is not inserted is of another type",
        CONNECTIONS + "bpf_ct_set_timeout(ct, 1); struct nf_conn *in = bpf_ct_insert_entry(ct); "
        "if (in) bpf_ct_release(in); return 1; }",
        ("bpf_ct_set_timeout(ct, 1)", "bpf_ct_change_timeout((void *)ct, 1)"),
    ),
    Program(
        "what the source calls a connection that is not inserted stays one",
        DECLARED_ALIKE + "struct nf_conn *in = bpf_ct_insert_entry(ct); "
        "if (in) bpf_ct_release(in); return 1; }",
        ("bpf_ct_insert_entry(ct);", "ct;"),
    ),
    Program(
        "a connection's mark may be written",
        CONNECTIONS + "struct nf_conn *in = bpf_ct_insert_entry(ct); if (!in) return 1; in->mark = 7; "
        "bpf_ct_release(in); return 1; }",
        ("in->mark = 7", "in->status = 7"),
        typed=True,
    ),
    Program(
        "no memory of no bytes",
        CONNECTIONS + "struct nf_conn *in = bpf_ct_insert_entry(ct); if (in) bpf_ct_release(in); "
        "in = bpf_xdp_ct_lookup(c, 0, 0, &o, 12); if (in) bpf_ct_release(in); return 1; }",
        ("lookup(c, 0, 0", "lookup(c, 0, 4"),
        typed=True,
    ),
    Program(
        "a packet behind its projection",
        "struct bpf_dynptr { u64 opaque[2]; } __attribute__((aligned(8))); "
        "int bpf_dynptr_from_skb(struct __sk_buff *s, u64 flags, struct bpf_dynptr *p) KSYM; "
        'SEC("tp_btf/kfree_skb") int p(u64 *ctx) { struct bpf_dynptr d; '
        "return bpf_dynptr_from_skb((void *)ctx[0], 0, &d) & 1; }",
        ("(void *)ctx[0], 0", "(void *)current(), 0"),
    ),
    Program(
        "a socket may be put into a map of sockets",
        SOCKETS + 'SEC("tc") int p(struct __sk_buff *s) { u64 t[5] = {}; u32 key = 0; '
        "struct bpf_sock *k = sk_lookup_tcp(s, t, 12, -1, 0); if (!k) return 0; map_update_elem(&sockets, &key, k, 0); "
        "sk_release(k); return 0; }",
        ("&key, k, 0", "&key, t, 0"),
    ),
    Program(
        "iterators put sockets into maps of sockets",
        SOCKETS + "struct sock { int nothing; } CORE; "
        "struct bpf_iter__sockmap { struct bpf_iter_meta *meta; void *map; u32 *key; struct sock *sk; } CORE; "
        'SEC("iter/sockmap") int p(struct bpf_iter__sockmap *ctx) { struct sock *k = ctx->sk; u32 key = 0; '
        "if (!k) return 0; map_update_elem(&sockets, &key, k, 0); return 0; }",
        ("if (!k) return 0;", ""),
    ),
    Program(
        "a tracepoint that may be answered",
        'SEC("raw_tp.w/x") int p(u64 *ctx) { u32 *told = (void *)ctx[0]; told[1] = 1; return 0; }',
        ("told[1]", "told[-1]"),
    ),
    Program(
        "the arguments of a tracepoint as a structure",
        "struct bpf_raw_tracepoint_args { u64 args[0]; }; "
        "__attribute__((noinline)) int g(struct bpf_raw_tracepoint_args *a) { return a->args[1]; } "
        'SEC("raw_tp/x") int p(struct bpf_raw_tracepoint_args *a) { return g(a); }',
        ("return g(a)", "u64 x[2] = {}; return g((void *)x)"),
    ),
    Program(
        "operations made for tests may write their state",
        "struct bpf_dummy_ops_state { int val; } CORE; "
        "struct bpf_dummy_ops { int (*test_1)(struct bpf_dummy_ops_state *s); }; "
        'SEC("struct_ops/p") int p(u64 *ctx) { struct bpf_dummy_ops_state *s = (void *)ctx[0]; if (!s) return 0; '
        's->val = 1; return 0; } SEC(".struct_ops") struct bpf_dummy_ops ops = {.test_1 = (void *)p};',
        ("s->val = 1", "*(u32 *)((char *)s + 4) = 1"),
    ),
    Program(
        "kfuncs are for some program types",
        "struct bpf_cpumask *bpf_cpumask_create(void) KSYM; void bpf_cpumask_release(struct bpf_cpumask *m) KSYM; "
        'SEC("tp_btf/sched_switch") int p(u64 *ctx) { struct bpf_cpumask *m = bpf_cpumask_create(); if (!m) return 0; '
        "bpf_cpumask_release(m); return 0; }",
        ("tp_btf/sched_switch", "tc"),
    ),
    Program(
        "an RCU section is left again",
        "void bpf_rcu_read_lock(void) KSYM; void bpf_rcu_read_unlock(void) KSYM; "
        'SEC("tc") int p(struct __sk_buff *s) { bpf_rcu_read_lock(); bpf_rcu_read_unlock(); return 0; }',
        ("bpf_rcu_read_unlock(); return", "return"),
    ),
    Program(
        "a configuration value",
        'extern int LINUX_KERNEL_VERSION __attribute__((section(".kconfig"))); '
        'SEC("tc") int p(struct __sk_buff *s) { return LINUX_KERNEL_VERSION; }',
        ("return LINUX", "return ((u64 *)&LINUX_KERNEL_VERSION)[1] + LINUX"),
    ),
    Program(
        "an address in the kernel is a number",
        "extern const void schedule KSYM; "
        'SEC("raw_tp/x") int p(u64 *ctx) { u64 x = (u64)&schedule; probe_read_kernel(&x, 8, (void *)x); return x; }',
        ("return x;", "return *(u64 *)&schedule;"),
    ),
    Program(
        "a variable of another CPU",
        "struct rq { u32 nr_running; u32 cpu; } CORE; extern const struct rq runqueues KSYM; "
        "static void *(*per_cpu_ptr)(const void *, u32) = (void *)153; "
        'SEC("raw_tp/x") int p(u64 *ctx) { struct rq *rq = per_cpu_ptr(&runqueues, 0); if (!rq) return 0; '
        "return rq->nr_running; }",
        ("if (!rq) return 0;", ""),
        variable="runqueues",
    ),
    Program(
        "a variable of every CPU is none before one is chosen",
        "struct rq { u32 nr_running; u32 cpu; } CORE; extern const struct rq runqueues KSYM; "
        "static void *(*this_cpu_ptr)(const void *) = (void *)154; "
        'SEC("raw_tp/x") int p(u64 *ctx) { struct rq *rq = this_cpu_ptr(&runqueues); return rq->nr_running; }',
        ("this_cpu_ptr(&runqueues)", "(void *)&runqueues"),
        variable="runqueues",
    ),
    Program(
        "an element that an iterator shows",
        "struct bpf_iter__bpf_map_elem { struct bpf_iter_meta *meta; void *map; void *key; void *value; } CORE; "
        'SEC("iter/bpf_map_elem") int p(struct bpf_iter__bpf_map_elem *ctx) { u32 *key = ctx->key; '
        "u32 *value = ctx->value; if (!key || !value) return 0; *value = *key; return 0; }",
        ("*value = *key", "*key = *value"),
    ),
    Program(
        "the context as the kernel has it",
        "void *bpf_cast_to_kern_ctx(void *ctx) KSYM; "
        'SEC("tc") int p(struct __sk_buff *s) { struct sk_buff *k = bpf_cast_to_kern_ctx(s); return k->data_len; }',
        ("return k->data_len", "k->data_len = 1; return 0"),
    ),
    Program(
        "an address taken for a structure",
        "void *bpf_rdonly_cast(void *p, u32 id) KSYM; "
        + TASK
        + "struct mm_struct *m = bpf_rdonly_cast((void *)ctx[3], "
        "__builtin_btf_type_id(*(struct mm_struct *)0, 1)); return m->total_vm; }",
        ("return m->total_vm", "return *(u64 *)((char *)m - 8)"),
    ),
    Program(
        "a packet pointer is a number once the packet has moved",
        "static long (*xdp_adjust_tail)(void *, int) = (void *)65; "
        'SEC("xdp") int p(struct xdp_md *c) { u8 *d = (void *)(long)c->data; u8 *e = (void *)(long)c->data_end; '
        "if (d + 2 > e) return 1; u64 old = (u64)d; xdp_adjust_tail(c, -1); return (old & 1) + 1; }",
        ("return (old & 1) + 1", "return *(u8 *)old & 1"),
    ),
    Program(
        "congestion control writes some fields of its socket",
        "struct sock; struct tcp_sock { u32 snd_cwnd; u32 srtt_us; } CORE; "
        "struct tcp_congestion_ops { void (*init)(struct sock *sk); char name[16]; }; "
        'SEC("struct_ops/p") void p(u64 *ctx) { struct tcp_sock *tp = (void *)ctx[0]; tp->snd_cwnd = tp->srtt_us; } '
        'SEC(".struct_ops") struct tcp_congestion_ops ops = {.init = (void *)p, .name = "k2"};',
        ("tp->snd_cwnd = tp->srtt_us", "tp->srtt_us = tp->snd_cwnd"),
    ),
    Program(
        "congestion control sets socket options, but not at the end",
        "struct sock { int nothing; } CORE; struct tcp_congestion_ops { void (*init)(struct sock *sk); "
        "void (*release)(struct sock *sk); char name[16]; }; "
        "static long (*setsockopt)(void *, int, int, void *, int) = (void *)49; "
        'SEC("struct_ops/p") void p(u64 *ctx) { u64 value = 1; setsockopt((void *)ctx[0], 6, 13, &value, 8); } '
        'SEC(".struct_ops") struct tcp_congestion_ops ops = {.init = (void *)p, .name = "k2"};',
        (".init =", ".release ="),
    ),
    Program(
        "iterators over Unix sockets set socket options",
        "struct unix_sock { int nothing; } CORE; "
        "struct bpf_iter__unix { struct bpf_iter_meta *meta; struct unix_sock *unix_sk; u32 uid; } CORE; "
        "static long (*setsockopt)(void *, int, int, void *, int) = (void *)49; "
        'SEC("iter/unix") int p(struct bpf_iter__unix *ctx) { struct unix_sock *k = ctx->unix_sk; u32 value = 1; '
        "if (!k) return 0; setsockopt(k, 1, 7, &value, 4); return 0; }",
        ("iter/unix", "iter/udp"),
    ),
    Program(
        "a global function takes numbers",
        "__attribute__((noinline)) int g(int a) { return a * 3; } "
        'SEC("tc") int p(struct __sk_buff *s) { return g(s->len); }',
        ("g(s->len)", "g((int)(long)s)"),
    ),
    Program(
        "a global function's memory may be NULL",
        PAIR
        + 'SEC("tc") int p(struct __sk_buff *s) { struct m m = {s->len, s->mark}; return g(&m); }',
        ("if (!m) return 0;", ""),
    ),
    Program(
        "a global function's memory is as large as its type",
        PAIR
        + 'SEC("tc") int p(struct __sk_buff *s) { struct m m = {s->len, s->mark}; return g(&m); }',
        ("g(&m)", "g((struct m *)&m.b)"),
    ),
    Program(
        "a global function is verified even if its caller is fine",
        "__attribute__((noinline)) int g(struct __sk_buff *s, int i) { char b[8] = {}; if (i < 0 || i > 7) return 0; "
        "return b[i]; } "
        'SEC("tc") int p(struct __sk_buff *s) { return g(s, 3); }',
        ("i < 0 || i > 7", "i < 0 || i > 8"),
    ),
    Program(
        "a global function takes the context",
        "__attribute__((noinline)) int g(struct __sk_buff *s) { return s->mark; } "
        'SEC("tc") int p(struct __sk_buff *s) { return g(s); }',
        ("return g(s)", "u32 x[64] = {}; return g((void *)x)"),
    ),
)  # fmt: skip
