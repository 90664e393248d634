// Pairs of programs about objects of their own: what `ok_x` does, the kernel accepts; `bad_x` differs in one thing.
#include <stdbool.h>
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

struct bpf_list_head {
	__u64 opaque[2];
} __attribute__((aligned(8)));
struct bpf_list_node {
	__u64 opaque[3];
} __attribute__((aligned(8)));
struct bpf_rb_root {
	__u64 opaque[2];
} __attribute__((aligned(8)));
struct bpf_rb_node {
	__u64 opaque[4];
} __attribute__((aligned(8)));
struct bpf_refcount {
	__u32 opaque[1];
} __attribute__((aligned(4)));
struct task_struct {
	int pid;
	char comm[16];
	struct task_struct *group_leader;
} __attribute__((preserve_access_index));

extern void *bpf_obj_new_impl(__u64 local_type_id, void *meta) __ksym;
extern void bpf_obj_drop_impl(void *object, void *meta) __ksym;
extern void *bpf_refcount_acquire_impl(void *object, void *meta) __ksym;
extern int bpf_list_push_front_impl(struct bpf_list_head *head, struct bpf_list_node *node, void *meta, __u64 off) __ksym;
extern struct bpf_list_node *bpf_list_pop_front(struct bpf_list_head *head) __ksym;
extern int bpf_rbtree_add_impl(struct bpf_rb_root *root, struct bpf_rb_node *node,
			       bool(less)(struct bpf_rb_node *a, const struct bpf_rb_node *b), void *meta,
			       __u64 off) __ksym;
extern struct bpf_rb_node *bpf_rbtree_first(struct bpf_rb_root *root) __ksym;
extern struct bpf_rb_node *bpf_rbtree_remove(struct bpf_rb_root *root, struct bpf_rb_node *node) __ksym;
extern struct task_struct *bpf_task_from_pid(int pid) __ksym;
extern struct task_struct *bpf_task_acquire(struct task_struct *task) __ksym;
extern void bpf_task_release(struct task_struct *task) __ksym;
extern void bpf_rcu_read_lock(void) __ksym;
extern void bpf_rcu_read_unlock(void) __ksym;

#define NEW(type) ((type *)bpf_obj_new_impl(bpf_core_type_id_local(type), NULL))
#define DROP(object) bpf_obj_drop_impl(object, NULL)
#define CONTAINS(type, node) __attribute__((btf_decl_tag("contains:" #type ":" #node)))
#define SECTION(name) SEC(".data." #name) __attribute__((visibility("hidden"), aligned(8)))
#define OUTER(node, type, member) ((type *)((char *)(node) - __builtin_offsetof(type, member)))
#define KEPT __attribute__((btf_type_tag("kptr")))

struct leaf {
	__u64 key;
	struct bpf_list_node in_list;
	struct bpf_spin_lock lock;
	__u64 value;
};
struct fruit {
	__u64 key;
	struct bpf_rb_node in_tree;
	struct bpf_refcount count;
	__u64 value;
};
struct branch {
	struct bpf_spin_lock lock;
	struct bpf_list_head leaves CONTAINS(leaf, in_list);
	__u64 value;
};
struct stored {
	__u64 value;
	struct fruit KEPT *fruit;
	struct task_struct KEPT *task;
};

SECTION(A) struct bpf_list_head list CONTAINS(leaf, in_list);
SECTION(A) struct bpf_spin_lock lock;
SECTION(A) struct bpf_rb_root tree CONTAINS(fruit, in_tree);
SECTION(A) __u64 plain;
SECTION(B) struct bpf_list_head other_list CONTAINS(leaf, in_list);
SECTION(B) struct bpf_spin_lock other_lock;

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, int);
	__type(value, struct stored);
} pointers SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, __u64);
} storages SEC(".maps");

#define PAIR_OF(type, name, what)                                        \
	SEC("?" type) int ok_##name(void *ctx) { return what(ctx, 0); } \
	SEC("?" type) int bad_##name(void *ctx) { return what(ctx, 1); }
#define PAIR(name) PAIR_OF("tc", name, name)
#define BODY static __attribute__((always_inline)) int

static bool less(struct bpf_rb_node *a, const struct bpf_rb_node *b)
{
	return OUTER(a, struct fruit, in_tree)->key < OUTER(b, struct fruit, in_tree)->key;
}

