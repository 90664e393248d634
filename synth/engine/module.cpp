// The engine as a Python module: values in, values out; engine_link.py is the only caller.
#include <nanobind/nanobind.h>
#include <nanobind/stl/array.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <cstring>
#include <limits>
#include <stdexcept>
#include <tuple>

#include "chain.h"
#include "enumerate.h"

namespace nb = nanobind;

namespace {

using k2::Batch;
using k2::Insn;
using k2::lane_count;
using k2::Problem;
using k2::Row;
using k2::Type;

using InsnTuple = std::tuple<int, int, bool, int, int, int, int64_t>;
using TypeTuple = std::tuple<int, bool, int>;  // kind: -1 uninitialised, -2 a number, else a region
using Column = std::vector<uint64_t>;          // one value per test
using RegionTuple = std::tuple<Column, Column, uint32_t, nb::bytes>;  // base, limit, stride, contents
using EventTuple = std::tuple<int, int, int, TypeTuple, Column>;      // op, width, region, result type, loaded values
using SymbolTuple = std::tuple<TypeTuple, Column>;
using FoundTuple = std::tuple<std::vector<InsnTuple>, uint64_t, uint64_t>;

void require(bool condition, const char* what) {
  if (!condition) throw std::invalid_argument(what);
}

Insn insn_of(const InsnTuple& t) {
  const auto& [op, width, from_reg, dst, src, off, imm] = t;
  require(op >= 0 && static_cast<size_t>(op) < k2::op_names.size(), "unknown operation");
  require(width == 8 || width == 16 || width == 32 || width == 64, "a width is 8, 16, 32 or 64 bits");
  require(dst >= 0 && dst < k2::register_count && src >= 0 && src < k2::register_count, "no such register");
  require(off >= std::numeric_limits<int16_t>::min() && off <= std::numeric_limits<int16_t>::max(),
          "offset out of range");
  Insn insn;
  insn.op = static_cast<k2::Op>(op);
  insn.width = static_cast<uint8_t>(width);
  insn.from_reg = from_reg;
  insn.dst = static_cast<uint8_t>(dst);
  insn.src = static_cast<uint8_t>(src);
  insn.off = static_cast<int16_t>(off);
  insn.imm = imm;
  return insn;
}

InsnTuple tuple_of(const Insn& i) { return {static_cast<int>(i.op), i.width, i.from_reg, i.dst, i.src, i.off, i.imm}; }

std::vector<Insn> insns_of(const std::vector<InsnTuple>& tuples) {
  require(tuples.size() <= k2::max_length, "the program is too long");
  std::vector<Insn> insns;
  insns.reserve(tuples.size());
  for (const InsnTuple& t : tuples) insns.push_back(insn_of(t));
  return insns;
}

// How many things the indices inside instructions and types may name.
struct Names {
  size_t regions;
  size_t symbols;
};

Type type_of(const TypeTuple& t, const Names& names) {
  const auto& [kind, exact, off] = t;
  if (kind == -1) return Type{};
  if (kind == -2) return Type{Type::scalar, false, 0};
  require(kind >= 0 && static_cast<size_t>(kind) < names.regions, "no such region");
  return Type{static_cast<uint8_t>(kind), exact, off};
}

void check_symbols(const std::vector<Insn>& insns, const Names& names) {
  for (const Insn& insn : insns) {
    if (insn.op == k2::Op::symbol)
      require(insn.imm >= 0 && static_cast<size_t>(insn.imm) < names.symbols, "no such symbol");
  }
}

k2::RegionRules rules_of(unsigned flags) {
  k2::RegionRules rules;
  rules.accessible = (flags & 1U) != 0;
  rules.shared = (flags & 2U) != 0;
  rules.is_stack = (flags & 4U) != 0;
  rules.immediate_arithmetic = (flags & 8U) != 0;
  rules.register_arithmetic = (flags & 16U) != 0;
  rules.subtractable = (flags & 32U) != 0;
  rules.store_immediate = (flags & 64U) != 0;
  rules.aligned = (flags & 128U) != 0;
  rules.unmodified = (flags & 256U) != 0;
  return rules;
}

Row row_of(const Column& column, size_t batch) {
  Row row;
  std::memcpy(row.lane, column.data() + batch * lane_count, sizeof row.lane);
  return row;
}

// A problem as Python builds it, test inputs included.
class Session {
 public:
  Session(const std::vector<InsnTuple>& original, const std::vector<unsigned>& rules,
          const std::vector<TypeTuple>& types, const std::vector<std::pair<int, TypeTuple>>& spills,
          const nb::bytes& initialised, const std::vector<EventTuple>& events, const std::vector<SymbolTuple>& symbols,
          const std::vector<uint64_t>& register_demand, const nb::bytes& stack_demand, bool big_endian)
      : names_{rules.size(), symbols.size()} {
    require(rules.size() <= k2::max_regions && events.size() < 200, "too many regions or events");
    require(types.size() == k2::register_count && register_demand.size() == k2::register_count,
            "eleven registers are needed");
    require(stack_demand.size() == k2::stack_bytes && initialised.size() == k2::stack_slots, "a stack has 512 bytes");
    for (const unsigned flags : rules) problem_.frame.regions.push_back(rules_of(flags));
    problem_.original = insns_of(original);
    check_symbols(problem_.original, names_);
    for (size_t r = 0; r < k2::register_count; ++r) {
      problem_.entry.reg[r] = type_of(types[r], names_);
      problem_.register_demand[r] = register_demand[r];
    }
    for (Type& slot : problem_.entry.slot) slot.kind = Type::scalar;
    for (const auto& [slot, type] : spills) {
      require(slot >= 0 && slot < k2::stack_slots, "no such stack slot");
      problem_.entry.slot[slot] = type_of(type, names_);
    }
    std::memcpy(problem_.entry.initialised, initialised.c_str(), k2::stack_slots);
    std::memcpy(problem_.stack_demand.data(), stack_demand.c_str(), k2::stack_bytes);
    for (const auto& [op, width, region, result, values] : events) {
      require(region >= 0 && static_cast<size_t>(region) < rules.size(), "no such region");
      problem_.frame.events.push_back({static_cast<k2::Op>(op), static_cast<uint8_t>(width),
                                       static_cast<uint8_t>(region), type_of(result, names_)});
      event_values_.push_back(values);
    }
    for (const auto& [type, values] : symbols) {
      problem_.frame.symbols.push_back(type_of(type, names_));
      symbol_values_.push_back(values);
    }
    problem_.big_endian = big_endian;
  }

  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  void set_costs(const std::vector<std::pair<InsnTuple, uint32_t>>& costs) {
    for (const auto& [insn, picoseconds] : costs) problem_.picoseconds[k2::shape_of(insn_of(insn))] = picoseconds;
  }

