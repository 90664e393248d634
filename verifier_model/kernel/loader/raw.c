// Raw programs: encoded instructions, with maps made for them.
//
// After the kind: u32 program type, attach type, program flags, log level; counts of maps, relocations and function
// records; u32 size of BTF; u32 instructions; char licence[16], attach[64] (what a tracing
// program is for, see `target`, or empty).  Then the maps (`struct map_row`), their contents, relocations (u32 slot,
// u32 map), function records (struct bpf_func_info), BTF, instructions.
#include "loader.h"

#include <bpf/btf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MAX_MAPS 64
#define POOL 512
#define NO_INNER 0

struct map_row {
  uint32_t type, key_size, value_size, max_entries, flags;
  uint32_t inner;                    // 1 + index of an earlier map of the question, or 0
  uint32_t btf_key, btf_value;       // type numbers in the question's BTF
  uint32_t content_size, is_frozen;  // bytes for the entry with key 0; no more writes from user space
};

struct header {
  uint32_t type, attach_type, flags, level, maps, relocations, functions, btf_size, insns;
  char licence[16], attach[64];
};

static struct pooled {
  struct map_row row;
  int fd, is_taken;
} pool[POOL];
static int pool_size;

static void empty_pool(void) {
  while (pool_size) close(pool[--pool_size].fd);
}

// Only maps that no program leaves a trace in: nothing about the first user is remembered (as prog_array does).
static int may_pool(const struct map_row* row) {
  switch (row->type) {
    case BPF_MAP_TYPE_HASH:
    case BPF_MAP_TYPE_ARRAY:
    case BPF_MAP_TYPE_PERCPU_HASH:
    case BPF_MAP_TYPE_PERCPU_ARRAY:
    case BPF_MAP_TYPE_LRU_HASH:
    case BPF_MAP_TYPE_LPM_TRIE:
    case BPF_MAP_TYPE_RINGBUF:
    case BPF_MAP_TYPE_STACK_TRACE:
    case BPF_MAP_TYPE_PERF_EVENT_ARRAY:
    case BPF_MAP_TYPE_QUEUE:
    case BPF_MAP_TYPE_STACK:
      return !row->inner && !row->btf_key && !row->btf_value && !row->content_size && !row->is_frozen;
  }
  return 0;
}

static int make_map(const struct map_row* row, const int* fds, int btf_fd, const void* contents) {
  union bpf_attr attr;
  uint32_t zero = 0;
  int fd;

  memset(&attr, 0, sizeof(attr));
  attr.map_type = row->type;
  attr.key_size = row->key_size;
  attr.value_size = row->value_size;
  attr.max_entries = row->max_entries;
  attr.map_flags = row->flags;
  if (row->type == BPF_MAP_TYPE_PERF_EVENT_ARRAY && !row->max_entries)  // one for each CPU, as libbpf has it
    attr.max_entries = (uint32_t)libbpf_num_possible_cpus();
  if (row->inner) attr.inner_map_fd = (uint32_t)fds[row->inner - 1];
  if (row->btf_key || row->btf_value) {
    attr.btf_fd = (uint32_t)btf_fd;
    attr.btf_key_type_id = row->btf_key;
    attr.btf_value_type_id = row->btf_value;
  }
  fd = (int)bpf_call(BPF_MAP_CREATE, &attr, sizeof(attr));
  if (fd < 0) return fd;
  if (row->content_size) {
    memset(&attr, 0, sizeof(attr));
    attr.map_fd = (uint32_t)fd;
    attr.key = (uint64_t)(uintptr_t)&zero;
    attr.value = (uint64_t)(uintptr_t)contents;
    if (bpf_call(BPF_MAP_UPDATE_ELEM, &attr, sizeof(attr)) < 0) goto failed;
  }
  if (row->is_frozen) {
    memset(&attr, 0, sizeof(attr));
    attr.map_fd = (uint32_t)fd;
    if (bpf_call(BPF_MAP_FREEZE, &attr, sizeof(attr)) < 0) goto failed;
  }
  return fd;
failed:
  close(fd);
  return -1;
}

