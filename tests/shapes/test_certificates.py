"""Other control flow in an object: certified between the rewrites around it, checked again, written with its tables."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from llvm_bridge.lint import lint
from object_stage import Outcome, optimise_bytes, write_certificate
from synth.certificate import MANIFEST
from synth.settings import Settings
from tests.tools.test_recheck import Value, contradictions, k2, reseal
from tests.tools.test_whole_certificates import reseal_all

pytestmark = pytest.mark.needs("clang-19", "bitwuzla")

SOURCE = """
struct xdp_md { unsigned data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress_ifindex; };
__attribute__((section("xdp"), used)) int choose(struct xdp_md *ctx)
{
    unsigned char *p = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
    if (p + 16 > end) return 1;
    unsigned at, kind = p[12] | p[13] << 8;
    p[4] = 64;
    switch (ctx->ingress_ifindex) {
    case 208000: at = 0; break;
    case 432000: at = 3; break;
    case 729000: at = 7; break;
    case 960000: at = 6; break;
    case 1200000: at = 11; break;
    default: return 1;
    }
    p[5] = at;
    return at * kind + ctx->rx_queue_index;
}
char _license[] __attribute__((section("license"), used)) = "GPL";
"""


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    folder = tmp_path_factory.mktemp("made")
    (folder / "a.c").write_text(SOURCE)
    command = ["clang-19", "-O2", "-g", "--target=bpf", "-mcpu=v3", "-c", "a.c", "-o", "a.o"]
    subprocess.run(command, cwd=folder, check=True, timeout=60)
    settings = Settings(tiers=("passes",), goal="size", certificate="asked for")
    return optimise_bytes((folder / "a.o").read_bytes(), settings, 3)


@pytest.fixture
def folder(outcome: Outcome, tmp_path: Path) -> Path:
    return Path(write_certificate(str(tmp_path / "certificates"), "x.o", outcome))


def test_control_flow_changed_and_the_object_is_whole(outcome: Outcome) -> None:
    (record,) = outcome.record.functions
    kinds = [rewrite.proposer.partition(":")[0] for rewrite in record.rewrites]
    assert "shape" in kinds and kinds.index("shape") > 0, kinds
    assert record.slots_after < record.slots_before and not record.kept_reason
    assert not outcome.record.counters, "nothing was dropped, debug information included"
    assert not lint(outcome.data)


def test_another_solver_confirms_it(folder: Path) -> None:
    done = k2("recheck", folder, "--solver", "bitwuzla")
    assert done.exit_code == 0, done.output
    assert "choose as a whole" in done.output
    manifest = json.loads((folder / MANIFEST).read_text())
    assert manifest["kind"] == "made here"
    places = sorted([claim["applied"] for claim in (*manifest["rewrites"], *manifest["wholes"])])
    assert places == list(range(len(places))), "each change at its own place in one order"


def other_number(manifest: Value) -> None:
    for block in manifest["wholes"][0]["after"]:
        for insn in block[1]:
            if insn["text"].startswith("w0 = ") and insn["text"][5:].isdigit():
                insn["text"] = f"w0 = {int(insn['text'][5:]) ^ 1}"
                number = bytes.fromhex(insn["bytes"])
                insn["bytes"] = (number[:4] + bytes([number[4] ^ 1]) + number[5:]).hex()
                return
    raise AssertionError("no number to change")


def earlier(manifest: Value) -> None:
    manifest["wholes"][0]["applied"] -= 1


def left_out(manifest: Value) -> None:
    manifest["wholes"].pop()


@pytest.mark.parametrize("change", [other_number, earlier, left_out])
def test_a_forged_claim_is_found(folder: Path, change: object) -> None:
    assert callable(change)
    reseal_all(folder, change)
    assert contradictions(folder)


def test_an_untouched_certificate_has_no_contradiction(folder: Path) -> None:
    reseal(folder, lambda manifest: None)
    assert contradictions(folder) == []