  // Exits 1, 2, ... of a program with branches: which register bits and stack bytes are wanted behind each.
  void set_exits(const std::vector<std::pair<std::vector<uint64_t>, nb::bytes>>& exits) {
    require(exits.size() < k2::max_exits, "too many exits");
    problem_.has_branches = true;
    for (const auto& [registers, stack] : exits) {
      require(registers.size() == k2::register_count && stack.size() == k2::stack_bytes, "an exit's demand is whole");
      k2::Wanted wanted;
      std::memcpy(wanted.registers.data(), registers.data(), sizeof wanted.registers);
      std::memcpy(wanted.stack.data(), stack.c_str(), k2::stack_bytes);
      problem_.exits.push_back(wanted);
    }
  }

  // Registers and regions of all tests; the number of tests is a multiple of 32.  Returns why the original cannot be
  // run, or "".
  std::string load(const std::vector<Column>& registers, const std::vector<RegionTuple>& regions,
                   const std::string& lanes) {
    require(registers.size() == k2::register_count && regions.size() == problem_.frame.regions.size(),
            "wrong number of columns");
    const size_t tests = registers[0].size();
    require(tests > 0 && tests % lane_count == 0, "the number of tests is a multiple of 32");
    for (const std::vector<Column>* columns :
         std::array<const std::vector<Column>*, 3>{&registers, &event_values_, &symbol_values_}) {
      for (const Column& column : *columns) require(column.size() == tests, "every column needs a value per test");
    }
    problem_.batches.assign(tests / lane_count, Batch{});
    for (size_t b = 0; b < problem_.batches.size(); ++b) fill(problem_.batches[b], b, registers, regions);
    evaluators_.clear();
    if (!problem_.has_branches) {
      for (const Insn& insn : problem_.original) require(!k2::is_branch(insn.op), "a branch, and no exits are known");
    }
    evaluators_.emplace_back(problem_, variant(lanes));
    return evaluators_[0].prepare();
  }