static int pooled_map(const struct map_row* row) {
  int fd, i;

  for (i = 0; i < pool_size; i++)
    if (!pool[i].is_taken && !memcmp(&pool[i].row, row, sizeof(*row))) break;
  if (i == pool_size) {
    fd = make_map(row, NULL, -1, NULL);
    if (fd < 0) return fd;
    pool[i].row = *row;
    pool[i].fd = fd;
    pool_size++;
  }
  pool[i].is_taken = 1;
  return pool[i].fd;
}

static int load_btf(const void* data, uint32_t size) {
  union bpf_attr attr;

  memset(&attr, 0, sizeof(attr));
  attr.btf = (uint64_t)(uintptr_t)data;
  attr.btf_size = size;
  return (int)bpf_call(BPF_BTF_LOAD, &attr, sizeof(attr));
}

static int member_index(const struct btf* kernel, int id, const char* name) {
  const struct btf_type* structure = btf__type_by_id(kernel, (uint32_t)id);
  int i;

  for (i = 0; i < btf_vlen(structure); i++)
    if (!strcmp(btf__name_by_offset(kernel, btf_members(structure)[i].name_off), name)) return i;
  return -1;
}

static int find_target(const struct btf* kernel, const char* name, uint32_t attach_type) {
  const char* prefix = "";
  uint32_t kind = BTF_KIND_FUNC;
  char full[128];

  if (attach_type == BPF_TRACE_RAW_TP) {
    prefix = "btf_trace_";
    kind = BTF_KIND_TYPEDEF;
  } else if (attach_type == BPF_LSM_MAC || attach_type == BPF_LSM_CGROUP) {
    prefix = "bpf_lsm_";
  } else if (attach_type == BPF_TRACE_ITER) {
    prefix = "bpf_iter_";
  }
  snprintf(full, sizeof(full), "%s%s", prefix, name);
  return btf__find_by_name_kind(kernel, full, kind);
}

// The kernel's type number of what a program is for: a function, named without the prefix of its attach type, or, for
// "struct S.member", the structure, with the member's index as the attach type.  Negative: there is none.
// The types are read once, and the last search is remembered: both take long in an emulated kernel.
static int target(struct header* head) {
  static struct btf* kernel;
  static char last_name[sizeof(head->attach)];
  static uint32_t last_type;
  static int last_id, last_member;
  char name[sizeof(head->attach)];
  char* member = NULL;

  if (!kernel) kernel = btf__load_vmlinux_btf();
  if (!kernel) return -1;
  if (strcmp(last_name, head->attach) || last_type != head->attach_type) {
    memcpy(last_name, head->attach, sizeof(last_name));
    last_type = head->attach_type;
    last_member = -1;
    if (strncmp(head->attach, "struct ", 7)) {
      last_id = find_target(kernel, head->attach, head->attach_type);
    } else {
      snprintf(name, sizeof(name), "%s", head->attach + 7);
      member = strchr(name, '.');
      if (member) *member++ = 0;
      last_id = member ? btf__find_by_name_kind(kernel, name, BTF_KIND_STRUCT) : -1;
      if (last_id >= 0) last_member = member_index(kernel, last_id, member);
      if (last_member < 0) last_id = -1;
    }
  }
  if (last_id >= 0 && last_member >= 0) head->attach_type = (uint32_t)last_member;
  return last_id;
}

struct work {
  struct header head;
  struct map_row rows[MAX_MAPS];
  int fds[MAX_MAPS], owned[MAX_MAPS];
  int btf_fd;
  const char* trouble;
};

static void make_maps(struct work* work, struct reader* from) {
  uint32_t i;

  for (i = 0; i < work->head.maps; i++) {
    struct map_row* row = &work->rows[i];
    const void* contents = take(from, row->content_size);

    if (work->trouble) continue;
    work->owned[i] = !may_pool(row);
    if (row->inner > i || ((row->btf_key || row->btf_value) && work->btf_fd < 0)) {
      work->trouble = "a map's inner map or BTF is missing";
      continue;
    }
    work->fds[i] = work->owned[i] ? make_map(row, work->fds, work->btf_fd, contents) : pooled_map(row);
    if (work->fds[i] < 0) work->trouble = "a map cannot be made";
  }
}

