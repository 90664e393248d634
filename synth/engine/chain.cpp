#include "chain.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <thread>
#include <tuple>
#include <utility>

#include "compound.h"

namespace k2 {
namespace {

// round(256 * log2(1 + i/256)) by repeated squaring in 32-bit fixed point: no floating point, the same everywhere.
constexpr std::array<uint16_t, 256> log_table() {
  std::array<uint16_t, 256> table{};
  for (uint64_t i = 0; i < 256; ++i) {
    uint64_t x = (256 + i) << 24;  // 1.32 fixed point
    uint32_t bits = 0;
    for (int step = 0; step < 10; ++step) {
      const uint64_t high = x >> 16;
      x = high * high;  // 2.32
      bits <<= 1;
      if (x >= (uint64_t{2} << 32)) {
        bits |= 1;
        x >>= 1;
      }
    }
    table[i] = static_cast<uint16_t>((bits + 2) / 4);
  }
  return table;
}

constexpr std::array<uint16_t, 256> log2_of_mantissa = log_table();
static_assert(log2_of_mantissa[0] == 0 && log2_of_mantissa[128] == 150 && log2_of_mantissa[255] == 255);

enum class Move { operand, instruction, nop, pair, access, swap, compound };

class Chain {
 public:
  Chain(Evaluator& evaluator, const Domain& domain, const ChainSettings& settings,
        std::vector<std::vector<Insn>>* recorded = nullptr)
      : evaluator_(evaluator), domain_(domain), settings_(settings), random_(settings.seed), recorded_(recorded) {
    const std::vector<Insn>& original = evaluator.problem().original;
    size_ = static_cast<int>(original.size());
    std::copy(original.begin(), original.end(), current_.begin());
    original_slots_ = evaluator.slots(current_.data(), size_);
    original_picoseconds_ = evaluator.picoseconds(current_.data(), size_);
    for (size_t shape = 0; shape < shape_count; ++shape) {
      const auto slots = static_cast<uint64_t>(slots_of(static_cast<Op>(shape / shapes_per_op)));
      const uint64_t picoseconds = evaluator.problem().picoseconds[shape];
      prices_[shape] = 1000 * slots * settings.slot_weight + picoseconds * settings.nanosecond_weight;
    }
    best_ = current_;
    best_cost_ = cost_ = performance(current_.data());
  }

  ChainResult run() {
    for (uint64_t i = 1; i <= settings_.steps && size_ > 0 && !is_recorded(); ++i) {
      step();
      if (settings_.restart == 0 || i % settings_.restart != 0) continue;
      current_ = best_;
      cost_ = best_cost_;
    }
    keep_cheapest(result_.found, settings_.keep);
    return std::move(result_);
  }

 private:
  bool is_recorded() const { return recorded_ != nullptr && recorded_->size() == recorded_->capacity(); }

  void step() {
    std::copy_n(current_.begin(), size_, candidate_.begin());
    if (!propose() || std::equal(current_.begin(), current_.begin() + size_, candidate_.begin())) return;
    ++result_.evaluations;
    const uint64_t bound = cost_ + draw_allowance(random_);
    const uint64_t price = performance(candidate_.data());
    if (settings_.early_stop && price > bound) return;
    const auto tests = static_cast<uint64_t>(evaluator_.tests());
    const uint64_t allowed =
        settings_.error_weight == 0 ? unsafe - 1 : (bound - std::min(price, bound)) * tests / settings_.error_weight;
    const uint64_t errors = evaluator_.errors(candidate_.data(), size_, settings_.early_stop ? allowed : unsafe - 1);
    if (recorded_ != nullptr && errors != unsafe)
      recorded_->emplace_back(candidate_.begin(), candidate_.begin() + size_);
    if (errors > allowed || price > bound) return;
    ++result_.accepted;
    std::copy_n(candidate_.begin(), size_, current_.begin());
    cost_ = price + errors * settings_.error_weight / tests;
    if (errors != 0) return;
    if (price <= best_cost_) {
      best_ = current_;
      best_cost_ = price;
    }
    keep();
  }

