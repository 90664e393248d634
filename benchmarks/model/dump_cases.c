/*
 * The kernel's verifier cases as data: one JSON object per line on stdout.
 *
 * Compiled at run time against an unpacked kernel tree.  test_verifier.c brings the cases, their type and the functions
 * that fill in the long ones; its own main is never run.
 */
/* Static, so that the compiler drops it and all that it needs of libbpf. */
static int k2_kernels_own_main(int argc, char **argv);
#define main k2_kernels_own_main
#include "test_verifier.c"
#undef main

/* A program of a million instructions tells no more than one of this size. */
#define K2_LONGEST 100000

static void k2_text(const char *name, const char *text)
{
	printf(", \"%s\": \"", name);
	for (; text && *text; text++) {
		if (*text == '"' || *text == '\\')
			printf("\\%c", *text);
		else if ((unsigned char)*text < 32)
			printf("\\u%04x", *text);
		else
			putchar(*text);
	}
	printf("\"");
}

static void k2_fixups(const char *name, const int *list)
{
	int i;

	if (!list[0])
		return;
	printf(", \"%s\": [", name);
	for (i = 0; i < MAX_FIXUPS && list[i]; i++)
		printf("%s%d", i ? ", " : "", list[i]);
	printf("]");
}

#define K2_FIXUPS(field) k2_fixups(#field, test->field)

static void k2_all_fixups(const struct bpf_test *test)
{
	K2_FIXUPS(fixup_map_hash_8b);
	K2_FIXUPS(fixup_map_hash_48b);
	K2_FIXUPS(fixup_map_hash_16b);
	K2_FIXUPS(fixup_map_array_48b);
	K2_FIXUPS(fixup_map_sockmap);
	K2_FIXUPS(fixup_map_sockhash);
	K2_FIXUPS(fixup_map_xskmap);
	K2_FIXUPS(fixup_map_stacktrace);
	K2_FIXUPS(fixup_prog1);
	K2_FIXUPS(fixup_prog2);
	K2_FIXUPS(fixup_map_in_map);
	K2_FIXUPS(fixup_cgroup_storage);
	K2_FIXUPS(fixup_percpu_cgroup_storage);
	K2_FIXUPS(fixup_map_spin_lock);
	K2_FIXUPS(fixup_map_array_ro);
	K2_FIXUPS(fixup_map_array_wo);
	K2_FIXUPS(fixup_map_array_small);
	K2_FIXUPS(fixup_sk_storage_map);
	K2_FIXUPS(fixup_map_event_output);
	K2_FIXUPS(fixup_map_reuseport_array);
	K2_FIXUPS(fixup_map_ringbuf);
	K2_FIXUPS(fixup_map_timer);
	K2_FIXUPS(fixup_map_kptr);
}

static void k2_dump(struct bpf_test *test)
{
	const struct bpf_insn *insns = test->insns;
	int i, count, kfuncs = 0;

	if (test->fill_helper) {
		test->fill_insns = calloc(MAX_TEST_INSNS, sizeof(struct bpf_insn));
		test->fill_helper(test);
		insns = test->fill_insns;
		count = test->prog_len;
	} else {
		count = probe_filter_length(insns);
	}
	while (kfuncs < MAX_FIXUPS && test->fixup_kfunc_btf_id[kfuncs].kfunc)
		kfuncs++;
	printf("{\"type\": %d, \"attach\": %d, \"flags\": %d, \"result\": %d, \"result_unpriv\": %d",
	       test->prog_type ? test->prog_type : BPF_PROG_TYPE_SOCKET_FILTER, test->expected_attach_type, test->flags,
	       test->result, test->result_unpriv);
	printf(", \"kfuncs\": %d, \"func_infos\": %d, \"processed\": %u", kfuncs, test->func_info_cnt,
	       test->insn_processed);
	k2_text("name", test->descr);
	k2_text("errstr", test->errstr);
	k2_text("errstr_unpriv", test->errstr_unpriv);
	k2_text("attach_to", test->kfunc);
	k2_all_fixups(test);
	printf(", \"insns\": \"");
	for (i = 0; count <= K2_LONGEST && i < count * (int)sizeof(*insns); i++)
		printf("%02x", ((const unsigned char *)insns)[i]);
	printf("\", \"count\": %d}\n", count);
	free(test->fill_insns);
}

int main(void)
{
	unsigned int i;

	/* The filled cases draw numbers: the same ones each time. */
	srand(1);
	for (i = 0; i < ARRAY_SIZE(tests); i++)
		k2_dump(&tests[i]);
	return 0;
}