  // Bits of difference, or -1 when the candidate may not run.
  nb::object errors(const std::vector<InsnTuple>& candidate) {
    const std::vector<Insn> insns = insns_of(candidate);
    check_symbols(insns, names_);
    for (const Insn& insn : insns) {
      if (!problem_.has_branches) require(!k2::is_branch(insn.op), "a branch, and no exits are known");
    }
    const uint64_t bits = evaluator().errors(insns.data(), static_cast<int>(insns.size()));
    return bits == k2::unsafe ? nb::int_(-1) : nb::int_(bits);
  }

  // The registers that the original leaves, register by register, a value per test; and each region's bytes.
  std::pair<std::vector<Column>, std::vector<nb::bytes>> results() {
    const std::vector<Batch>& batches = evaluator().problem().batches;
    std::vector<Column> registers(k2::register_count);
    for (size_t r = 0; r < k2::register_count; ++r) {
      for (const Batch& batch : batches) {
        registers[r].insert(registers[r].end(), batch.expected[r].lane, batch.expected[r].lane + lane_count);
      }
    }
    std::vector<nb::bytes> regions;
    for (size_t r = 0; r < batches[0].regions.size(); ++r) {
      std::string bytes;
      for (const Batch& batch : batches) {
        bytes.append(reinterpret_cast<const char*>(batch.regions[r].expected.data()), batch.regions[r].expected.size());
      }
      regions.emplace_back(bytes.data(), bytes.size());
    }
    return {registers, regions};
  }

  // The addresses that the original's shared accesses touched, a value per test.
  std::vector<Column> event_addresses() {
    std::vector<Column> found(problem_.frame.events.size());
    for (const Batch& batch : evaluator().problem().batches) {
      for (size_t e = 0; e < found.size(); ++e) {
        found[e].insert(found[e].end(), batch.events[e].address.lane, batch.events[e].address.lane + lane_count);
      }
    }
    return found;
  }

  std::tuple<std::vector<FoundTuple>, uint64_t, bool> enumerate(const k2::Domain& domain,
                                                                const k2::EnumerationSettings& settings) {
    k2::EnumerationResult result;
    k2::Evaluator& evaluator = this->evaluator();
    {
      nb::gil_scoped_release released;
      result = k2::enumerate(evaluator, domain, settings);
    }
    return {tuples_of(result.found), result.evaluations, result.complete};
  }

  std::tuple<std::vector<FoundTuple>, uint64_t, uint64_t> chain(const k2::Domain& domain,
                                                                const k2::ChainSettings& settings) {
    k2::ChainResult result;
    k2::Evaluator& evaluator = this->evaluator();
    {
      nb::gil_scoped_release released;
      result = k2::run_chain(evaluator, domain, settings);
    }
    return {tuples_of(result.found), result.evaluations, result.accepted};
  }

  // What each of several chains found, in the order of their settings, whatever the number of workers.
  std::vector<std::vector<FoundTuple>> chains(const k2::Domain& domain, const std::vector<k2::ChainSettings>& settings,
                                              int workers) {
    std::vector<k2::ChainResult> results;
    const k2::Lanes& lanes = evaluator().lanes();
    {
      nb::gil_scoped_release released;
      results = k2::run_chains(problem_, lanes, domain, settings, workers);
    }
    std::vector<std::vector<FoundTuple>> found;
    for (const k2::ChainResult& result : results) found.push_back(tuples_of(result.found));
    return found;
  }

  // Keeps proposals of a chain for `evaluate_recorded`; returns how many instructions they have in all.
  uint64_t record_proposals(const k2::Domain& domain, uint64_t seed, uint64_t count) {
    recorded_ = k2::record_proposals(evaluator(), domain, seed, count);
    uint64_t insns = 0;
    for (const std::vector<Insn>& one : recorded_) insns += evaluator().slots(one.data(), static_cast<int>(one.size()));
    return insns;
  }

  // Evaluates every recorded proposal `rounds` times in full; returns how many evaluations that were.
  uint64_t evaluate_recorded(uint64_t rounds) {
    k2::Evaluator& evaluator = this->evaluator();
    nb::gil_scoped_release released;
    const uint64_t before = evaluator.runs();
    for (uint64_t round = 0; round < rounds; ++round) {
      for (const std::vector<Insn>& one : recorded_) evaluator.errors(one.data(), static_cast<int>(one.size()));
    }
    return evaluator.runs() - before;
  }

  const Names& names() const { return names_; }

 private:
  static const k2::Lanes& variant(const std::string& name) {
    if (name.empty()) return k2::best_lanes();
    for (const k2::Lanes* lanes : k2::available_lanes()) {
      if (name == lanes->name) return *lanes;
    }
    throw std::invalid_argument("this machine cannot run the lanes " + name);
  }

