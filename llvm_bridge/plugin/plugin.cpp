// An LLVM pass that writes down what BPF bytecode cannot show: for each function, whether the program asked for
// volatile or atomic accesses or wrote assembly, as the IR stands when its optimisation is over (so after inlining).
//
// The record is the section ".k2.facts", read by llvm_bridge/facts_section.py: the header line, then for each function
// one digit (the sum of the values of Access below), the symbol's name, for each `annotate("k2:...")` of it a byte 1
// and the text, and a NUL.  The variable that holds it is
// private and has no debug info: it enters neither the symbol table nor BTF.  A module that has something of that name
// already gets none.
//
// One source for LLVM 14 and newer; the result fits only the major version that it was compiled against.

#include <llvm/Config/llvm-config.h>
#include <llvm/IR/Constants.h>
#include <llvm/IR/GlobalVariable.h>
#include <llvm/IR/InstIterator.h>
#include <llvm/IR/Instructions.h>
#include <llvm/IR/IntrinsicInst.h>
#include <llvm/IR/Module.h>
#include <llvm/IR/PassManager.h>
#include <llvm/Passes/PassBuilder.h>
#include <llvm/Transforms/Utils/ModuleUtils.h>
#if __has_include(<llvm/Plugins/PassPlugin.h>)
#include <llvm/Plugins/PassPlugin.h>
#else
#include <llvm/Passes/PassPlugin.h>
#endif

#include <algorithm>
#include <map>
#include <string>

#ifdef _LIBCPP_VERSION
#error "LLVM's own interface is built with libstdc++ here: a plugin with another standard library cannot be loaded"
#endif

// LLVM's C interface, since 16; a clang that is linked statically need not contain it.
extern "C" __attribute__((weak)) void LLVMGetVersion(unsigned* major, unsigned* minor, unsigned* patch);

