"""Which structures of the kernel its functions for programs take and return.

Source: the prototypes in the BTF of Linux 6.18, for what is not built in there the sources of 6.12.  A unit that is
meant for any kernel has only its own declarations, and a loader compares these with the kernel's by shape, not by name
(bpf_core_types_are_compat): the names must come from here.  `struct nf_conn___init` is a structure of its own, no
flavor of `struct nf_conn`: a connection that is not inserted yet.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, NamedTuple


class KfuncObjects(NamedTuple):
    """Names of the structures that the arguments point to ("-": to none, shorter: to none any more), and the result."""

    arguments: tuple[str, ...]
    result: str = ""


_ROWS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "bpf_ct_set_nat_info": "nf_conn___init nf_inet_addr",
        "bpf_xdp_ct_alloc": "xdp_md bpf_sock_tuple - bpf_ct_opts -> nf_conn___init",
        "bpf_xdp_ct_lookup": "xdp_md bpf_sock_tuple - bpf_ct_opts -> nf_conn",
        "bpf_skb_ct_alloc": "__sk_buff bpf_sock_tuple - bpf_ct_opts -> nf_conn___init",
        "bpf_skb_ct_lookup": "__sk_buff bpf_sock_tuple - bpf_ct_opts -> nf_conn",
        "bpf_ct_insert_entry": "nf_conn___init -> nf_conn",
        "bpf_ct_release": "nf_conn",
        "bpf_ct_set_timeout": "nf_conn___init",
        "bpf_ct_change_timeout": "nf_conn",
        "bpf_ct_set_status": "nf_conn___init",
        "bpf_ct_change_status": "nf_conn",
        "bpf_xdp_flow_lookup": "xdp_md bpf_fib_lookup bpf_flowtable_opts -> flow_offload_tuple_rhash",
        "bpf_skb_get_xfrm_info": "__sk_buff bpf_xfrm_info",
        "bpf_skb_set_xfrm_info": "__sk_buff bpf_xfrm_info",
        "bpf_xdp_get_xfrm_state": "xdp_md bpf_xfrm_state_opts -> xfrm_state",
        "bpf_xdp_xfrm_state_release": "xfrm_state",
        "bpf_dynptr_from_skb": "__sk_buff - bpf_dynptr",
        "bpf_dynptr_from_xdp": "xdp_md - bpf_dynptr",
        "bpf_sock_addr_set_sun_path": "bpf_sock_addr_kern",
        "bpf_sk_assign_tcp_reqsk": "__sk_buff sock bpf_tcp_req_attrs",
        "bpf_sock_destroy": "sock_common",
        "cubictcp_init": "sock",
        "cubictcp_recalc_ssthresh": "sock",
        "cubictcp_cong_avoid": "sock",
        "cubictcp_state": "sock",
        "cubictcp_cwnd_event": "sock",
        "cubictcp_acked": "sock ack_sample",
        "bpf_skb_set_fou_encap": "__sk_buff bpf_fou_encap",
        "bpf_skb_get_fou_encap": "__sk_buff bpf_fou_encap",
        "dctcp_init": "sock",
        "dctcp_update_alpha": "sock",
        "dctcp_cwnd_event": "sock",
        "dctcp_ssthresh": "sock",
        "dctcp_cwnd_undo": "sock",
        "dctcp_state": "sock",
        "bbr_init": "sock",
        "bbr_main": "sock - - rate_sample",
        "bbr_sndbuf_expand": "sock",
        "bbr_undo_cwnd": "sock",
        "bbr_cwnd_event": "sock",
        "bbr_ssthresh": "sock",
        "bbr_min_tso_segs": "sock",
        "bbr_set_state": "sock",
        "tcp_reno_ssthresh": "sock",
        "tcp_reno_cong_avoid": "sock",
        "tcp_reno_undo_cwnd": "sock",
        "tcp_slow_start": "tcp_sock",
        "tcp_cong_avoid_ai": "tcp_sock",
        "bpf_lookup_user_key": " -> bpf_key",
        "bpf_lookup_system_key": " -> bpf_key",
        "bpf_key_put": "bpf_key",
        "bpf_verify_pkcs7_signature": "bpf_dynptr bpf_dynptr bpf_key",
        "bpf_cpumask_create": " -> bpf_cpumask",
        "bpf_cpumask_release": "bpf_cpumask",
        "bpf_cpumask_acquire": "bpf_cpumask -> bpf_cpumask",
        "bpf_cpumask_first": "cpumask",
        "bpf_cpumask_first_zero": "cpumask",
        "bpf_cpumask_first_and": "cpumask cpumask",
        "bpf_cpumask_set_cpu": "- bpf_cpumask",
        "bpf_cpumask_clear_cpu": "- bpf_cpumask",
        "bpf_cpumask_test_cpu": "- cpumask",
        "bpf_cpumask_test_and_set_cpu": "- bpf_cpumask",
        "bpf_cpumask_test_and_clear_cpu": "- bpf_cpumask",
        "bpf_cpumask_setall": "bpf_cpumask",
        "bpf_cpumask_clear": "bpf_cpumask",
        "bpf_cpumask_and": "bpf_cpumask cpumask cpumask",
        "bpf_cpumask_or": "bpf_cpumask cpumask cpumask",
        "bpf_cpumask_xor": "bpf_cpumask cpumask cpumask",
        "bpf_cpumask_equal": "cpumask cpumask",
        "bpf_cpumask_intersects": "cpumask cpumask",
        "bpf_cpumask_subset": "cpumask cpumask",
        "bpf_cpumask_empty": "cpumask",
        "bpf_cpumask_full": "cpumask",
        "bpf_cpumask_copy": "bpf_cpumask cpumask",
        "bpf_cpumask_any_distribute": "cpumask",
        "bpf_cpumask_any_and_distribute": "cpumask cpumask",
        "bpf_cpumask_weight": "cpumask",
        "bpf_crypto_ctx_create": "bpf_crypto_params -> bpf_crypto_ctx",
        "bpf_crypto_ctx_release": "bpf_crypto_ctx",
        "bpf_crypto_ctx_acquire": "bpf_crypto_ctx -> bpf_crypto_ctx",
        "bpf_crypto_decrypt": "bpf_crypto_ctx bpf_dynptr bpf_dynptr bpf_dynptr",
        "bpf_crypto_encrypt": "bpf_crypto_ctx bpf_dynptr bpf_dynptr bpf_dynptr",
        "bpf_task_acquire": "task_struct -> task_struct",
        "bpf_task_release": "task_struct",
        "bpf_cgroup_acquire": "cgroup -> cgroup",
        "bpf_cgroup_release": "cgroup",
        "bpf_cgroup_ancestor": "cgroup -> cgroup",
        "bpf_cgroup_from_id": " -> cgroup",
        "bpf_task_under_cgroup": "task_struct cgroup",
        "bpf_task_get_cgroup1": "task_struct -> cgroup",
        "bpf_task_from_pid": " -> task_struct",
        "bpf_iter_task_vma_new": "bpf_iter_task_vma task_struct",
        "bpf_iter_task_vma_next": "bpf_iter_task_vma -> vm_area_struct",
        "bpf_iter_css_task_new": "bpf_iter_css_task cgroup_subsys_state",
        "bpf_iter_css_task_next": "bpf_iter_css_task -> task_struct",
        "bpf_iter_css_new": "bpf_iter_css cgroup_subsys_state",
        "bpf_iter_css_next": "bpf_iter_css -> cgroup_subsys_state",
        "bpf_iter_task_new": "bpf_iter_task task_struct",
        "bpf_iter_task_next": "bpf_iter_task -> task_struct",
        "bpf_get_task_exe_file": "task_struct -> file",
        "bpf_put_file": "file",
        "bpf_path_d_path": "path",
        "bpf_get_dentry_xattr": "dentry - bpf_dynptr",
        "bpf_get_file_xattr": "file - bpf_dynptr",
        "bpf_get_fsverity_digest": "file bpf_dynptr",
    }
)


def _row(text: str) -> KfuncObjects:
    arguments, _, result = text.partition("->")
    return KfuncObjects(tuple(arguments.split()), result.strip())


KFUNC_OBJECTS: Final[Mapping[str, KfuncObjects]] = MappingProxyType({name: _row(text) for name, text in _ROWS.items()})
