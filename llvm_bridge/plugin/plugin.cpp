// An LLVM pass that writes down what BPF bytecode cannot show: for each function, whether the program asked for
// volatile or atomic accesses or wrote assembly, as the IR stands when its optimisation is over (so after inlining).
//
// The record is the section ".k2.facts", read by llvm_bridge/facts_section.py: the header line, then for each function
// one digit (the sum of the values of Access below), the symbol's name and a NUL.  The variable that holds it is
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
#include <string>

#ifdef _LIBCPP_VERSION
#error "LLVM's own interface is built with libstdc++ here: a plugin with another standard library cannot be loaded"
#endif

// LLVM's C interface, since 16; a clang that is linked statically need not contain it.
extern "C" __attribute__((weak)) void LLVMGetVersion(unsigned* major, unsigned* minor, unsigned* patch);

namespace {

constexpr char kSection[] = ".k2.facts";
constexpr char kHeader[] = "k2 facts 1\n";

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

std::string recordOf(const llvm::Module& module) {
  std::string text = kHeader;
  for (const llvm::Function& function : module) {
    if (function.isDeclarationForLinker()) continue;
    // Assembly at file scope may do anything to any function.
    unsigned found = module.getModuleInlineAsm().empty() ? kNone : kBarrier;
    for (const llvm::Instruction& instruction : llvm::instructions(function)) found |= accessOf(instruction);
    text += static_cast<char>('0' + found);
    text += llvm::GlobalValue::dropLLVMManglingEscape(function.getName());
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