namespace {

constexpr char kSection[] = ".k2.facts";
constexpr char kHeader[] = "k2 facts 2\n";
constexpr char kBehindName = '\1';
constexpr char kMark[] = "k2:";

enum Access : unsigned { kNone = 0, kVolatile = 1, kAtomic = 2, kBarrier = 4 };

// llvm.bpf.getelementptr.and.load and .store stand for accesses until code generation.  Volatility (i1) and atomic
// ordering (i8) are operands behind the address: llvm/IR/IntrinsicsBPF.td.
unsigned accessOfBpfIntrinsic(const llvm::CallBase& call, llvm::StringRef name) {
  const bool isStore = name.contains(".store");
  const unsigned at = isStore ? 2 : 1;
  if (call.arg_size() <= at + 1) return kVolatile | kAtomic;
  const auto* isVolatile = llvm::dyn_cast<llvm::ConstantInt>(call.getArgOperand(at));
  const auto* ordering = llvm::dyn_cast<llvm::ConstantInt>(call.getArgOperand(at + 1));
  const bool plain = isVolatile && isVolatile->isZero();
  const bool unordered = ordering && ordering->isZero();
  return (plain ? kNone : kVolatile) | (unordered ? kNone : kAtomic);
}

unsigned accessOfCall(const llvm::CallBase& call) {
  if (call.isInlineAsm()) return kBarrier;  // of whatever constraints: its text may access memory without saying so
  if (llvm::isa<llvm::AnyMemIntrinsic>(call) && !llvm::isa<llvm::MemIntrinsic>(call)) return kAtomic;
  const llvm::Function* callee = call.getCalledFunction();
  if (callee == nullptr) return kNone;
  const llvm::StringRef name = callee->getName();
  return name.find("llvm.bpf.getelementptr.and.") == 0 ? accessOfBpfIntrinsic(call, name) : kNone;
}

unsigned accessOf(const llvm::Instruction& instruction) {
  unsigned found = kNone;
  if (instruction.isVolatile()) found |= kVolatile;
  if (instruction.isAtomic()) found |= kAtomic;
  if (llvm::isa<llvm::FenceInst>(instruction)) found |= kBarrier;
  if (const auto* call = llvm::dyn_cast<llvm::CallBase>(&instruction)) found |= accessOfCall(*call);
  return found;
}

// Text of an annotation, as the front end made it: a private constant with a NUL at its end.
std::string textOf(const llvm::Constant& pointer) {
  const auto* variable = llvm::dyn_cast<llvm::GlobalVariable>(pointer.stripPointerCasts());
  if (variable == nullptr || !variable->hasInitializer()) return {};
  const auto* text = llvm::dyn_cast<llvm::ConstantDataSequential>(variable->getInitializer());
  return text != nullptr && text->isCString() ? text->getAsCString().str() : std::string();
}

// `annotate("k2:...")` of every function: entries of @llvm.global.annotations are {function, text, file, line, more}.
std::map<const llvm::Value*, std::string> annotationsOf(const llvm::Module& module) {
  std::map<const llvm::Value*, std::string> found;
  const llvm::GlobalVariable* all = module.getNamedGlobal("llvm.global.annotations");
  if (all == nullptr || !all->hasInitializer()) return found;
  for (const llvm::Use& use : all->getInitializer()->operands()) {
    const auto* entry = llvm::dyn_cast<llvm::ConstantStruct>(use.get());
    if (entry == nullptr || entry->getNumOperands() < 2) continue;
    const std::string text = textOf(*entry->getOperand(1));
    if (text.compare(0, sizeof kMark - 1, kMark) != 0 || text.find(kBehindName) != std::string::npos) continue;
    found[entry->getOperand(0)->stripPointerCasts()] += kBehindName + text;
  }
  return found;
}

std::string recordOf(const llvm::Module& module) {
  std::string text = kHeader;
  const auto annotations = annotationsOf(module);
  for (const llvm::Function& function : module) {
    const llvm::StringRef name = llvm::GlobalValue::dropLLVMManglingEscape(function.getName());
    if (function.isDeclarationForLinker() || name.contains(kBehindName)) continue;
    // Assembly at file scope may do anything to any function.
    unsigned found = module.getModuleInlineAsm().empty() ? kNone : kBarrier;
    for (const llvm::Instruction& instruction : llvm::instructions(function)) found |= accessOf(instruction);
    text += static_cast<char>('0' + found);
    text += name;
    if (const auto annotated = annotations.find(&function); annotated != annotations.end()) text += annotated->second;
    text += '\0';
  }
  return text;
}

class RecordAccesses : public llvm::PassInfoMixin<RecordAccesses> {
 public:
  llvm::PreservedAnalyses run(llvm::Module& module, llvm::ModuleAnalysisManager&) {
    const auto isOurs = [](const llvm::GlobalObject& global) { return global.getSection() == kSection; };
    const auto globals = module.global_objects();
    if (std::any_of(globals.begin(), globals.end(), isOurs)) return llvm::PreservedAnalyses::all();
    auto* text = llvm::ConstantDataArray::getString(module.getContext(), recordOf(module), false);
    auto* record = new llvm::GlobalVariable(module, text->getType(), true, llvm::GlobalValue::PrivateLinkage, text);
    record->setSection(kSection);
    record->setAlignment(llvm::Align(1));
    llvm::appendToCompilerUsed(module, {record});
    return llvm::PreservedAnalyses::none();
  }

  static bool isRequired() { return true; }  // for functions that are not optimised too
};

void registerPass(llvm::PassBuilder& builder) {
  // Newer majors pass a third argument, the phase of link-time optimisation.
  builder.registerOptimizerLastEPCallback(
      [](llvm::ModulePassManager& passes, auto&&...) { passes.addPass(RecordAccesses()); });
}

bool fitsHost() {
  if (LLVMGetVersion == nullptr) return true;
  unsigned major = 0, minor = 0, patch = 0;
  LLVMGetVersion(&major, &minor, &patch);
  return major == LLVM_VERSION_MAJOR;
}

}  // namespace

extern "C" __attribute__((visibility("default"))) llvm::PassPluginLibraryInfo llvmGetPassPluginInfo() {
  // A version that no LLVM has makes the host refuse us with an error.
  const uint32_t version = fitsHost() ? LLVM_PLUGIN_API_VERSION : 0;
  return {version, "k2-facts", LLVM_VERSION_STRING, registerPass};
}