static void relocate(struct work* work, const uint32_t* relocations, struct bpf_insn* insns) {
  uint32_t i;

  for (i = 0; i < work->head.relocations; i++) {
    uint32_t slot = relocations[2 * i], map = relocations[2 * i + 1];

    if (slot >= work->head.insns || map >= work->head.maps) {
      work->trouble = "a relocation leads nowhere";
      return;
    }
    insns[slot].imm = work->fds[map];
  }
}

static void ask(struct work* work, uint32_t index, const void* functions, const struct bpf_insn* insns) {
  struct header* head = &work->head;
  struct answer answer = {UNASKED, errno, work->trouble};
  union bpf_attr attr;
  int fd;

  memset(&attr, 0, sizeof(attr));
  if (head->attach[0] && !work->trouble) {
    int id = target(head);

    if (id < 0)
      work->trouble = "what the program attaches to is not in the kernel's BTF";
    else
      attr.attach_btf_id = (uint32_t)id;
  }
  attr.prog_type = head->type;
  attr.expected_attach_type = head->attach_type;
  attr.prog_flags = head->flags;
  attr.insns = (uint64_t)(uintptr_t)insns;
  attr.insn_cnt = head->insns;
  attr.license = (uint64_t)(uintptr_t)head->licence;
  if (head->btf_size && work->btf_fd >= 0 && head->functions) {
    attr.prog_btf_fd = (uint32_t)work->btf_fd;
    attr.func_info = (uint64_t)(uintptr_t)functions;
    attr.func_info_cnt = head->functions;
    attr.func_info_rec_size = sizeof(struct bpf_func_info);
  }
  if (!work->trouble) {
    fd = judge(&attr, sizeof(attr), head->level, &answer);
    if (fd >= 0) close(fd);
  } else {
    answer.log = work->trouble;
  }
  say(index, &answer);
}

void ask_raw(struct reader* from, uint32_t index) {
  static struct work work;
  const uint8_t *functions, *btf;
  struct bpf_insn* insns;
  struct reader contents;
  uint32_t* relocations;
  size_t content_size = 0;
  uint32_t i;

  say_started(index);
  memset(&work, 0, sizeof(work));
  memcpy(&work.head, take(from, sizeof(work.head)), sizeof(work.head));
  if (work.head.maps > MAX_MAPS) {
    struct answer answer = {UNASKED, E2BIG, "too many maps"};

    say(index, &answer);
    return;
  }
  memcpy(work.rows, take(from, work.head.maps * sizeof(struct map_row)), work.head.maps * sizeof(struct map_row));
  for (i = 0; i < work.head.maps; i++) content_size += work.rows[i].content_size;
  contents.at = take(from, content_size);
  contents.end = contents.at + content_size;
  relocations = malloc(work.head.relocations * 8u + 1);
  memcpy(relocations, take(from, work.head.relocations * 8u), work.head.relocations * 8u);
  functions = take(from, work.head.functions * sizeof(struct bpf_func_info));
  btf = take(from, work.head.btf_size);
  insns = malloc(work.head.insns * 8u + 1);
  memcpy(insns, take(from, work.head.insns * 8u), work.head.insns * 8u);

  work.btf_fd = work.head.btf_size ? load_btf(btf, work.head.btf_size) : -1;
  if (work.head.btf_size && work.btf_fd < 0) work.trouble = "the kernel refuses the BTF";
  for (i = 0; i < work.head.maps; i++) work.fds[i] = -1;
  if (pool_size + MAX_MAPS > POOL) empty_pool();
  make_maps(&work, &contents);
  if (!work.trouble) relocate(&work, relocations, insns);
  ask(&work, index, functions, insns);

  for (i = 0; i < (uint32_t)pool_size; i++) pool[i].is_taken = 0;
  for (i = work.head.maps; i-- > 0;)
    if (work.owned[i] && work.fds[i] >= 0) close(work.fds[i]);
  if (work.btf_fd >= 0) close(work.btf_fd);
  free(relocations);
  free(insns);
}