  static std::vector<FoundTuple> tuples_of(const std::vector<k2::Found>& found) {
    std::vector<FoundTuple> tuples;
    for (const k2::Found& one : found) {
      std::vector<InsnTuple> program;
      program.reserve(one.program.size());
      for (const Insn& insn : one.program) program.push_back(tuple_of(insn));
      tuples.emplace_back(program, one.slots, one.picoseconds);
    }
    return tuples;
  }

  void fill(Batch& batch, size_t b, const std::vector<Column>& registers,
            const std::vector<RegionTuple>& regions) const {
    for (size_t r = 0; r < k2::register_count; ++r) batch.initial[r] = row_of(registers[r], b);
    for (const auto& [base, limit, stride, contents] : regions) {
      const size_t tests = registers[0].size();
      require(base.size() == tests && limit.size() == tests, "every column needs a value per test");
      require(contents.size() == tests * stride, "a region needs its bytes for every test");
      require(stride % 8 == 0, "a region is a whole number of words");
      k2::RegionLanes lanes;
      lanes.base = row_of(base, b);
      lanes.limit = row_of(limit, b);
      for (const uint64_t bound : lanes.limit.lane) require(bound <= stride, "a region's limit lies inside its bytes");
      lanes.stride = stride;
      const auto* bytes = reinterpret_cast<const uint8_t*>(contents.c_str()) + b * lane_count * stride;
      lanes.initial.assign(bytes, bytes + static_cast<size_t>(lane_count) * stride);
      batch.regions.push_back(std::move(lanes));
    }
    for (const Column& values : event_values_) batch.events.push_back({Row{}, row_of(values, b)});
    for (const Column& values : symbol_values_) batch.symbols.push_back(row_of(values, b));
  }

  k2::Evaluator& evaluator() {
    if (evaluators_.empty()) throw std::logic_error("load test inputs first");
    return evaluators_[0];
  }

  Names names_;
  Problem problem_;
  std::vector<Column> event_values_;
  std::vector<Column> symbol_values_;
  std::vector<std::vector<Insn>> recorded_;
  std::vector<k2::Evaluator> evaluators_;  // empty until test inputs are loaded
};

k2::Domain domain_of(const std::vector<InsnTuple>& alu, const std::vector<InsnTuple>& memory,
                     const std::vector<InsnTuple>& wide, const std::vector<int64_t>& immediates,
                     const std::vector<int16_t>& offsets, const std::vector<uint8_t>& writable,
                     const std::vector<uint8_t>& readable) {
  const auto shapes = [](const std::vector<InsnTuple>& tuples) {
    std::vector<Insn> insns;
    insns.reserve(tuples.size());
    for (const InsnTuple& t : tuples) insns.push_back(insn_of(t));
    return insns;
  };
  require(!alu.empty() && !immediates.empty() && !offsets.empty() && !writable.empty() && !readable.empty(),
          "the domain is empty");
  for (const std::vector<uint8_t>* registers : std::array<const std::vector<uint8_t>*, 2>{&writable, &readable}) {
    for (const uint8_t r : *registers) require(r < k2::register_count, "no such register");
  }
  return k2::Domain{shapes(alu), shapes(memory), shapes(wide), immediates, offsets, writable, readable, {}, {}};
}

}  // namespace

