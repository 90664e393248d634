"""Functions of the kernel that programs may call (kfuncs), as rows.

Sources: the BTF_KFUNCS_START sets and their registration with register_btf_kfunc_id_set, linux 6.12; their prototypes
come from BTF.  Schedulers' and HID's own functions are left out.

`hooks` are the groups of program types that may call (bpf_prog_type_to_kfunc_hook); "common" is everybody.  `flags` are
the kernel's KF_ flags in lower case.  `only` names the kernel's filter where a registration has one.
"""

from __future__ import annotations

from typing import Final, NamedTuple


class KfuncRow(NamedTuple):
    name: str
    hooks: str
    flags: str = ""
    only: str = ""


KFUNC_ROWS: Final[tuple[KfuncRow, ...]] = (
    # nf_nat_kfunc_set
    KfuncRow("bpf_ct_set_nat_info", "xdp tc", "trusted_args"),
    # nf_ct_kfunc_set
    KfuncRow("bpf_xdp_ct_alloc", "xdp tc", "acquire ret_null"),
    KfuncRow("bpf_xdp_ct_lookup", "xdp tc", "acquire ret_null"),
    KfuncRow("bpf_skb_ct_alloc", "xdp tc", "acquire ret_null"),
    KfuncRow("bpf_skb_ct_lookup", "xdp tc", "acquire ret_null"),
    KfuncRow("bpf_ct_insert_entry", "xdp tc", "acquire ret_null release"),
    KfuncRow("bpf_ct_release", "xdp tc", "release"),
    KfuncRow("bpf_ct_set_timeout", "xdp tc", "trusted_args"),
    KfuncRow("bpf_ct_change_timeout", "xdp tc", "trusted_args"),
    KfuncRow("bpf_ct_set_status", "xdp tc", "trusted_args"),
    KfuncRow("bpf_ct_change_status", "xdp tc", "trusted_args"),
    # nf_ft_kfunc_set
    KfuncRow("bpf_xdp_flow_lookup", "xdp", "trusted_args ret_null"),
    # xfrm_ifc_kfunc_set
    KfuncRow("bpf_skb_get_xfrm_info", "tc"),
    KfuncRow("bpf_skb_set_xfrm_info", "tc"),
    # xfrm_state_kfunc_set
    KfuncRow("bpf_xdp_get_xfrm_state", "xdp", "ret_null acquire"),
    KfuncRow("bpf_xdp_xfrm_state_release", "xdp", "release"),
    # bpf_kfunc_check_set_skb
    KfuncRow("bpf_dynptr_from_skb", "tc act sk_skb socket_filter cgroup lwt netfilter tracing", "trusted_args"),
    # bpf_kfunc_check_set_xdp
    KfuncRow("bpf_dynptr_from_xdp", "xdp"),
    # bpf_kfunc_check_set_sock_addr
    KfuncRow("bpf_sock_addr_set_sun_path", "cgroup"),
    # bpf_kfunc_check_set_tcp_reqsk
    KfuncRow("bpf_sk_assign_tcp_reqsk", "tc", "trusted_args"),
    # bpf_sk_iter_kfunc_ids
    KfuncRow("bpf_sock_destroy", "tracing", "trusted_args", "tracing_iter"),
    # tcp_cubic_check_kfunc_ids
    KfuncRow("cubictcp_init", "struct_ops"),
    KfuncRow("cubictcp_recalc_ssthresh", "struct_ops"),
    KfuncRow("cubictcp_cong_avoid", "struct_ops"),
    KfuncRow("cubictcp_state", "struct_ops"),
    KfuncRow("cubictcp_cwnd_event", "struct_ops"),
    KfuncRow("cubictcp_acked", "struct_ops"),
    # fou_kfunc_set
    KfuncRow("bpf_skb_set_fou_encap", "tc"),
    KfuncRow("bpf_skb_get_fou_encap", "tc"),
    # tcp_dctcp_check_kfunc_ids
    KfuncRow("dctcp_init", "struct_ops"),
    KfuncRow("dctcp_update_alpha", "struct_ops"),
    KfuncRow("dctcp_cwnd_event", "struct_ops"),
    KfuncRow("dctcp_ssthresh", "struct_ops"),
    KfuncRow("dctcp_cwnd_undo", "struct_ops"),
    KfuncRow("dctcp_state", "struct_ops"),
    # tcp_bbr_check_kfunc_ids
    KfuncRow("bbr_init", "struct_ops"),
    KfuncRow("bbr_main", "struct_ops"),
    KfuncRow("bbr_sndbuf_expand", "struct_ops"),
    KfuncRow("bbr_undo_cwnd", "struct_ops"),
    KfuncRow("bbr_cwnd_event", "struct_ops"),
    KfuncRow("bbr_ssthresh", "struct_ops"),
    KfuncRow("bbr_min_tso_segs", "struct_ops"),
    KfuncRow("bbr_set_state", "struct_ops"),
    # bpf_tcp_ca_check_kfunc_ids
    KfuncRow("tcp_reno_ssthresh", "struct_ops"),
    KfuncRow("tcp_reno_cong_avoid", "struct_ops"),
    KfuncRow("tcp_reno_undo_cwnd", "struct_ops"),
    KfuncRow("tcp_slow_start", "struct_ops"),
    KfuncRow("tcp_cong_avoid_ai", "struct_ops"),
    # key_sig_kfunc_set
    KfuncRow("bpf_lookup_user_key", "tracing", "acquire ret_null sleepable"),
    KfuncRow("bpf_lookup_system_key", "tracing", "acquire ret_null"),
    KfuncRow("bpf_key_put", "tracing", "release"),
    KfuncRow("bpf_verify_pkcs7_signature", "tracing", "sleepable"),
    # kprobe_multi_kfunc_set_ids
    KfuncRow("bpf_session_is_return", "kprobe", "", "kprobe_multi"),
    KfuncRow("bpf_session_cookie", "kprobe", "", "kprobe_multi"),
    # cpumask_kfunc_btf_ids
    KfuncRow("bpf_cpumask_create", "tracing struct_ops syscall", "acquire ret_null"),
    KfuncRow("bpf_cpumask_release", "tracing struct_ops syscall", "release"),
    KfuncRow("bpf_cpumask_acquire", "tracing struct_ops syscall", "acquire trusted_args"),
    KfuncRow("bpf_cpumask_first", "tracing struct_ops syscall", "rcu"),
    KfuncRow("bpf_cpumask_first_zero", "tracing struct_ops syscall", "rcu"),
    KfuncRow("bpf_cpumask_first_and", "tracing struct_ops syscall", "rcu"),
    KfuncRow("bpf_cpumask_set_cpu", "tracing struct_ops syscall", "rcu"),
    KfuncRow("bpf_cpumask_clear_cpu", "tracing struct_ops syscall", "rcu"),
    KfuncRow("bpf_cpumask_test_cpu", "tracing struct_ops syscall", "rcu"),
    KfuncRow("bpf_cpumask_test_and_set_cpu", "tracing struct_ops syscall", "rcu"),
    KfuncRow("bpf_cpumask_test_and_clear_cpu", "tracing struct_ops syscall", "rcu"),
    KfuncRow("bpf_cpumask_setall", "tracing struct_ops syscall", "rcu"),
    KfuncRow("bpf_cpumask_clear", "tracing struct_ops syscall", "rcu"),
    KfuncRow("bpf_cpumask_and", "tracing struct_ops syscall", "rcu"),
    KfuncRow("bpf_cpumask_or", "tracing struct_ops syscall", "rcu"),
    KfuncRow("bpf_cpumask_xor", "tracing struct_ops syscall", "rcu"),
    KfuncRow("bpf_cpumask_equal", "tracing struct_ops syscall", "rcu"),
    KfuncRow("bpf_cpumask_intersects", "tracing struct_ops syscall", "rcu"),
    KfuncRow("bpf_cpumask_subset", "tracing struct_ops syscall", "rcu"),
    KfuncRow("bpf_cpumask_empty", "tracing struct_ops syscall", "rcu"),
    KfuncRow("bpf_cpumask_full", "tracing struct_ops syscall", "rcu"),
    KfuncRow("bpf_cpumask_copy", "tracing struct_ops syscall", "rcu"),
    KfuncRow("bpf_cpumask_any_distribute", "tracing struct_ops syscall", "rcu"),
    KfuncRow("bpf_cpumask_any_and_distribute", "tracing struct_ops syscall", "rcu"),
    KfuncRow("bpf_cpumask_weight", "tracing struct_ops syscall", "rcu"),
    # bpf_map_iter_kfunc_ids
    KfuncRow("bpf_map_sum_elem_count", "common", "trusted_args"),
    # crypt_init_kfunc_btf_ids
    KfuncRow("bpf_crypto_ctx_create", "syscall", "acquire ret_null sleepable"),
    KfuncRow("bpf_crypto_ctx_release", "syscall", "release"),
    KfuncRow("bpf_crypto_ctx_acquire", "syscall", "acquire rcu ret_null"),
    # crypt_kfunc_btf_ids
    KfuncRow("bpf_crypto_decrypt", "tc act xdp", "rcu"),
    KfuncRow("bpf_crypto_encrypt", "tc act xdp", "rcu"),
    # generic_btf_ids
    KfuncRow("crash_kexec", "tracing tc xdp struct_ops syscall cgroup", "destructive"),
    KfuncRow("bpf_obj_new_impl", "tracing tc xdp struct_ops syscall cgroup", "acquire ret_null"),
    KfuncRow("bpf_percpu_obj_new_impl", "tracing tc xdp struct_ops syscall cgroup", "acquire ret_null"),
    KfuncRow("bpf_obj_drop_impl", "tracing tc xdp struct_ops syscall cgroup", "release"),
    KfuncRow("bpf_percpu_obj_drop_impl", "tracing tc xdp struct_ops syscall cgroup", "release"),
    KfuncRow("bpf_refcount_acquire_impl", "tracing tc xdp struct_ops syscall cgroup", "acquire ret_null rcu"),
    KfuncRow("bpf_list_push_front_impl", "tracing tc xdp struct_ops syscall cgroup"),
    KfuncRow("bpf_list_push_back_impl", "tracing tc xdp struct_ops syscall cgroup"),
    KfuncRow("bpf_list_pop_front", "tracing tc xdp struct_ops syscall cgroup", "acquire ret_null"),
    KfuncRow("bpf_list_pop_back", "tracing tc xdp struct_ops syscall cgroup", "acquire ret_null"),
    KfuncRow("bpf_task_acquire", "tracing tc xdp struct_ops syscall cgroup", "acquire rcu ret_null"),
    KfuncRow("bpf_task_release", "tracing tc xdp struct_ops syscall cgroup", "release"),
    KfuncRow("bpf_rbtree_remove", "tracing tc xdp struct_ops syscall cgroup", "acquire ret_null"),
    KfuncRow("bpf_rbtree_add_impl", "tracing tc xdp struct_ops syscall cgroup"),
    KfuncRow("bpf_rbtree_first", "tracing tc xdp struct_ops syscall cgroup", "ret_null"),
    KfuncRow("bpf_cgroup_acquire", "tracing tc xdp struct_ops syscall cgroup", "acquire rcu ret_null"),
    KfuncRow("bpf_cgroup_release", "tracing tc xdp struct_ops syscall cgroup", "release"),
    KfuncRow("bpf_cgroup_ancestor", "tracing tc xdp struct_ops syscall cgroup", "acquire rcu ret_null"),
    KfuncRow("bpf_cgroup_from_id", "tracing tc xdp struct_ops syscall cgroup", "acquire ret_null"),
    KfuncRow("bpf_task_under_cgroup", "tracing tc xdp struct_ops syscall cgroup", "rcu"),
    KfuncRow("bpf_task_get_cgroup1", "tracing tc xdp struct_ops syscall cgroup", "acquire rcu ret_null"),
    KfuncRow("bpf_task_from_pid", "tracing tc xdp struct_ops syscall cgroup", "acquire ret_null"),
    KfuncRow("bpf_throw", "tracing tc xdp struct_ops syscall cgroup"),
    # common_btf_ids
    KfuncRow("bpf_cast_to_kern_ctx", "common"),
    KfuncRow("bpf_rdonly_cast", "common"),
    KfuncRow("bpf_rcu_read_lock", "common"),
    KfuncRow("bpf_rcu_read_unlock", "common"),
    KfuncRow("bpf_dynptr_slice", "common", "ret_null"),
    KfuncRow("bpf_dynptr_slice_rdwr", "common", "ret_null"),
    KfuncRow("bpf_iter_num_new", "common", "iter_new"),
    KfuncRow("bpf_iter_num_next", "common", "iter_next ret_null"),
    KfuncRow("bpf_iter_num_destroy", "common", "iter_destroy"),
    KfuncRow("bpf_iter_task_vma_new", "common", "iter_new rcu"),
    KfuncRow("bpf_iter_task_vma_next", "common", "iter_next ret_null"),
    KfuncRow("bpf_iter_task_vma_destroy", "common", "iter_destroy"),
    KfuncRow("bpf_iter_css_task_new", "common", "iter_new trusted_args"),
    KfuncRow("bpf_iter_css_task_next", "common", "iter_next ret_null"),
    KfuncRow("bpf_iter_css_task_destroy", "common", "iter_destroy"),
    KfuncRow("bpf_iter_css_new", "common", "iter_new trusted_args rcu_protected"),
    KfuncRow("bpf_iter_css_next", "common", "iter_next ret_null"),
    KfuncRow("bpf_iter_css_destroy", "common", "iter_destroy"),
    KfuncRow("bpf_iter_task_new", "common", "iter_new trusted_args rcu_protected"),
    KfuncRow("bpf_iter_task_next", "common", "iter_next ret_null"),
    KfuncRow("bpf_iter_task_destroy", "common", "iter_destroy"),
    KfuncRow("bpf_dynptr_adjust", "common"),
    KfuncRow("bpf_dynptr_is_null", "common"),
    KfuncRow("bpf_dynptr_is_rdonly", "common"),
    KfuncRow("bpf_dynptr_size", "common"),
    KfuncRow("bpf_dynptr_clone", "common"),
    KfuncRow("bpf_modify_return_test_tp", "common"),
    KfuncRow("bpf_wq_init", "common"),
    KfuncRow("bpf_wq_set_callback_impl", "common"),
    KfuncRow("bpf_wq_start", "common"),
    KfuncRow("bpf_preempt_disable", "common"),
    KfuncRow("bpf_preempt_enable", "common"),
    KfuncRow("bpf_iter_bits_new", "common", "iter_new"),
    KfuncRow("bpf_iter_bits_next", "common", "iter_next ret_null"),
    KfuncRow("bpf_iter_bits_destroy", "common", "iter_destroy"),
    KfuncRow("bpf_copy_from_user_str", "common", "sleepable"),
    # arena_kfuncs
    KfuncRow("bpf_arena_alloc_pages", "common", "trusted_args sleepable"),
    KfuncRow("bpf_arena_free_pages", "common", "trusted_args sleepable"),
    # bpf_fs_kfunc_set_ids
    KfuncRow("bpf_get_task_exe_file", "tracing", "acquire trusted_args ret_null", "fs_kfuncs"),
    KfuncRow("bpf_put_file", "tracing", "release", "fs_kfuncs"),
    KfuncRow("bpf_path_d_path", "tracing", "trusted_args", "fs_kfuncs"),
    KfuncRow("bpf_get_dentry_xattr", "tracing", "sleepable trusted_args", "fs_kfuncs"),
    KfuncRow("bpf_get_file_xattr", "tracing", "sleepable trusted_args", "fs_kfuncs"),
    # fsverity_set_ids
    KfuncRow("bpf_get_fsverity_digest", "tracing", "trusted_args", "get_fsverity_digest"),
)