  uint64_t performance(const Insn* program) const {
    uint64_t sum = 0;
    for (int i = 0; i < size_; ++i) sum += prices_[shape_of(program[i])];
    return sum / 1000;
  }

  Move draw_move() {
    const std::array<uint32_t, 7> weights = {settings_.operand_moves, settings_.instruction_moves, settings_.nop_moves,
                                             settings_.pair_moves,    settings_.access_moves,      settings_.swap_moves,
                                             settings_.compound_moves};
    uint32_t total = 0;
    for (const uint32_t weight : weights) total += weight;
    uint32_t at = random_.below(total);
    size_t move = 0;
    while (at >= weights[move]) at -= weights[move++];
    return static_cast<Move>(move);
  }

  bool propose() {
    const auto count = static_cast<uint32_t>(size_);
    const size_t at = random_.below(count);
    Insn& insn = candidate_[at];
    switch (draw_move()) {
      case Move::operand: redraw_operand(domain_, random_, insn); return true;
      case Move::instruction: insn = draw(domain_, random_); return true;
      case Move::nop: insn = Insn{}; return true;
      case Move::pair:
        if (random_.below(2) == 0) {
          // Two changes that only together keep the result: a constant here, an instruction less there.
          change(insn);
          change(candidate_[random_.below(count)]);
          return true;
        }
        if (at + 1 >= count) return false;
        insn = draw(domain_, random_);
        candidate_[at + 1] = draw(domain_, random_);
        return true;
      case Move::access: return (is_load(insn.op) || is_store(insn.op)) && redraw_access(domain_, random_, insn);
      case Move::swap: std::swap(insn, candidate_[random_.below(count)]); return true;
      case Move::compound: return compound();
    }
    return false;
  }

  bool compound() {
    switch (random_.below(3)) {
      case 0: return fold_constant(candidate_.data(), size_, random_);
      case 1: return propagate_copy(candidate_.data(), size_, random_);
      default: return rename_result(domain_, candidate_.data(), size_, random_);
    }
  }

  void change(Insn& insn) {
    switch (random_.below(4)) {
      case 0: insn = Insn{}; break;
      case 1: insn = draw(domain_, random_); break;
      default: redraw_operand(domain_, random_, insn);
    }
  }

  // Drops every instruction that the tests do not miss, then remembers the program if it is better than the original.
  void keep() {
    if (was_kept(current_)) return;
    std::array<Insn, max_length> program = current_;
    for (int i = size_; i-- > 0;) {
      const Insn dropped = program[static_cast<size_t>(i)];
      if (dropped.op == Op::nop) continue;
      program[static_cast<size_t>(i)] = Insn{};
      if (evaluator_.errors(program.data(), size_, 0) != 0) program[static_cast<size_t>(i)] = dropped;
    }
    Found found{
        {}, evaluator_.slots(program.data(), size_), evaluator_.picoseconds(program.data(), size_), discoveries_++};
    if (settings_.never_slower && found.picoseconds > original_picoseconds_) return;
    const bool better =
        found.slots != original_slots_ ? found.slots < original_slots_ : found.picoseconds < original_picoseconds_;
    if (!better) return;
    found.program = without_nops(program);
    for (const Found& known : result_.found) {
      if (known.program == found.program) return;
    }
    result_.found.push_back(std::move(found));
    if (result_.found.size() >= 4 * static_cast<size_t>(settings_.keep) + 16)
      keep_cheapest(result_.found, settings_.keep);
  }

  // Branches count the instructions that are left.
  std::vector<Insn> without_nops(const std::array<Insn, max_length>& program) const {
    std::array<int16_t, max_length + 1> moved{};
    int16_t left = 0;
    for (int i = 0; i < size_; ++i) {
      moved[static_cast<size_t>(i)] = left;
      if (program[static_cast<size_t>(i)].op != Op::nop) ++left;
    }
    moved[static_cast<size_t>(size_)] = left;
    std::vector<Insn> kept;
    for (int i = 0; i < size_; ++i) {
      Insn insn = program[static_cast<size_t>(i)];
      if (insn.op == Op::nop) continue;
      if (is_branch(insn.op) && insn.off >= 0) insn.off = moved[static_cast<size_t>(insn.off)];
      kept.push_back(insn);
    }
    return kept;
  }

