"""The table of invocations (docs/drop-in.md) as data: what build systems start, and what of it is ours.

A script is run by sh with the compiler's words in $CC, once with the real compiler and once with k2-clang.  `objects`
are the files that our stage must be given, each with the -mcpu level that it must be told ("?" where the compiler does
not say one); everything else must be the real compiler's to the byte.  `unsteady` files hold times or addresses, so
that two runs of the real compiler differ in them too.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

SOURCES: Final = {
    "prog.c": """
#define SEC(name) __attribute__((section(name), used))
struct xdp_md { unsigned data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress_ifindex; };
SEC("xdp") int pass(struct xdp_md *context)
{
    unsigned char *data = (void *)(long)context->data, *end = (void *)(long)context->data_end;
    if (data + 14 > end)
        return 1;
    data[0] = data[1] = data[2] = data[3] = 0;
    return data[12] == 8 && data[13] == 0 ? 2 : 1;
}
char _license[] SEC("license") = "GPL";
""",
    "second.c": 'int second(void *context) { return 2; }\nchar l[] __attribute__((section("license"))) = "GPL";\n',
    "bad.c": "int f(void) { return undeclared; }\n",
    "warns.c": "int f(void) { int unused; return 0; }\n",
    "host.c": "int main(void) { return 0; }\n",
    "code.s": '\t.section xdp,"ax"\n\t.globl f\nf:\n\tr0 = 0\n\texit\n',
    "args.rsp": '-O2 -g --target=bpf -DNAME="a b" @inner.rsp\n',
    "inner.rsp": "-c prog.c -o 'from rsp.o'\n",
    "hidden.cfg": "--target=bpf -mcpu=v2\n",
}


@dataclass(frozen=True, slots=True)
class Row:
    """One invocation: `number` in the table of docs/drop-in.md.  `only`: the compilers it is for, () for every one."""

    number: int
    script: str
    objects: dict[str, str] = field(default_factory=dict)
    unsteady: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    stdin: str = ""


LEVEL: Final = "default"  # stands for the level that the compiler has without -mcpu
NEW: Final = ("clang-19",)
CLANGS: Final = ("clang-14", "clang-16", "clang-19")  # those that have llc and other tools beside them
MAIN: Final = "int main(void) { return 0; }\n"
WORDS: Final = "-D__TARGET_ARCH_x86 -Wunused-command-line-argument -fno-ident -fdebug-prefix-map=$PWD=."

PASSED: Final = (
    Row(2, "$CC -S -target bpf -O2 -emit-llvm -c -g -o prog.ll prog.c"),
    Row(3, "$CC -O2 -emit-llvm -c -g prog.c -o -"),
    Row(4, "$CC -O2 -emit-llvm -Xclang -disable-llvm-passes -c prog.c -o - | cat"),
    Row(5, "$CC -emit-llvm -O2 -target bpf -c prog.c -o - | cat"),
    Row(8, "$CC -fPIC -c host.c -o host.o"),
    Row(8, "$CC -c host.c"),
    Row(8, "$CC -fPIC -shared -fuse-ld=no-such-linker -o host.so host.c"),
    Row(11, "$CC -v -E - 2>&1 | sed -n '/<...> search starts here:/,/End of search list/p'"),
    Row(11, "$CC -v -E -"),
    Row(12, "echo | $CC -Wp,-v -E -"),
    Row(12, "$CC -print-multiarch"),
    Row(13, "$CC -dM -E - | grep -E '__BYTE_ORDER__|__LP64__'"),
    Row(14, "$CC --version | head -n 1"),
    Row(14, "$CC --version | sed -nE 's/.*clang version ([[:digit:]]+).*/\\1/p'"),
    Row(14, "$CC --version | head -1 | tr -d '[:alpha:]' | tr -d '[:space:]' | cut -d. -f1"),
    Row(14, "$CC -E -P -x c -", stdin="__clang_major__ __clang_minor__\n"),
    *(Row(15, f"$CC {word}") for word in ("-dumpversion", "-dumpmachine", "-print-resource-dir", "-print-targets")),
    *(Row(15, f"$CC -print-{word}") for word in ("file-name=include", "prog-name=ld", "search-dirs")),
    Row(15, "$CC -print-effective-triple --target=bpf"),
    Row(18, "$CC -S -g --target=bpf -o - prog.c"),
    Row(18, "printf 'int x;' | $CC -g -target bpf -S -o - -x c - | grep -c BTF"),
    Row(19, "$CC --target=bpf -mcpu='?'"),
    Row(19, "$CC --target=bpf -mcpu='?' -c prog.c"),
    Row(19, "echo 'int x;' | $CC -target bpf -O2 -emit-llvm -S -x c - -o -"),
    Row(20, "$CC -Werror -E -x c /dev/null -o /dev/null"),
    Row(20, "$CC -Werror -Wno-such-warning -c -x c /dev/null -o tmp.o"),
    Row(20, "$CC -Werror -Wundef -c -x c /dev/null -o tmp.o"),
    Row(20, "$CC -Werror -target bpf -c -x c /dev/null -o empty.o"),
    Row(20, "echo 'int x = 1; char y[9];' | $CC -Werror -target bpf -g -c -x c - -o data.o"),
    Row(14, "$CC -E -P -x c -"),
    Row(21, "$CC --target=bpf -E prog.c -o prog.i"),
    Row(21, "$CC --target=bpf -E -dD prog.c"),
    Row(21, "$CC --target=bpf -fsyntax-only prog.c; $CC --target=bpf -fsyntax-only bad.c"),
    Row(21, "$CC --target=bpf -M prog.c; $CC --target=bpf -MM prog.c"),
    Row(23, "$CC --target=bpf -O2 -c prog.c -o - | cat"),
    Row(24, "$CC --target=bpf -O2 -c prog.c -o /dev/null"),
    Row(25, "$CC --target=bpf -O2 -c prog.c second.c -o both.o"),
    Row(28, "$CC --target=bpf -O2 -S prog.c && cat prog.s"),
    Row(29, "$CC --target=bpf -O2 -flto -c prog.c -o prog.o"),
    Row(29, "$CC --target=bpf -O2 -emit-llvm -c prog.c -o prog.bc"),
    Row(32, "$CC --target=bpf prog.c -o linked"),
    Row(0, "$CC --help", only=CLANGS),
    Row(0, "$CC --no-such-option"),
    Row(0, "$CC"),
    Row(0, "$CC -c no-such-file.c --target=bpf"),
    Row(0, "$CC -### -c prog.c --target=bpf"),
    Row(0, "$CC --target=bpf -O2 -c bad.c -o bad.o"),
    Row(0, "$CC --target=bpf -O2 -c prog.c -o no-such-folder/prog.o"),
    Row(0, "$CC -Werror -Wall --target=bpf -c warns.c -o warns.o"),
)

OPTIMISED: Final = (
    Row(
        1,
        "$CC -target bpf -Wall -Werror -fno-stack-protector -std=gnu2x -ffile-prefix-map=$PWD=. "
        "-O2 -c -g -o x.o prog.c",
        {"x.o": LEVEL},
    ),
    Row(6, "$CC --target=bpf -O2 -g -Wno-unused-value -I. -c prog.c -o prog.bpf.o", {"prog.bpf.o": LEVEL}),
    *(Row(7, f"$CC -g -O2 -target bpf -c prog.c -mcpu=v{n} -o x.bpf.o", {"x.bpf.o": str(n)}) for n in (1, 2, 3)),
    Row(7, "$CC -g -O2 --target=bpfel -c prog.c -mcpu=v4 -o x.bpf.o", {"x.bpf.o": "4"}, only=NEW),
    Row(7, "$CC -g -O2 --target=bpfeb -mcpu=v3 -c prog.c -o x.bpf.o", {"x.bpf.o": "3"}),
    Row(7, "$CC -g -O2 --target=bpf -mbig-endian -mcpu=v3 -c prog.c -o x.bpf.o", {"x.bpf.o": "3"}),
    Row(7, "$CC -g -O2 --target=bpf -mcpu=v3 -Xclang -target-feature -Xclang -alu32 -c prog.c", {"prog.o": "2"}),
    *(
        Row(
            9,
            f"$CC -O2 -mcpu=v1 {WORDS} -target bpf{order} -c $PWD/prog.c -o $PWD/x_bpf{order}.o "
            "-fdebug-compilation-dir . -g -D__BPF_TARGET_MISSING='\"GCC error\"' -MD -MP -MF$PWD/bpf2go.d",
            {f"x_bpf{order}.o": "1"},
        )
        for order in ("el", "eb")
    ),
    Row(10, "$CC -g -O2 -target bpf -D__TARGET_ARCH_x86 -I. -c prog.c -o x.tmp.bpf.o", {"x.tmp.bpf.o": LEVEL}),
    Row(17, "$CC --target=bpf -O2 -g -c -x c - -o ./verify.o", {"verify.o": LEVEL}, stdin=MAIN),
    Row(22, "$CC -O2 -g --target=bpf -c prog.c -Wp,-MMD,.x.o.d", {"prog.o": LEVEL}),
    Row(22, "$CC -O2 -g --target=bpf -MMD -c prog.c -o out.o", {"out.o": LEVEL}),
    Row(25, "$CC -O2 -g --target=bpf -c prog.c second.c", {"prog.o": LEVEL, "second.o": LEVEL}),
    Row(26, "mkdir d && cp prog.c d && $CC -O2 --target=bpf -c d/prog.c", {"prog.o": LEVEL}),
    Row(27, "$CC @args.rsp", {"from rsp.o": LEVEL}),
    Row(28, "$CC -E --target=bpf prog.c -o x.i && $CC -O2 --target=bpf -c x.i -o x.o", {"x.o": LEVEL}),
    Row(28, "$CC -S -emit-llvm -O2 --target=bpf prog.c -o x.ll && $CC --target=bpf -c x.ll", {"x.o": LEVEL}),
    Row(28, "$CC -c -emit-llvm -O2 --target=bpf prog.c -o x.bc && $CC --target=bpf -c -x ir x.bc", {"x.o": LEVEL}),
    Row(28, "$CC --target=bpf -c code.s -o s.o", {"s.o": LEVEL}),
    Row(30, "$CC --target=bpf -O2 -g -save-temps -c prog.c -o prog.o", {"prog.o": LEVEL}),
    Row(30, "$CC --target=bpf -O2 -fno-integrated-cc1 -c prog.c", {"prog.o": LEVEL}),
    Row(
        31,
        "$CC --target=bpf -O2 -g -ftime-trace -fsave-optimization-record -gsplit-dwarf --serialize-diagnostics x.dia "
        "-MJ x.cdb -fstack-usage -c prog.c -o prog.o",
        {"prog.o": LEVEL},
        unsteady=("prog.json",),
    ),
    Row(34, "$CC --config ./hidden.cfg -O2 -c prog.c -o prog.o", {"prog.o": "2"}),
    Row(40, "$CC -g -target bpf -O2 -Werror -c prog.c -o x.o", {"x.o": LEVEL}),
    Row(0, "$CC --target=bpf -Wall -c warns.c -o warns.o", {"warns.o": LEVEL}),
)
