// The inner loops over 32 lanes.  CMake compiles this file once per instruction set, each time with another K2_VARIANT;
// nothing here may depend on floating point or on anything else that differs between machines.
#include <bit>
#include <cstring>

#include "batch.h"

namespace k2::K2_VARIANT {
namespace {

constexpr int n = lane_count;

template <int width>
constexpr uint64_t low_bits = width == 64 ? ~uint64_t{0} : (uint64_t{1} << (width & 63)) - 1;

template <int width>
int64_t sign_extended(uint64_t value) {
  constexpr int unused = 64 - width;
  return static_cast<int64_t>(value << unused) >> unused;
}

uint64_t swapped(uint64_t value, int bits) { return __builtin_bswap64(value) >> (64 - bits); }

uint64_t quotient(uint64_t a, uint64_t b) { return b == 0 ? 0 : a / b; }
uint64_t remainder(uint64_t a, uint64_t b) { return b == 0 ? a : a % b; }
// Division by -1 is a negation: the machine's own instruction would trap on the minimum.
int64_t signed_quotient(int64_t a, int64_t b) {
  if (b == 0) return 0;
  return b == -1 ? static_cast<int64_t>(0 - static_cast<uint64_t>(a)) : a / b;
}
int64_t signed_remainder(int64_t a, int64_t b) {
  if (b == 0) return a;
  return b == -1 ? 0 : a % b;
}

// One operation on operands cut to `width` bits; the caller cuts the result.
template <Op op, int width>
uint64_t apply(uint64_t a, uint64_t b) {
  constexpr uint64_t count_mask = width - 1;
  if constexpr (op == Op::add) return a + b;
  if constexpr (op == Op::sub) return a - b;
  if constexpr (op == Op::mul) return a * b;
  if constexpr (op == Op::div) return quotient(a, b);
  if constexpr (op == Op::mod) return remainder(a, b);
  if constexpr (op == Op::sdiv) {
    return static_cast<uint64_t>(signed_quotient(sign_extended<width>(a), sign_extended<width>(b)));
  }
  if constexpr (op == Op::smod) {
    return static_cast<uint64_t>(signed_remainder(sign_extended<width>(a), sign_extended<width>(b)));
  }
  if constexpr (op == Op::or_) return a | b;
  if constexpr (op == Op::and_) return a & b;
  if constexpr (op == Op::xor_) return a ^ b;
  if constexpr (op == Op::lsh) return a << (b & count_mask);
  if constexpr (op == Op::rsh) return a >> (b & count_mask);
  if constexpr (op == Op::arsh) return static_cast<uint64_t>(sign_extended<width>(a) >> (b & count_mask));
  if constexpr (op == Op::mov) return b;
  if constexpr (op == Op::neg) return 0 - a;
  if constexpr (op == Op::movsx8) return static_cast<uint64_t>(sign_extended<8>(b));
  if constexpr (op == Op::movsx16) return static_cast<uint64_t>(sign_extended<16>(b));
  if constexpr (op == Op::movsx32) return static_cast<uint64_t>(sign_extended<32>(b));
  return 0;
}

template <Op op, int width, int lanes>
void alu(const Insn& insn, uint64_t* dst, const uint64_t* src) {
  constexpr uint64_t cut = low_bits<width>;
  if (insn.from_reg) {
    for (int l = 0; l < lanes; ++l) dst[l] = apply<op, width>(dst[l] & cut, src[l] & cut) & cut;
  } else {
    const uint64_t imm = static_cast<uint64_t>(insn.imm) & cut;
    for (int l = 0; l < lanes; ++l) dst[l] = apply<op, width>(dst[l] & cut, imm) & cut;
  }
}

template <Op op, int lanes>
void alu_width(const Insn& insn, uint64_t* dst, const uint64_t* src) {
  if (insn.width == 64) {
    alu<op, 64, lanes>(insn, dst, src);
  } else {
    alu<op, 32, lanes>(insn, dst, src);
  }
}

template <int lanes>
void reverse_bytes(const Insn& insn, uint64_t* dst) {
  for (int l = 0; l < lanes; ++l) dst[l] = swapped(dst[l], insn.width);
}

template <int lanes>
void keep_low(const Insn& insn, uint64_t* dst) {
  const uint64_t mask = ~uint64_t{0} >> (64 - insn.width);
  for (int l = 0; l < lanes; ++l) dst[l] &= mask;
}

// The operation on `lanes` values from dst and src on (src is read only where the instruction has a source register).
template <int lanes>
void run_alu(const Insn& insn, uint64_t* dst, const uint64_t* src, bool big_endian) {
  switch (insn.op) {
    case Op::add: return alu_width<Op::add, lanes>(insn, dst, src);
    case Op::sub: return alu_width<Op::sub, lanes>(insn, dst, src);
    case Op::mul: return alu_width<Op::mul, lanes>(insn, dst, src);
    case Op::div: return alu_width<Op::div, lanes>(insn, dst, src);
    case Op::sdiv: return alu_width<Op::sdiv, lanes>(insn, dst, src);
    case Op::or_: return alu_width<Op::or_, lanes>(insn, dst, src);
    case Op::and_: return alu_width<Op::and_, lanes>(insn, dst, src);
    case Op::lsh: return alu_width<Op::lsh, lanes>(insn, dst, src);
    case Op::rsh: return alu_width<Op::rsh, lanes>(insn, dst, src);
    case Op::mod: return alu_width<Op::mod, lanes>(insn, dst, src);
    case Op::smod: return alu_width<Op::smod, lanes>(insn, dst, src);
    case Op::xor_: return alu_width<Op::xor_, lanes>(insn, dst, src);
    case Op::mov: return alu_width<Op::mov, lanes>(insn, dst, src);
    case Op::arsh: return alu_width<Op::arsh, lanes>(insn, dst, src);
    case Op::neg: return alu_width<Op::neg, lanes>(insn, dst, src);
    case Op::movsx8: return alu_width<Op::movsx8, lanes>(insn, dst, src);
    case Op::movsx16: return alu_width<Op::movsx16, lanes>(insn, dst, src);
    case Op::movsx32: return alu_width<Op::movsx32, lanes>(insn, dst, src);
    case Op::le: return big_endian ? reverse_bytes<lanes>(insn, dst) : keep_low<lanes>(insn, dst);
    case Op::be: return big_endian ? keep_low<lanes>(insn, dst) : reverse_bytes<lanes>(insn, dst);
    case Op::bswap: return reverse_bytes<lanes>(insn, dst);
    default: return;
  }
}

uint64_t alu_in_lane(const Insn& insn, const Batch& batch, int lane, bool big_endian) {
  uint64_t value = batch.reg[insn.dst].lane[lane];
  run_alu<1>(insn, &value, batch.reg[insn.src].lane + lane, big_endian);
  return value;
}

template <Op op, int width>
uint64_t matching_width(const int64_t* immediates, int count, uint64_t value, uint64_t expected, uint64_t mask) {
  constexpr uint64_t cut = low_bits<width>;
  uint64_t wrong[64];
  for (int i = 0; i < count; ++i) {
    const uint64_t got = apply<op, width>(value & cut, static_cast<uint64_t>(immediates[i]) & cut) & cut;
    wrong[i] = (got ^ expected) & mask;
  }
  uint64_t found = 0;
  for (int i = 0; i < count; ++i) found |= static_cast<uint64_t>(wrong[i] == 0) << i;
  return found;
}

template <Op op>
uint64_t matching_op(int width, const int64_t* immediates, int count, uint64_t value, uint64_t expected,
                     uint64_t mask) {
  return width == 64 ? matching_width<op, 64>(immediates, count, value, expected, mask)
                     : matching_width<op, 32>(immediates, count, value, expected, mask);
}

uint64_t matching(const Insn& shape, const int64_t* immediates, int count, uint64_t value, uint64_t expected,
                  uint64_t mask) {
  switch (shape.op) {
    case Op::add: return matching_op<Op::add>(shape.width, immediates, count, value, expected, mask);
    case Op::sub: return matching_op<Op::sub>(shape.width, immediates, count, value, expected, mask);
    case Op::mul: return matching_op<Op::mul>(shape.width, immediates, count, value, expected, mask);
    case Op::div: return matching_op<Op::div>(shape.width, immediates, count, value, expected, mask);
    case Op::sdiv: return matching_op<Op::sdiv>(shape.width, immediates, count, value, expected, mask);
    case Op::or_: return matching_op<Op::or_>(shape.width, immediates, count, value, expected, mask);
    case Op::and_: return matching_op<Op::and_>(shape.width, immediates, count, value, expected, mask);
    case Op::lsh: return matching_op<Op::lsh>(shape.width, immediates, count, value, expected, mask);
    case Op::rsh: return matching_op<Op::rsh>(shape.width, immediates, count, value, expected, mask);
    case Op::mod: return matching_op<Op::mod>(shape.width, immediates, count, value, expected, mask);
    case Op::smod: return matching_op<Op::smod>(shape.width, immediates, count, value, expected, mask);
    case Op::xor_: return matching_op<Op::xor_>(shape.width, immediates, count, value, expected, mask);
    case Op::mov: return matching_op<Op::mov>(shape.width, immediates, count, value, expected, mask);
    case Op::arsh: return matching_op<Op::arsh>(shape.width, immediates, count, value, expected, mask);
    default: return ~uint64_t{0} >> (64 - count);  // not told apart here
  }
}

uint64_t hash(const Row& row) {
  uint64_t sum = 0;
  for (int l = 0; l < n; ++l) {
    const uint64_t mixed = (row.lane[l] ^ (row.lane[l] >> 32)) * (0x9e3779b97f4a7c15ULL + 2 * static_cast<uint64_t>(l));
    sum += mixed ^ (mixed >> 29);
  }
  sum *= 0xbf58476d1ce4e5b9ULL;
  return sum ^ (sum >> 31);
}

template <int bytes>
uint64_t read(const uint8_t* at, bool big_endian) {
  uint64_t value = 0;
  if constexpr (std::endian::native == std::endian::little) {
    std::memcpy(&value, at, bytes);
  } else {
    for (int i = bytes; i-- > 0;) value = value << 8 | at[i];
  }
  return big_endian ? swapped(value, 8 * bytes) : value;
}

template <int bytes>
void write(uint8_t* at, uint64_t value, bool big_endian) {
  if (big_endian) value = swapped(value, 8 * bytes);
  if constexpr (std::endian::native == std::endian::little) {
    std::memcpy(at, &value, bytes);
  } else {
    for (int i = 0; i < bytes; ++i) at[i] = static_cast<uint8_t>(value >> (8 * i));
  }
}

// Where in its image each lane is accessed: at one place in all of them, or wherever its pointer leads.
struct Everywhere {
  uint64_t at;
  uint64_t operator[](int) const { return at; }
};
struct PerLane {
  uint64_t at[n];
  uint64_t operator[](int l) const { return at[l]; }
};

// Does the static walk know the place, inside the region of every lane?
bool is_everywhere(const RegionLanes& region, const Step& step) {
  return step.exact >= 0 && static_cast<uint64_t>(step.exact) + step.insn.width / 8U <= region.least_limit;
}

// False when one of the accesses leaves its region.
bool resolve(const RegionLanes& region, const Row& address, const Insn& insn, PerLane& places) {
  uint64_t bad = 0;
  const uint64_t displacement = static_cast<uint64_t>(static_cast<int64_t>(insn.off));
  const uint64_t bytes = insn.width / 8U;
  for (int l = 0; l < n; ++l) {
    const uint64_t at = address.lane[l] + displacement - region.base.lane[l];
    places.at[l] = at;
    bad |= static_cast<uint64_t>(at > region.limit.lane[l]) | static_cast<uint64_t>(at + bytes > region.limit.lane[l]);
  }
  return bad == 0;
}

template <int bytes, class Places>
void load_lanes(const RegionLanes& region, const Places& places, uint64_t* dst, bool sign, bool big_endian) {
  const uint8_t* image = region.image.data();
  const size_t stride = region.stride;
  if (big_endian) {
    for (int l = 0; l < n; ++l) dst[l] = read<bytes>(image + static_cast<size_t>(l) * stride + places[l], true);
  } else {
    for (int l = 0; l < n; ++l) dst[l] = read<bytes>(image + static_cast<size_t>(l) * stride + places[l], false);
  }
  if (sign) {
    for (int l = 0; l < n; ++l) dst[l] = static_cast<uint64_t>(sign_extended<8 * bytes>(dst[l]));
  }
}

template <class Places>
void load_width(const RegionLanes& region, const Places& places, const Insn& insn, uint64_t* dst, bool big_endian) {
  const bool sign = insn.op == Op::load_signed;
  switch (insn.width) {
    case 8: return load_lanes<1>(region, places, dst, sign, big_endian);
    case 16: return load_lanes<2>(region, places, dst, sign, big_endian);
    case 32: return load_lanes<4>(region, places, dst, sign, big_endian);
    default: return load_lanes<8>(region, places, dst, sign, big_endian);
  }
}

bool load(const Step& step, Batch& batch, bool big_endian) {
  const RegionLanes& region = batch.regions[step.region];
  const Insn& insn = step.insn;
  uint64_t* dst = batch.reg[insn.dst].lane;
  if (is_everywhere(region, step)) {
    load_width(region, Everywhere{static_cast<uint64_t>(step.exact)}, insn, dst, big_endian);
    return true;
  }
  PerLane places;
  if (!resolve(region, batch.reg[insn.src], insn, places)) return false;
  load_width(region, places, insn, dst, big_endian);
  return true;
}

template <int bytes, class Places>
void store_lanes(RegionLanes& region, const Places& places, const uint64_t* values, bool big_endian) {
  uint8_t* image = region.image.data();
  const size_t stride = region.stride;
  if (big_endian) {
    for (int l = 0; l < n; ++l) write<bytes>(image + static_cast<size_t>(l) * stride + places[l], values[l], true);
  } else {
    for (int l = 0; l < n; ++l) write<bytes>(image + static_cast<size_t>(l) * stride + places[l], values[l], false);
  }
}

template <class Places>
void store_width(RegionLanes& region, const Places& places, const Insn& insn, const uint64_t* values, bool big_endian) {
  uint64_t lowest = places[0];
  uint64_t highest = places[0];
  for (int l = 1; l < n; ++l) {
    lowest = places[l] < lowest ? places[l] : lowest;
    highest = places[l] > highest ? places[l] : highest;
  }
  const uint64_t end = highest + insn.width / 8U;
  if (lowest < region.dirty_begin) region.dirty_begin = static_cast<uint32_t>(lowest);
  if (end > region.dirty_end) region.dirty_end = static_cast<uint32_t>(end);
  switch (insn.width) {
    case 8: return store_lanes<1>(region, places, values, big_endian);
    case 16: return store_lanes<2>(region, places, values, big_endian);
    case 32: return store_lanes<4>(region, places, values, big_endian);
    default: return store_lanes<8>(region, places, values, big_endian);
  }
}

// The values to store, a row of them: the source register's own, or `room` filled with the immediate.
const uint64_t* stored_values(const Insn& insn, const Batch& batch, Row& room) {
  if (insn.op == Op::store) return batch.reg[insn.src].lane;
  for (uint64_t& lane : room.lane) lane = static_cast<uint64_t>(insn.imm);
  return room.lane;
}

bool store(const Step& step, Batch& batch, bool big_endian) {
  RegionLanes& region = batch.regions[step.region];
  const Insn& insn = step.insn;
  Row room;
  if (is_everywhere(region, step)) {
    const Everywhere places{static_cast<uint64_t>(step.exact)};
    store_width(region, places, insn, stored_values(insn, batch, room), big_endian);
    return true;
  }
  PerLane places;
  if (!resolve(region, batch.reg[insn.dst], insn, places)) return false;
  store_width(region, places, insn, stored_values(insn, batch, room), big_endian);
  return true;
}

uint64_t differing_bits(const uint64_t* a, const uint64_t* b, uint64_t mask) {
  uint64_t any = 0;
  for (int l = 0; l < n; ++l) any |= (a[l] ^ b[l]) & mask;
  if (any == 0) return 0;
  uint64_t bits = 0;
  for (int l = 0; l < n; ++l) bits += static_cast<uint64_t>(__builtin_popcountll((a[l] ^ b[l]) & mask));
  return bits;
}

void address_error(const Insn& insn, int base, const EventLanes& event, Batch& batch) {
  Row address;
  for (int l = 0; l < n; ++l) {
    address.lane[l] = batch.reg[base].lane[l] + static_cast<uint64_t>(static_cast<int64_t>(insn.off));
  }
  batch.event_error += differing_bits(address.lane, event.address.lane, ~uint64_t{0});
}

void shared_load(const Step& step, Batch& batch) {
  const EventLanes& event = batch.events[step.event];
  address_error(step.insn, step.insn.src, event, batch);
  batch.reg[step.insn.dst] = event.value;
}

void shared_store(const Step& step, Batch& batch) {
  const EventLanes& event = batch.events[step.event];
  address_error(step.insn, step.insn.dst, event, batch);
  Row room;
  const uint64_t* values = stored_values(step.insn, batch, room);
  batch.event_error += differing_bits(values, event.value.lane, ~uint64_t{0} >> (64 - step.insn.width));
}

bool run(const Step* steps, int count, Batch& batch, bool big_endian) {
  for (int i = 0; i < count; ++i) {
    const Step& step = steps[i];
    switch (step.kind) {
      case Step::Kind::alu:
        run_alu<n>(step.insn, batch.reg[step.insn.dst].lane, batch.reg[step.insn.src].lane, big_endian);
        break;
      case Step::Kind::load:
        if (!load(step, batch, big_endian)) return false;
        break;
      case Step::Kind::store:
        if (!store(step, batch, big_endian)) return false;
        break;
      case Step::Kind::shared_load: shared_load(step, batch); break;
      case Step::Kind::shared_store: shared_store(step, batch); break;
      case Step::Kind::constant:
        for (uint64_t& lane : batch.reg[step.insn.dst].lane) lane = static_cast<uint64_t>(step.insn.imm);
        break;
      case Step::Kind::symbol: batch.reg[step.insn.dst] = batch.symbols[static_cast<size_t>(step.insn.imm)]; break;
      case Step::Kind::branch: return false;  // belongs to run_region
    }
  }
  return true;
}

// ---- programs with branches ----

template <Op op, int width>
bool holds(uint64_t a, uint64_t b) {
  const int64_t signed_a = sign_extended<width>(a);
  const int64_t signed_b = sign_extended<width>(b);
  if constexpr (op == Op::jeq) return a == b;
  if constexpr (op == Op::jne) return a != b;
  if constexpr (op == Op::jset) return (a & b) != 0;
  if constexpr (op == Op::jgt) return a > b;
  if constexpr (op == Op::jge) return a >= b;
  if constexpr (op == Op::jlt) return a < b;
  if constexpr (op == Op::jle) return a <= b;
  if constexpr (op == Op::jsgt) return signed_a > signed_b;
  if constexpr (op == Op::jsge) return signed_a >= signed_b;
  if constexpr (op == Op::jslt) return signed_a < signed_b;
  if constexpr (op == Op::jsle) return signed_a <= signed_b;
  return true;
}

template <Op op, int width>
void taken_width(const uint64_t* a, const uint64_t* b, uint64_t* taken) {
  constexpr uint64_t cut = low_bits<width>;
  for (int l = 0; l < n; ++l) taken[l] = 0 - static_cast<uint64_t>(holds<op, width>(a[l] & cut, b[l] & cut));
}

template <Op op>
void taken_op(int width, const uint64_t* a, const uint64_t* b, uint64_t* taken) {
  if (width == 64) {
    taken_width<op, 64>(a, b, taken);
  } else {
    taken_width<op, 32>(a, b, taken);
  }
}

// All ones in the lanes whose condition holds.
void find_taken(const Insn& insn, const Batch& batch, uint64_t* taken) {
  Row number;
  const uint64_t* a = batch.reg[insn.dst].lane;
  const uint64_t* b = batch.reg[insn.src].lane;
  if (!insn.from_reg) {
    for (uint64_t& lane : number.lane) lane = static_cast<uint64_t>(insn.imm);
    b = number.lane;
  }
  switch (insn.op) {
    case Op::jeq: return taken_op<Op::jeq>(insn.width, a, b, taken);
    case Op::jne: return taken_op<Op::jne>(insn.width, a, b, taken);
    case Op::jset: return taken_op<Op::jset>(insn.width, a, b, taken);
    case Op::jgt: return taken_op<Op::jgt>(insn.width, a, b, taken);
    case Op::jge: return taken_op<Op::jge>(insn.width, a, b, taken);
    case Op::jlt: return taken_op<Op::jlt>(insn.width, a, b, taken);
    case Op::jle: return taken_op<Op::jle>(insn.width, a, b, taken);
    case Op::jsgt: return taken_op<Op::jsgt>(insn.width, a, b, taken);
    case Op::jsge: return taken_op<Op::jsge>(insn.width, a, b, taken);
    case Op::jslt: return taken_op<Op::jslt>(insn.width, a, b, taken);
    case Op::jsle: return taken_op<Op::jsle>(insn.width, a, b, taken);
    default:
      for (int l = 0; l < n; ++l) taken[l] = ~uint64_t{0};
  }
}

void blend(uint64_t* old, const uint64_t* fresh, const uint64_t* active) {
  for (int l = 0; l < n; ++l) old[l] = (fresh[l] & active[l]) | (old[l] & ~active[l]);
}

// Places of the active lanes; the others share the place of the first of these.  False when an active one lies outside.
bool resolve_active(const RegionLanes& region, const Row& address, const Insn& insn, const uint64_t* active,
                    PerLane& places) {
  uint64_t bad = 0;
  uint64_t shared = 0;
  const uint64_t displacement = static_cast<uint64_t>(static_cast<int64_t>(insn.off));
  const uint64_t bytes = insn.width / 8U;
  for (int l = n; l-- > 0;) {
    const uint64_t at = address.lane[l] + displacement - region.base.lane[l];
    const bool is_out = at > region.limit.lane[l] || at + bytes > region.limit.lane[l];
    bad |= active[l] & static_cast<uint64_t>(is_out);
    if (active[l] != 0) shared = at;
    places.at[l] = at;
  }
  if (bad != 0) return false;
  for (int l = 0; l < n; ++l) places.at[l] = active[l] != 0 ? places.at[l] : shared;
  return true;
}

bool access_active(const Step& step, Batch& batch, const uint64_t* active, bool big_endian) {
  RegionLanes& region = batch.regions[step.region];
  const Insn& insn = step.insn;
  const bool is_read = step.kind == Step::Kind::load;
  PerLane places;
  if (!resolve_active(region, batch.reg[is_read ? insn.src : insn.dst], insn, active, places)) return false;
  Row there;
  if (is_read) {
    load_width(region, places, insn, there.lane, big_endian);
    blend(batch.reg[insn.dst].lane, there.lane, active);
    return true;
  }
  Insn plain = insn;
  plain.op = Op::load;
  load_width(region, places, plain, there.lane, big_endian);
  Row room;
  blend(there.lane, stored_values(insn, batch, room), active);
  store_width(region, places, insn, there.lane, big_endian);
  // A lane that is not active shares its place with another one's, which is none that it writes.
  return true;
}

void shared_active(const Step& step, Batch& batch, const uint64_t* active, bool records) {
  EventLanes& event = batch.events[step.event];
  const Insn& insn = step.insn;
  const bool is_read = step.kind == Step::Kind::shared_load;
  const Row& base = batch.reg[is_read ? insn.src : insn.dst];
  Row address;
  for (int l = 0; l < n; ++l) address.lane[l] = base.lane[l] + static_cast<uint64_t>(static_cast<int64_t>(insn.off));
  Row room;
  const uint64_t* values = is_read ? event.value.lane : stored_values(insn, batch, room);
  if (records) {
    blend(event.address.lane, address.lane, active);
    if (!is_read) blend(event.value.lane, values, active);
  } else {
    const uint64_t mask = ~uint64_t{0} >> (64 - insn.width);
    for (int l = 0; l < n; ++l) {
      const uint64_t wrong = (address.lane[l] ^ event.address.lane[l]) & active[l];
      const uint64_t other = is_read ? 0 : (values[l] ^ event.value.lane[l]) & active[l] & mask;
      batch.event_error += static_cast<uint64_t>(__builtin_popcountll(wrong) + __builtin_popcountll(other));
    }
  }
  if (is_read) blend(batch.reg[insn.dst].lane, event.value.lane, active);
}

void branch_active(const Insn& insn, int length, Batch& batch, const uint64_t* active) {
  uint64_t taken[n];
  find_taken(insn, batch, taken);
  const uint64_t target = static_cast<uint64_t>(insn.off >= 0 ? insn.off : length - insn.off);
  for (int l = 0; l < n; ++l) {
    const uint64_t goes = taken[l] & active[l];
    batch.resume.lane[l] = (target & goes) | (batch.resume.lane[l] & ~goes);
  }
}

bool run_region(const Step* steps, int count, int length, Batch& batch, bool big_endian, bool records) {
  uint64_t active[n];
  bool is_split = false;
  for (int l = 0; l < n; ++l) {
    active[l] = ~uint64_t{0};
    batch.resume.lane[l] = 0;
  }
  for (int i = 0; i < count; ++i) {
    const Step& step = steps[i];
    if (is_split) {
      uint64_t any = 0;
      for (int l = 0; l < n; ++l) {
        active[l] = 0 - static_cast<uint64_t>(batch.resume.lane[l] <= step.place);
        any |= active[l];
      }
      if (any == 0) continue;
    }
    Row fresh;
    switch (step.kind) {
      case Step::Kind::alu:
        fresh = batch.reg[step.insn.dst];
        run_alu<n>(step.insn, fresh.lane, batch.reg[step.insn.src].lane, big_endian);
        blend(batch.reg[step.insn.dst].lane, fresh.lane, active);
        break;
      case Step::Kind::load:
      case Step::Kind::store:
        if (!access_active(step, batch, active, big_endian)) return false;
        break;
      case Step::Kind::shared_load:
      case Step::Kind::shared_store: shared_active(step, batch, active, records); break;
      case Step::Kind::constant:
        for (uint64_t& lane : fresh.lane) lane = static_cast<uint64_t>(step.insn.imm);
        blend(batch.reg[step.insn.dst].lane, fresh.lane, active);
        break;
      case Step::Kind::symbol:
        blend(batch.reg[step.insn.dst].lane, batch.symbols[static_cast<size_t>(step.insn.imm)].lane, active);
        break;
      case Step::Kind::branch:
        branch_active(step.insn, length, batch, active);
        is_split = true;
        break;
    }
  }
  return true;
}

uint64_t word_at(const uint8_t* bytes) {
  uint64_t word = 0;
  std::memcpy(&word, bytes, sizeof word);
  return word;
}

// Images and masks are whole words, so words may be compared although only some of their bytes were written.
uint64_t differing_memory(const RegionLanes& region, const uint8_t* mask) {
  const uint32_t begin = region.dirty_begin < region.expected_begin ? region.dirty_begin : region.expected_begin;
  const uint32_t end = region.dirty_end > region.expected_end ? region.dirty_end : region.expected_end;
  uint64_t bits = 0;
  for (uint32_t at = begin & ~7U; at < end; at += 8) {
    const uint64_t wanted = mask == nullptr ? ~uint64_t{0} : word_at(mask + at);
    const uint8_t* a = region.image.data() + at;
    const uint8_t* b = region.expected.data() + at;
    uint64_t any = 0;
    for (size_t l = 0; l < n; ++l) any |= word_at(a + l * region.stride) ^ word_at(b + l * region.stride);
    if ((any & wanted) == 0) continue;
    for (size_t l = 0; l < n; ++l) {
      const uint64_t wrong = (word_at(a + l * region.stride) ^ word_at(b + l * region.stride)) & wanted;
      bits += static_cast<uint64_t>(__builtin_popcountll(wrong));
    }
  }
  return bits;
}

uint64_t difference(const Batch& batch, const uint64_t* register_masks, const uint8_t* const* memory_masks,
                    uint64_t bound) {
  uint64_t bits = batch.event_error;
  for (int r = 0; r < register_count && bits <= bound; ++r) {
    if (register_masks[r] != 0) bits += differing_bits(batch.reg[r].lane, batch.expected[r].lane, register_masks[r]);
  }
  for (size_t r = 0; r < batch.regions.size() && bits <= bound; ++r) {
    bits += differing_memory(batch.regions[r], memory_masks[r]);
  }
  return bits;
}

// Leaving by the wrong exit weighs as much as half a register.
constexpr uint64_t wrong_exit = 32;

uint64_t region_difference(const Batch& batch, int length, const bool* is_stack, const uint8_t* const* stack_masks,
                           uint64_t bound) {
  uint64_t bits = batch.event_error;
  const uint64_t end = static_cast<uint64_t>(length);
  for (int l = 0; l < n; ++l) {
    const uint64_t left = batch.resume.lane[l] > end ? batch.resume.lane[l] - end : 0;
    bits += left == batch.exit.lane[l] ? 0 : wrong_exit;
  }
  for (int r = 0; r < register_count && bits <= bound; ++r) {
    uint64_t any = 0;
    for (int l = 0; l < n; ++l) any |= (batch.reg[r].lane[l] ^ batch.expected[r].lane[l]) & batch.demand[r].lane[l];
    if (any == 0) continue;
    for (int l = 0; l < n; ++l) {
      const uint64_t wrong = (batch.reg[r].lane[l] ^ batch.expected[r].lane[l]) & batch.demand[r].lane[l];
      bits += static_cast<uint64_t>(__builtin_popcountll(wrong));
    }
  }
  for (size_t r = 0; r < batch.regions.size() && bits <= bound; ++r) {
    const RegionLanes& region = batch.regions[r];
    const uint32_t begin = region.dirty_begin < region.expected_begin ? region.dirty_begin : region.expected_begin;
    const uint32_t stop = region.dirty_end > region.expected_end ? region.dirty_end : region.expected_end;
    for (uint32_t at = begin & ~7U; at < stop; at += 8) {
      for (size_t l = 0; l < n; ++l) {
        const size_t place = l * region.stride + at;
        const uint64_t wanted = is_stack[r] ? word_at(stack_masks[batch.exit.lane[l]] + at) : ~uint64_t{0};
        const uint64_t wrong =
            (word_at(region.image.data() + place) ^ word_at(region.expected.data() + place)) & wanted;
        bits += static_cast<uint64_t>(__builtin_popcountll(wrong));
      }
    }
  }
  return bits;
}

#define K2_TEXT_OF(name) #name
#define K2_TEXT(name) K2_TEXT_OF(name)

}  // namespace

extern const Lanes lanes;
const Lanes lanes = {K2_TEXT(K2_VARIANT), run, difference, run_region, region_difference, alu_in_lane, matching, hash};

}  // namespace k2::K2_VARIANT