static bool less_unlocks(struct bpf_rb_node *a, const struct bpf_rb_node *b)
{
	bpf_spin_unlock(&lock);
	return 0;
}

static bool less_any(struct bpf_rb_node *a, const struct bpf_rb_node *b)
{
	return OUTER(a, struct fruit, in_tree)->in_tree.opaque[0] & 1;
}

BODY own(void *ctx, int bad)
{
	struct leaf *leaf = NEW(struct leaf);
	if (!leaf)
		return 0;
	leaf->value = leaf->key + 1;
	if (!bad)
		DROP(leaf);
	return 0;
}
PAIR(own)

BODY null(void *ctx, int bad)
{
	struct leaf *leaf = NEW(struct leaf);
	if (!bad && !leaf)
		return 0;
	DROP(leaf);
	return 0;
}
PAIR(null)

BODY dropped(void *ctx, int bad)
{
	struct leaf *leaf = NEW(struct leaf);
	if (!leaf)
		return 0;
	if (!bad)
		leaf->value = 1;
	DROP(leaf);
	if (bad)
		leaf->value = 1;
	return 0;
}
PAIR(dropped)

BODY fields(void *ctx, int bad)
{
	struct leaf *leaf = NEW(struct leaf);
	if (!leaf)
		return 0;
	*(__u32 *)((char *)leaf + (bad ? 24 : 40)) = 1;
	DROP(leaf);
	return 0;
}
PAIR(fields)

BODY inside(void *ctx, int bad)
{
	struct leaf *leaf = NEW(struct leaf);
	if (!leaf)
		return 0;
	*(__u64 *)((char *)&leaf->value + (bad ? 8 : 0)) = 1;
	DROP(leaf);
	return 0;
}
PAIR(inside)

BODY push(void *ctx, int bad)
{
	struct leaf *leaf = NEW(struct leaf);
	if (!leaf)
		return 0;
	bpf_spin_lock(bad ? &other_lock : &lock);
	bpf_list_push_front_impl(&list, &leaf->in_list, NULL, 0);
	bpf_spin_unlock(bad ? &other_lock : &lock);
	return 0;
}
PAIR(push)

BODY unlocked(void *ctx, int bad)
{
	struct leaf *leaf = NEW(struct leaf);
	if (!leaf)
		return 0;
	bpf_spin_lock(&lock);
	bpf_list_push_front_impl(&list, &leaf->in_list, NULL, 0);
	if (!bad)
		leaf->value = 1;
	bpf_spin_unlock(&lock);
	if (bad)
		leaf->value = 1;
	return 0;
}
PAIR(unlocked)

BODY node(void *ctx, int bad)
{
	struct leaf *leaf = NEW(struct leaf);
	if (!leaf)
		return 0;
	bpf_spin_lock(&lock);
	bpf_list_push_front_impl(&list, (void *)leaf + (bad ? 0 : 8), NULL, 0);
	bpf_spin_unlock(&lock);
	return 0;
}
PAIR(node)

BODY head(void *ctx, int bad)
{
	struct leaf *leaf = NEW(struct leaf);
	if (!leaf)
		return 0;
	bpf_spin_lock(&lock);
	bpf_list_push_front_impl((void *)&list + (bad ? 8 : 0), &leaf->in_list, NULL, 0);
	bpf_spin_unlock(&lock);
	return 0;
}
PAIR(head)

BODY twice(void *ctx, int bad)
{
	struct leaf *leaf = NEW(struct leaf);
	if (!leaf)
		return 0;
	bpf_spin_lock(&lock);
	bpf_list_push_front_impl(&list, &leaf->in_list, NULL, 0);
	if (bad)
		bpf_list_push_front_impl(&list, &leaf->in_list, NULL, 0);
	bpf_spin_unlock(&lock);
	return 0;
}
PAIR(twice)

BODY pop(void *ctx, int bad)
{
	bpf_spin_lock(&lock);
	struct bpf_list_node *node = bpf_list_pop_front(&list);
	bpf_spin_unlock(&lock);
	if (!node)
		return 0;
	DROP((void *)node - (bad ? 0 : 8));
	return 0;
}
PAIR(pop)

