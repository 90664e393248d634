// Object files through libbpf, every program judged by itself.
//
// After the kind: u32 log level, u32 count of names, u32 size of the object, then the names (u32 length, bytes) and the
// object.  The answer to the i-th name has the question's index plus i.  Section stems (kind 2): u32 count, then rows
// of u32 program type, char stem[28]: what libbpf before 1.0 took a section's name for.
//
// libbpf loads all programs of an object or none.  Here each PROG_LOAD on its way out is answered by `judge`, and
// libbpf is told that it succeeded, so one pass gives every program its own word.
#include "loader.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define STEM_BYTES 28
#define MESSAGES 8192
#define MAX_NAMES 4096

struct stem {
  uint32_t type;
  char text[STEM_BYTES];
};

static const struct stem* stems;
static uint32_t stem_count;
static char messages[MESSAGES];
static size_t message_length;

static struct bpf_object* current;
static const char* wanted[MAX_NAMES];  // NULL once answered
static uint32_t wanted_count, first_index, level;

void learn_stems(struct reader* from) {
  stem_count = take_u32(from);
  stems = take(from, stem_count * sizeof(struct stem));
}

static int keep_message(enum libbpf_print_level kind, const char* format, va_list arguments) {
  int added;

  if (kind == LIBBPF_DEBUG) return 0;
  if (message_length > MESSAGES / 2)  // the end counts
    message_length = 0;
  added = vsnprintf(messages + message_length, MESSAGES - message_length, format, arguments);
  if (added > 0)
    message_length += (size_t)added < MESSAGES - message_length ? (size_t)added : MESSAGES - message_length - 1;
  return 0;
}

static int index_of(const char* name) {
  for (uint32_t i = 0; i < wanted_count; i++)
    if (wanted[i] && !strcmp(wanted[i], name)) return (int)i;
  return -1;
}

static int harmless_program(void) {
  static const struct bpf_insn nothing[] = {{.code = 0xb7}, {.code = 0x95}};
  union bpf_attr attr;

  memset(&attr, 0, sizeof(attr));
  attr.prog_type = BPF_PROG_TYPE_SOCKET_FILTER;
  attr.insns = (uint64_t)(uintptr_t)nothing;
  attr.insn_cnt = 2;
  attr.license = (uint64_t)(uintptr_t)"GPL";
  return (int)bpf_call(BPF_PROG_LOAD, &attr, sizeof(attr));
}

static int answer_load(const char* name, union bpf_attr* attr, size_t size) {
  struct answer answer;
  int i = index_of(name), fd;

  if (i >= 0) {
    say_started(first_index + (uint32_t)i);
    fd = judge(attr, size, level, &answer);
    say(first_index + (uint32_t)i, &answer);
    wanted[i] = NULL;
    if (fd >= 0) return fd;
  }
  return harmless_program();
}

long __real_syscall(long number, ...);
long __wrap_syscall(long number, long a, long b, long c, long d, long e, long f);

long __wrap_syscall(long number, long a, long b, long c, long d, long e, long f) {
  union bpf_attr* attr = (union bpf_attr*)b;
  struct bpf_program* program;

  if (number == SYS_bpf && a == BPF_PROG_LOAD && current)
    bpf_object__for_each_program(program, current) if (attr->insns ==
                                                       (uint64_t)(uintptr_t)bpf_program__insns(
                                                           program)) return answer_load(bpf_program__name(program),
                                                                                        attr, (size_t)c);
  return __real_syscall(number, a, b, c, d, e, f);
}