NB_MODULE(_engine, m) {
  m.attr("LANES") = lane_count;
#ifdef __clang__
  m.attr("COMPILER") = "clang " __clang_version__;
#elif defined(__GNUC__)
  m.attr("COMPILER") = "gcc " __VERSION__;
#else
  m.attr("COMPILER") = "unknown";
#endif
  m.attr("OPERATIONS") = std::vector<std::string>(k2::op_names.begin(), k2::op_names.end());

  m.def("variants", [] {
    std::vector<std::string> names;
    for (const k2::Lanes* lanes : k2::available_lanes()) names.emplace_back(lanes->name);
    return names;
  });
  m.def("random_numbers", [](uint64_t seed, int count) {
    k2::Random random(seed);
    std::vector<uint64_t> numbers;
    numbers.reserve(static_cast<size_t>(count));
    for (int i = 0; i < count; ++i) numbers.push_back(random.next());
    return numbers;
  });
  m.def("allowances", [](uint64_t seed, int count) {
    k2::Random random(seed);
    std::vector<uint64_t> numbers;
    numbers.reserve(static_cast<size_t>(count));
    for (int i = 0; i < count; ++i) numbers.push_back(k2::draw_allowance(random));
    return numbers;
  });

  nb::class_<k2::Domain>(m, "Domain")
      .def("__init__",
           [](k2::Domain* at, const std::vector<InsnTuple>& alu, const std::vector<InsnTuple>& memory,
              const std::vector<InsnTuple>& wide, const std::vector<int64_t>& immediates,
              const std::vector<int16_t>& offsets, const std::vector<uint8_t>& writable,
              const std::vector<uint8_t>& readable) {
             new (at) k2::Domain(domain_of(alu, memory, wide, immediates, offsets, writable, readable));
           })
      .def("set_branches",
           [](k2::Domain& domain, const std::vector<InsnTuple>& shapes, const std::vector<int16_t>& targets) {
             domain.branches.clear();
             for (const InsnTuple& t : shapes) {
               domain.branches.push_back(insn_of(t));
               require(k2::is_conditional(domain.branches.back().op), "no conditional branch");
             }
             require(shapes.empty() || !targets.empty(), "branches need a target");
             domain.targets = targets;
           })
      .def("instructions", [](const k2::Domain& domain) {
        const std::vector<Insn> insns = k2::all_instructions(domain);
        std::vector<InsnTuple> tuples;
        tuples.reserve(insns.size());
        for (const Insn& insn : insns) tuples.push_back(tuple_of(insn));
        return tuples;
      });

  nb::class_<k2::ChainSettings>(m, "ChainSettings")
      .def(nb::init<>())
      .def_rw("seed", &k2::ChainSettings::seed)
      .def_rw("steps", &k2::ChainSettings::steps)
      .def_rw("restart", &k2::ChainSettings::restart)
      .def_rw("error_weight", &k2::ChainSettings::error_weight)
      .def_rw("slot_weight", &k2::ChainSettings::slot_weight)
      .def_rw("nanosecond_weight", &k2::ChainSettings::nanosecond_weight)
      .def_rw("keep", &k2::ChainSettings::keep)
      .def_rw("never_slower", &k2::ChainSettings::never_slower)
      .def_rw("early_stop", &k2::ChainSettings::early_stop)
      .def_rw("operand_moves", &k2::ChainSettings::operand_moves)
      .def_rw("instruction_moves", &k2::ChainSettings::instruction_moves)
      .def_rw("nop_moves", &k2::ChainSettings::nop_moves)
      .def_rw("pair_moves", &k2::ChainSettings::pair_moves)
      .def_rw("access_moves", &k2::ChainSettings::access_moves)
      .def_rw("swap_moves", &k2::ChainSettings::swap_moves)
      .def_rw("compound_moves", &k2::ChainSettings::compound_moves);

  nb::class_<k2::EnumerationSettings>(m, "EnumerationSettings")
      .def(nb::init<>())
      .def_rw("longest", &k2::EnumerationSettings::longest)
      .def_rw("budget", &k2::EnumerationSettings::budget)
      .def_rw("keep", &k2::EnumerationSettings::keep)
      .def_rw("never_slower", &k2::EnumerationSettings::never_slower);

  nb::class_<Session>(m, "Session")
      .def(nb::init<const std::vector<InsnTuple>&, const std::vector<unsigned>&, const std::vector<TypeTuple>&,
                    const std::vector<std::pair<int, TypeTuple>>&, nb::bytes, const std::vector<EventTuple>&,
                    const std::vector<SymbolTuple>&, const std::vector<uint64_t>&, nb::bytes, bool>(),
           nb::arg("original"), nb::arg("rules"), nb::arg("types"), nb::arg("spills"), nb::arg("initialised"),
           nb::arg("events"), nb::arg("symbols"), nb::arg("register_demand"), nb::arg("stack_demand"),
           nb::arg("big_endian"))
      .def("set_costs", &Session::set_costs)
      .def("set_exits", &Session::set_exits)
      .def("load", &Session::load, nb::arg("registers"), nb::arg("regions"), nb::arg("lanes") = "")
      .def("errors", &Session::errors)
      .def("results", &Session::results)
      .def("event_addresses", &Session::event_addresses)
      .def("enumerate", &Session::enumerate)
      .def("chain", &Session::chain)
      .def("chains", &Session::chains)
      .def("record_proposals", &Session::record_proposals)
      .def("evaluate_recorded", &Session::evaluate_recorded);
}