BODY kept(void *ctx, int bad)
{
	bpf_spin_lock(&lock);
	struct bpf_list_node *node = bpf_list_pop_front(&list);
	bpf_spin_unlock(&lock);
	if (!node || bad)
		return 0;
	DROP(OUTER(node, struct leaf, in_list));
	return 0;
}
PAIR(kept)

BODY list_in_object(void *ctx, int bad)
{
	struct branch *branch = NEW(struct branch);
	struct leaf *leaf;
	if (!branch)
		return 0;
	leaf = NEW(struct leaf);
	if (!leaf) {
		DROP(branch);
		return 0;
	}
	bpf_spin_lock(bad ? &leaf->lock : &branch->lock);
	bpf_list_push_front_impl(&branch->leaves, &leaf->in_list, NULL, 0);
	bpf_spin_unlock(bad ? &leaf->lock : &branch->lock);
	DROP(branch);
	return 0;
}
PAIR(list_in_object)

BODY add(void *ctx, int bad)
{
	struct fruit *fruit = NEW(struct fruit);
	if (!fruit)
		return 0;
	bpf_spin_lock(&lock);
	bpf_rbtree_add_impl(&tree, &fruit->in_tree, bad ? less_unlocks : less, NULL, 0);
	bpf_spin_unlock(&lock);
	return 0;
}
PAIR(add)

__attribute__((noinline)) int less_global(struct bpf_rb_node *a, const struct bpf_rb_node *b)
{
	return a != b;
}

BODY static_less(void *ctx, int bad)
{
	struct fruit *fruit = NEW(struct fruit);
	if (!fruit)
		return 0;
	bpf_spin_lock(&lock);
	bpf_rbtree_add_impl(&tree, &fruit->in_tree, bad ? (void *)less_global : less, NULL, 0);
	bpf_spin_unlock(&lock);
	return 0;
}
PAIR(static_less)

BODY compare(void *ctx, int bad)
{
	struct fruit *fruit = NEW(struct fruit);
	if (!fruit)
		return 0;
	bpf_spin_lock(&lock);
	bpf_rbtree_add_impl(&tree, &fruit->in_tree, bad ? less_any : less, NULL, 0);
	bpf_spin_unlock(&lock);
	return 0;
}
PAIR(compare)

BODY first(void *ctx, int bad)
{
	struct bpf_rb_node *node;
	__u64 key = 0;
	bpf_spin_lock(&lock);
	node = bpf_rbtree_first(&tree);
	if (node && !bad)
		key = OUTER(node, struct fruit, in_tree)->key;
	bpf_spin_unlock(&lock);
	if (node && bad)
		key = OUTER(node, struct fruit, in_tree)->key;
	return key & 1;
}
PAIR(first)

BODY borrowed(void *ctx, int bad)
{
	struct bpf_rb_node *node;
	bpf_spin_lock(&lock);
	node = bpf_rbtree_first(&tree);
	if (!node) {
		bpf_spin_unlock(&lock);
		return 0;
	}
	if (!bad)
		node = bpf_rbtree_remove(&tree, node);
	bpf_spin_unlock(&lock);
	if (node)
		DROP(OUTER(node, struct fruit, in_tree));
	return 0;
}
PAIR(borrowed)

BODY again(void *ctx, int bad)
{
	struct fruit *fruit = NEW(struct fruit), *more;
	if (!fruit)
		return 0;
	more = bpf_refcount_acquire_impl(fruit, NULL);
	bpf_spin_lock(&lock);
	bpf_rbtree_add_impl(&tree, &fruit->in_tree, less, NULL, 0);
	bpf_spin_unlock(&lock);
	more->value = 1;
	if (!bad)
		DROP(more);
	return 0;
}
PAIR(again)

BODY counted(void *ctx, int bad)
{
	struct fruit *fruit = NEW(struct fruit);
	struct leaf *leaf;
	void *more;
	if (!fruit)
		return 0;
	leaf = NEW(struct leaf);
	if (!leaf) {
		DROP(fruit);
		return 0;
	}
	more = bpf_refcount_acquire_impl(bad ? (void *)leaf : (void *)fruit, NULL);
	DROP(more);
	DROP(fruit);
	DROP(leaf);
	return 0;
}
PAIR(counted)