// For maps whose size the object leaves to its user program.
static uint32_t least_entries(enum bpf_map_type type) {
  switch (type) {
    case BPF_MAP_TYPE_RINGBUF:
    case BPF_MAP_TYPE_USER_RINGBUF: return (uint32_t)getpagesize();
    case BPF_MAP_TYPE_HASH:
    case BPF_MAP_TYPE_ARRAY:
    case BPF_MAP_TYPE_PROG_ARRAY:
    case BPF_MAP_TYPE_PERCPU_HASH:
    case BPF_MAP_TYPE_PERCPU_ARRAY:
    case BPF_MAP_TYPE_STACK_TRACE:
    case BPF_MAP_TYPE_CGROUP_ARRAY:
    case BPF_MAP_TYPE_LRU_HASH:
    case BPF_MAP_TYPE_LRU_PERCPU_HASH:
    case BPF_MAP_TYPE_LPM_TRIE:
    case BPF_MAP_TYPE_ARRAY_OF_MAPS:
    case BPF_MAP_TYPE_HASH_OF_MAPS:
    case BPF_MAP_TYPE_DEVMAP:
    case BPF_MAP_TYPE_DEVMAP_HASH:
    case BPF_MAP_TYPE_SOCKMAP:
    case BPF_MAP_TYPE_SOCKHASH:
    case BPF_MAP_TYPE_CPUMAP:
    case BPF_MAP_TYPE_XSKMAP:
    case BPF_MAP_TYPE_QUEUE:
    case BPF_MAP_TYPE_STACK:
    case BPF_MAP_TYPE_BLOOM_FILTER: return 1;
    default:  // storage maps want 0; libbpf sizes perf_event_array
      return 0;
  }
}

static void prepare(struct bpf_object* object, const char* only) {
  struct bpf_program* program;
  struct bpf_map* map;

  bpf_object__for_each_program(program, object) {
    const char* name = bpf_program__name(program);

    bpf_program__set_autoload(program, only ? !strcmp(only, name) : index_of(name) >= 0);
    if (bpf_program__type(program) != BPF_PROG_TYPE_UNSPEC) continue;
    for (uint32_t i = 0; i < stem_count; i++)
      if (!strncmp(bpf_program__section_name(program), stems[i].text, strlen(stems[i].text))) {
        bpf_program__set_type(program, stems[i].type);
        break;
      }
  }
  bpf_object__for_each_map(map, object) {
    bpf_map__set_pin_path(map, NULL);
    if (!bpf_map__max_entries(map)) bpf_map__set_max_entries(map, least_entries(bpf_map__type(map)));
  }
}

// One attempt; only the programs that libbpf reaches are answered.
static int attempt(const void* data, size_t size, const char* only) {
  LIBBPF_OPTS(bpf_object_open_opts, options, .object_name = "k2");
  struct bpf_object* object;
  int error;

  message_length = 0;
  messages[0] = 0;
  errno = 0;
  object = bpf_object__open_mem(data, size, &options);
  if (!object) return errno ? errno : EINVAL;
  prepare(object, only);
  current = object;
  error = -bpf_object__load(object);
  current = NULL;
  bpf_object__close(object);
  return error;
}

void ask_object(struct reader* from, uint32_t index) {
  struct answer answer = {UNASKED, 0, messages};
  static char names[MAX_NAMES][128];
  const void* data;
  uint32_t size;

  level = take_u32(from);
  wanted_count = take_u32(from);
  size = take_u32(from);
  first_index = index;
  for (uint32_t i = 0; i < wanted_count; i++) {
    uint32_t length = take_u32(from);
    const void* text = take(from, length);

    if (i >= MAX_NAMES || length >= sizeof(names[0])) continue;
    memcpy(names[i], text, length);
    names[i][length] = 0;
    wanted[i] = names[i];
  }
  data = take(from, size);
  libbpf_set_print(keep_message);
  say_started(index);
  answer.error = attempt(data, size, NULL);
  for (uint32_t i = 0; i < wanted_count; i++) {
    if (!wanted[i]) continue;
    say_started(index + i);
    if (wanted_count > 1) answer.error = attempt(data, size, wanted[i]);
    if (!wanted[i]) continue;
    if (!messages[0]) strcpy(messages, "no such program");
    say(index + i, &answer);
    wanted[i] = NULL;
  }
}
