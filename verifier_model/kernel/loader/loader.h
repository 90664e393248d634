// The oracle's loader: asks one kernel about many programs and says what it answered.  See loader.c for the formats.
#pragma once

#include <linux/bpf.h>
#include <stddef.h>
#include <stdint.h>

enum verdict { REFUSED = 0, ACCEPTED = 1, UNASKED = 2 };

#define LOG_BYTES (16u << 20)  // the largest log buffer that every kernel takes (UINT_MAX >> 8)

struct reader {
  const uint8_t *at, *end;
};

struct answer {
  uint8_t verdict;
  int error;        // errno, positive
  const char* log;  // NUL-terminated
};

// The next `size` bytes; ends the process when the question file is shorter.
const void* take(struct reader* from, size_t size);
uint32_t take_u32(struct reader* from);

long bpf_call(int command, union bpf_attr* attr, size_t size);

// PROG_LOAD with a log of its own: `level` 0 asks for the reason and the count only, 1 for the last instructions too.
// The descriptor when accepted, else -1.
int judge(union bpf_attr* attr, size_t size, uint32_t level, struct answer* answer);

void say_started(uint32_t index);
void say(uint32_t index, const struct answer* answer);

void ask_raw(struct reader* from, uint32_t index);
void ask_object(struct reader* from, uint32_t index);
void learn_stems(struct reader* from);
