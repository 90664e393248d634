// Reads questions, asks the kernel it runs on, writes answers.  As a process: `loader QUESTIONS` answers on standard
// output.  As the init process of an emulated kernel: reads /questions, answers through qemu's debug console (port
// 0xe9) and ends the machine (port 0xf4).  Nothing is attached or pinned.
//
// All numbers little endian.  A question: u32 size of what follows, u32 index, u32 kind (0 raw program, 1 object,
// 2 section stems), then raw.c's or object.c's fields.  An answer: 'S' u32 index when work on it starts; 'A' u32 index,
// u8 verdict, i32 errno, u32 length, that many bytes of the log's end; 'E' when all is done.
#include "loader.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/io.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

#define CONSOLE_PORT 0xe9
#define EXIT_PORT 0xf4
#define KEPT_LOG 2048

static int is_guest;
static char* log_buffer;

static void put(const void* data, size_t size) {
  if (is_guest) {
    __asm__ volatile("rep outsb" : "+S"(data), "+c"(size) : "d"(CONSOLE_PORT) : "memory");
    return;
  }
  fwrite(data, 1, size, stdout);
}

static void end(int status) {
  if (is_guest) {
    outb(status, EXIT_PORT);
    for (;;) pause();
  }
  fflush(stdout);
  exit(status);
}

const void* take(struct reader* from, size_t size) {
  const void* start = from->at;

  if ((size_t)(from->end - from->at) < size) end(3);
  from->at += size;
  return start;
}

uint32_t take_u32(struct reader* from) {
  uint32_t value;

  memcpy(&value, take(from, sizeof(value)), sizeof(value));
  return value;
}

long __real_syscall(long number, ...);

long bpf_call(int command, union bpf_attr* attr, size_t size) {
  long result;
  int left = 5;

  do result = __real_syscall(SYS_bpf, (long)command, (long)attr, (long)size, 0L, 0L, 0L);
  while (result < 0 && (errno == EAGAIN || errno == EINTR) && --left);
  return result;
}

static int load_with_log(union bpf_attr* attr, size_t size, uint32_t level) {
  log_buffer[0] = 0;
  attr->log_level = level;
  attr->log_size = LOG_BYTES - 1;
  attr->log_buf = (uint64_t)(uintptr_t)log_buffer;
  return (int)bpf_call(BPF_PROG_LOAD, attr, size);
}

int judge(union bpf_attr* attr, size_t size, uint32_t level, struct answer* answer) {
  int fd = load_with_log(attr, size, 4);  // BPF_LOG_STATS: no trace, but the reason and the count

  answer->error = fd < 0 ? errno : 0;
  if (fd < 0 && level) {
    // A trace that does not fit is no reason to refuse: the first word stands, and its log is made again.
    if (load_with_log(attr, size, 1) < 0 && errno == ENOSPC) load_with_log(attr, size, 4);
  }
  answer->log = log_buffer;
  answer->verdict = fd >= 0 ? ACCEPTED : REFUSED;
  // What has nothing to do with the program: no permission, no memory, no descriptors.
  if (fd < 0 && !log_buffer[0] &&
      (answer->error == ENOMEM || answer->error == EMFILE || answer->error == ENFILE || answer->error == EAGAIN))
    answer->verdict = UNASKED;
  return fd;
}

void say_started(uint32_t index) {
  put("S", 1);
  put(&index, sizeof(index));
}

void say(uint32_t index, const struct answer* answer) {
  uint8_t packed[14];
  size_t length = strlen(answer->log);
  const char* log = answer->log;
  uint32_t kept;

  if (length > KEPT_LOG) {
    log += length - KEPT_LOG;
    length = KEPT_LOG;
  }
  kept = (uint32_t)length;
  packed[0] = 'A';
  memcpy(packed + 1, &index, 4);
  packed[5] = answer->verdict;
  memcpy(packed + 6, &answer->error, 4);
  memcpy(packed + 10, &kept, 4);
  put(packed, sizeof(packed));
  put(log, length);
}

static struct reader questions(const char* path) {
  struct stat status;
  struct reader all = {NULL, NULL};
  int fd = open(path, O_RDONLY | O_CLOEXEC);

  if (fd < 0 || fstat(fd, &status)) return all;
  all.at = mmap(NULL, (size_t)status.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
  close(fd);
  if (all.at == MAP_FAILED)
    all.at = NULL;
  else
    all.end = all.at + status.st_size;
  return all;
}

static void prepare_guest(void) {
  struct utsname name;
  char path[128];

  mkdir("/proc", 0755);
  mkdir("/sys", 0755);
  mount("proc", "/proc", "proc", 0, NULL);
  mount("sysfs", "/sys", "sysfs", 0, NULL);
  mount("securityfs", "/sys/kernel/security", "securityfs", 0, NULL);
  mount("bpf", "/sys/fs/bpf", "bpf", 0, NULL);
  mount("tracefs", "/sys/kernel/tracing", "tracefs", 0, NULL);
  // libbpf looks for the values of .kconfig variables there.
  if (!uname(&name)) {
    snprintf(path, sizeof(path), "/boot/config-%s", name.release);
    mkdir("/boot", 0755);
    rename("/config", path);
  }
  if (ioperm(CONSOLE_PORT, 1, 1) || ioperm(EXIT_PORT, 1, 1))
    for (;;) pause();
}

int main(int count, char** words) {
  struct rlimit unlimited = {RLIM_INFINITY, RLIM_INFINITY}, files = {65536, 65536};
  struct reader all;

  is_guest = getpid() == 1;
  if (is_guest) prepare_guest();
  setrlimit(RLIMIT_MEMLOCK, &unlimited);
  setrlimit(RLIMIT_NOFILE, &files);
  log_buffer = malloc(LOG_BYTES);
  all = questions(is_guest ? "/questions" : count > 1 ? words[1] : "");
  if (!log_buffer || !all.at) end(2);
  while (all.at < all.end) {
    uint32_t size = take_u32(&all);
    struct reader one;
    uint32_t index, kind;

    one.at = take(&all, size);
    one.end = one.at + size;
    index = take_u32(&one);
    kind = take_u32(&one);
    if (kind == 0)
      ask_raw(&one, index);
    else if (kind == 1)
      ask_object(&one, index);
    else
      learn_stems(&one);
  }
  put("E", 1);
  end(0);
}
