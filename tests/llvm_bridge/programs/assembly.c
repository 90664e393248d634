// Hand-written code: a function without type and size behind typed ones, and labels inside inline assembly.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

__attribute__((noinline)) int typed(int x)
{
	int y = x;

	asm volatile("if %0 > 7 goto 1f; %0 += 1; 1:" : "+r"(y));
	return y;
}

SEC("xdp")
int program(struct xdp_md *ctx)
{
	return typed(ctx->rx_queue_index);
}

asm(".section untyped,\"ax\",@progbits\n"
    "bare:\n"
    "r0 = 0\n"
    "exit\n"
    ".text\n");

char LICENSE[] SEC("license") = "GPL";