  // Was the program kept before?  May forget, never err the other way but by a collision of 64 bits.
  bool was_kept(const std::array<Insn, max_length>& program) {
    uint64_t key = 0;
    for (int i = 0; i < size_; ++i) {
      const Insn& insn = program[static_cast<size_t>(i)];
      const uint64_t fields = static_cast<uint64_t>(shape_of(insn)) << 32 | static_cast<uint64_t>(insn.dst) << 28 |
                              static_cast<uint64_t>(insn.src) << 24 | static_cast<uint16_t>(insn.off);
      key = (key ^ fields) * 0x9e3779b97f4a7c15ULL;
      key = (key ^ (key >> 29) ^ static_cast<uint64_t>(insn.imm)) * 0xbf58476d1ce4e5b9ULL;
    }
    uint64_t& seen = kept_[(key >> 32) % kept_.size()];
    if (seen == key) return true;
    seen = key;
    return false;
  }

  Evaluator& evaluator_;
  const Domain& domain_;
  const ChainSettings settings_;
  Random random_;
  std::vector<std::vector<Insn>>* recorded_;  // where proposals go, as many as it has room for
  int size_ = 0;
  std::array<Insn, max_length> current_{};
  std::array<Insn, max_length> candidate_{};
  std::array<uint64_t, shape_count> prices_{};  // in thousandths of the unit of cost
  std::vector<uint64_t> kept_ = std::vector<uint64_t>(4096);
  std::array<Insn, max_length> best_{};  // passes the tests, at the least cost so far
  uint64_t best_cost_ = 0;
  uint64_t cost_ = 0;
  uint64_t discoveries_ = 0;
  uint64_t original_slots_ = 0;
  uint64_t original_picoseconds_ = 0;
  ChainResult result_;
};

}  // namespace

uint64_t draw_allowance(Random& random) {
  const uint64_t draw = random.next() | 1;
  const int zeros = std::countl_zero(draw);
  const uint64_t mantissa = zeros == 63 ? 0 : (draw << (zeros + 1)) >> 56;
  return (static_cast<uint64_t>(zeros) + 1) * 256 - log2_of_mantissa[mantissa];
}

void keep_cheapest(std::vector<Found>& found, size_t count) {
  std::sort(found.begin(), found.end(), [](const Found& a, const Found& b) {
    return std::tie(a.slots, a.picoseconds, a.discovery) < std::tie(b.slots, b.picoseconds, b.discovery);
  });
  if (found.size() > count) found.resize(count);
}

ChainResult run_chain(Evaluator& evaluator, const Domain& domain, const ChainSettings& settings) {
  return Chain(evaluator, domain, settings).run();
}

std::vector<ChainResult> run_chains(const Problem& problem, const Lanes& lanes, const Domain& domain,
                                    const std::vector<ChainSettings>& settings, int workers) {
  std::vector<ChainResult> results(settings.size());
  std::atomic<size_t> next{0};
  const auto work = [&] {
    for (size_t at = next++; at < settings.size(); at = next++) {
      Evaluator evaluator(problem, lanes);
      if (evaluator.prepare().empty()) results[at] = run_chain(evaluator, domain, settings[at]);
    }
  };
  std::vector<std::thread> threads;
  for (int i = 1; i < workers && i < static_cast<int>(settings.size()); ++i) threads.emplace_back(work);
  work();
  for (std::thread& thread : threads) thread.join();
  return results;
}

std::vector<std::vector<Insn>> record_proposals(Evaluator& evaluator, const Domain& domain, uint64_t seed,
                                                size_t count) {
  ChainSettings settings;
  settings.seed = seed;
  settings.steps = 1000 * static_cast<uint64_t>(count);
  settings.early_stop = false;
  std::vector<std::vector<Insn>> recorded;
  recorded.reserve(count);
  Chain(evaluator, domain, settings, &recorded).run();
  return recorded;
}

}  // namespace k2