BODY variable(void *ctx, int bad)
{
	return *(volatile __u32 *)((char *)&plain - (bad ? 24 : 0)) & 1;
}
PAIR(variable)

BODY exchange(void *ctx, int bad)
{
	struct fruit *fruit = NEW(struct fruit), *old;
	int key = 0;
	struct stored *stored = bpf_map_lookup_elem(&pointers, &key);
	if (!fruit)
		return 0;
	if (!stored) {
		DROP(fruit);
		return 0;
	}
	old = bpf_kptr_xchg((void *)stored + (bad ? 16 : 8), fruit);
	if (old)
		DROP(old);
	return 0;
}
PAIR(exchange)

BODY take_out(void *ctx, int bad)
{
	struct fruit *old;
	int key = 0;
	struct stored *stored = bpf_map_lookup_elem(&pointers, &key);
	if (!stored)
		return 0;
	old = bpf_kptr_xchg(&stored->fruit, NULL);
	if (old && !bad)
		DROP(old);
	return 0;
}
PAIR(take_out)

BODY store(void *ctx, int bad)
{
	int key = 0;
	struct stored *stored = bpf_map_lookup_elem(&pointers, &key);
	if (!stored)
		return 0;
	*(volatile __u64 *)((void *)stored + (bad ? 8 : 0)) = 0;
	return 0;
}
PAIR(store)

BODY task(void *ctx, int bad)
{
	struct task_struct *task = bpf_task_from_pid(1), *old;
	int key = 0;
	struct stored *stored = bpf_map_lookup_elem(&pointers, &key);
	if (!task)
		return 0;
	if (!stored) {
		bpf_task_release(task);
		return 0;
	}
	old = bpf_kptr_xchg(&stored->task, task);
	if (old && !bad)
		bpf_task_release(old);
	return 0;
}
PAIR_OF("tp_btf/sched_switch", task, task)

BODY shown(void *ctx, int bad)
{
	struct task_struct *task;
	int key = 0, pid = 0;
	struct stored *stored = bpf_map_lookup_elem(&pointers, &key);
	if (!stored)
		return 0;
	bpf_rcu_read_lock();
	task = stored->task;
	if (task || bad)
		pid = task->pid;
	bpf_rcu_read_unlock();
	return pid;
}
PAIR_OF("tp_btf/sched_switch", shown, shown)

BODY alive(void *ctx, int bad)
{
	struct task_struct *task, *more;
	int key = 0;
	struct stored *stored = bpf_map_lookup_elem(&pointers, &key);
	if (!stored)
		return 0;
	bpf_rcu_read_lock();
	task = stored->task;
	if (!task) {
		bpf_rcu_read_unlock();
		return 0;
	}
	if (bad)
		bpf_rcu_read_unlock();
	more = bpf_task_acquire(task);
	if (!bad)
		bpf_rcu_read_unlock();
	if (more)
		bpf_task_release(more);
	return 0;
}
PAIR_OF("tp_btf/sched_switch", alive, alive)

BODY memory(void *ctx, int bad)
{
	struct task_struct *task = (void *)((__u64 *)ctx)[1];
	return bpf_strncmp(task->comm, bad ? 17 : 16, "x");
}
PAIR_OF("tp_btf/sched_switch", memory, memory)

BODY map_itself(void *ctx, int bad)
{
	return ((volatile __u32 *)&pointers)[bad ? -1 : 6] & 1;
}
PAIR(map_itself)

BODY storage(void *ctx, int bad)
{
	struct task_struct *task = bad ? (void *)((__u64 *)ctx)[0] : (void *)((__u64 *)ctx)[1];
	__u64 *own = bpf_task_storage_get(&storages, (void *)task, NULL, 0);
	return own ? *own & 1 : 0;
}
PAIR_OF("tp_btf/sched_switch", storage, storage)

BODY mixed(void *ctx, int bad)
{
	struct task_struct *task = (void *)((__u64 *)ctx)[1];
	int pid;
	if (((__u64 *)ctx)[0])
		task = bad ? ctx : task->group_leader;
	asm volatile("%[pid] = *(u32 *)(%[task] + 8)" : [pid] "=r"(pid) : [task] "r"(task));
	return pid;
}
PAIR_OF("tp_btf/sched_switch", mixed, mixed)

char _license[] SEC("license") = "GPL";
