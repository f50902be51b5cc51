from __future__ import annotations

import io
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import pytest

from modulus.core.profile.load_causes import LoadCause
from modulus.errors import (
    BusyError,
    IntegrityError,
    ModulusError,
    NoGpuError,
    RefusedError,
    ToolchainError,
)
from modulus.host.files.driver_paths import DriverPaths
from modulus.host.generation.modprobe_conf import configure_modprobe
from modulus.host.modules.foreign import find_foreign, foreign_findings, foreign_names
from modulus.host.modules.load import (
    WantedModule,
    check_loaded,
    load,
    loaded,
    read_wanted,
    settled,
)
from modulus.host.modules.module_root import ModuleRoot, compose
from modulus.host.modules.unload import unload
from modulus.host.process.run import run
from modulus.host.report.reporter import PlainReporter
from tests.support.elfmaker import kernel_module

RELEASE = "6.1.0-9-amd64"
MODPROBE = """#!/bin/sh
# Loads into a fake sysfs; says and fails as told by files in $TOOLS.
tools=$(dirname "$0")
for name; do :; done
echo "modprobe $*" >>"$tools/log"
if [ -e "$tools/$name.kmsg" ]; then cat "$tools/$name.kmsg" >>"@ROOT@/dev/kmsg"; fi
if [ -e "$tools/$name.fail" ]; then cat "$tools/$name.fail" >&2; exit 1; fi
kernel=$(echo "$name" | tr - _)
mkdir -p "@ROOT@/sys/module/$kernel"
if [ -e "$tools/$name.other" ]; then
    version=1.0 source=OTHER
else
    version=2.0 source=S$name
fi
echo "$version" >"@ROOT@/sys/module/$kernel/version"
echo "$source" >"@ROOT@/sys/module/$kernel/srcversion"
"""
RMMOD = """#!/bin/sh
echo "rmmod $*" >>"$(dirname "$0")/log"
[ ! -e "$(dirname "$0")/$1.fail" ] || { echo "rmmod: ERROR: Module $1 is in use" >&2; exit 1; }
rm -r "@ROOT@/sys/module/$1"
"""
DEPMOD = """#!/bin/sh
echo "depmod $*" >>"$(dirname "$0")/log"
[ ! -e "$(dirname "$0")/depmod.fail" ] || { echo "depmod: bad module" >&2; exit 1; }
"""


def write(path: Path, content: str | bytes = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


@dataclass(frozen=True)
class Node:
    """A fake root with a kernel and the modules gpu and gpu-uvm, and fake tools."""

    root: Path
    tools: Path
    log: io.StringIO = field(default_factory=io.StringIO)

    @property
    def reporter(self) -> PlainReporter:
        return PlainReporter(self.log)

    @property
    def driver(self) -> DriverPaths:
        return DriverPaths(self.root, "gpu")

    @property
    def kernel(self) -> Path:
        return self.root / "lib/modules" / RELEASE

    @property
    def calls(self) -> list[str]:
        log = self.tools / "log"
        return log.read_text().splitlines() if log.exists() else []

    def module(self, name: str, **info: str) -> Path:
        path = self.root / f"opt/drivers/.gpu/gen/lib/modules/{RELEASE}/{name}.ko"
        values = {"version": "2.0", "srcversion": f"S{name}", "depends": ""} | info
        content = kernel_module(modinfo=values)
        if not path.exists() or path.read_bytes() != content:
            write(path, content)
        return path

    def modules(self) -> dict[str, Path]:
        return {
            "gpu": self.module("gpu", depends="drm"),
            "gpu-uvm": self.module("gpu-uvm", depends="gpu"),
            "gpu-peermem": self.module("gpu-peermem", depends="gpu,ib_uverbs"),
        }

    def compose(
        self,
        modules: Mapping[str, Path] | None = None,
        load: Sequence[str] = ("gpu", "gpu-uvm"),
    ) -> ModuleRoot:
        preload = ("i2c_core", "ipmi_si", "none")
        ours = self.modules() if modules is None else modules
        return compose(self.driver, RELEASE, ours, load, preload)

    def wanted(self) -> list[WantedModule]:
        return [read_wanted(name, self.modules()[name]) for name in ("gpu", "gpu-uvm")]

    def load(self, *causes: LoadCause) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The modules that were loaded, and the ids of findings."""
        before = len(self.calls)
        findings = load(
            self.driver,
            ModuleRoot(self.root / "m", RELEASE, ("ipmi_si",), changed=False),
            self.wanted(),
            causes,
            self.reporter,
        )
        names = [call.split()[-1] for call in self.calls[before:]]
        return (
            tuple(name for name in names if name.startswith("gpu")),
            tuple(finding.id for finding in findings),
        )

    def sysfs(self, name: str, holders: Sequence[str] = (), **values: str) -> None:
        folder = self.root / "sys/module" / name
        for key, value in ({"version": "2.0", "initstate": "live"} | values).items():
            write(folder / key, f"{value}\n")
        for holder in holders:
            (folder / "holders" / holder).mkdir(parents=True)


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Node:
    node = Node(tmp_path / "root", tmp_path / "tools")
    write(
        node.kernel / "modules.dep",
        "kernel/drm.ko.xz: kernel/base.ko\nkernel/base.ko:\n"
        "kernel/ipmi_si.ko: kernel/ipmi.ko\nkernel/ipmi.ko:\nkernel/other.ko:\n",
    )
    write(node.kernel / "modules.builtin", "kernel/drivers/i2c/i2c-core.ko\n")
    for name in ("drm.ko.xz", "base.ko", "ipmi_si.ko", "ipmi.ko", "other.ko"):
        write(node.kernel / "kernel" / name)
    write(node.root / "dev/kmsg", "3,1,1,-;NVRM: No GPU, long ago\n")
    for name, script in (("modprobe", MODPROBE), ("depmod", DEPMOD), ("rmmod", RMMOD)):
        write(node.tools / name, script.replace("@ROOT@", str(node.root))).chmod(0o755)
    monkeypatch.setenv("PATH", f"{node.tools}:{os.environ['PATH']}")
    return node


def links(made: ModuleRoot) -> dict[str, str]:
    folder = made.path / "lib/modules" / made.release
    return {
        str(path.relative_to(folder)): os.readlink(path)
        for path in folder.rglob("*")
        if path.is_symlink()
    }


def test_the_module_root_holds_ours_and_what_they_need(node: Node) -> None:
    made = node.compose()
    assert made.path == node.root / "run/modulus/gpu/modules"
    assert made.preload == ("ipmi_si",)
    ours = node.root / f"opt/drivers/.gpu/gen/lib/modules/{RELEASE}"
    kernel = ("drm.ko.xz", "base.ko", "ipmi_si.ko", "ipmi.ko")
    assert links(made) == {
        "updates/gpu.ko": str(ours / "gpu.ko"),
        "updates/gpu-uvm.ko": str(ours / "gpu-uvm.ko"),
        "modules.builtin": str(node.kernel / "modules.builtin"),
        **{f"kernel/{name}": str(node.kernel / "kernel" / name) for name in kernel},
    }
    call = node.calls[0].split()
    assert call[0:2] + call[-1:] == ["depmod", "-b", RELEASE]
    assert (made.path / "depmod.conf").read_text() == "search updates built-in\n"


def test_it_is_made_anew_only_if_something_changed(node: Node) -> None:
    assert node.compose().changed
    again = node.compose()
    assert (again.changed, again.preload) == (False, ("ipmi_si",))
    assert len(node.calls) == 1
    modules = {"gpu": node.module("gpu", depends="drm", alias="x")}
    assert node.compose(modules=modules, load=["gpu"]).changed
    assert "updates/gpu-uvm.ko" not in links(node.compose(modules=modules, load=["gpu"]))
    write(node.kernel / "modules.dep", "kernel/drm.ko.xz:\n")
    assert node.compose(modules=modules, load=["gpu"]).changed
    assert [path.name for path in (node.root / "run/modulus/gpu").iterdir()] == ["modules"]


def test_modules_below_usr_are_found(node: Node) -> None:
    (node.root / "usr").mkdir()
    (node.root / "lib").rename(node.root / "usr/lib")
    (node.root / "lib").symlink_to("/usr/lib")
    made = links(node.compose())
    assert made["kernel/drm.ko.xz"] == str(
        node.root / "usr/lib/modules" / RELEASE / "kernel/drm.ko.xz"
    )


def test_a_kernel_without_what_is_needed_is_refused(node: Node) -> None:
    with pytest.raises(
        RefusedError, match=r"lacks .*, ib_uverbs \(for gpu-peermem\)$"
    ) as error:
        node.compose(load=["gpu-peermem"])
    assert f"linux-modules-extra-{RELEASE}" in error.value.hint
    (node.root / "sys/module/ib_uverbs").mkdir(parents=True)
    assert node.compose(load=["gpu-peermem"]).changed
    (node.kernel / "modules.dep").unlink()
    with pytest.raises(RefusedError, match=r"drm \(for gpu\): it has no modules\.dep"):
        node.compose()


def test_a_node_without_modules_is_enough_for_a_driver_that_needs_none(node: Node) -> None:
    (node.kernel / "modules.dep").unlink()
    (node.kernel / "modules.builtin").unlink()
    assert node.compose(modules={"gpu": node.module("gpu")}, load=["gpu"]).preload == ()


def test_a_depmod_that_fails_leaves_the_module_root_that_was(node: Node) -> None:
    before = links(node.compose())
    write(node.tools / "depmod.fail")
    with pytest.raises(RefusedError, match="depmod: bad module"):
        node.compose(load=["gpu"])
    assert links(node.compose()) == before
    assert [path.name for path in (node.root / "run/modulus/gpu").iterdir()] == ["modules"]


def test_a_file_that_is_no_module_is_told(node: Node) -> None:
    with pytest.raises(IntegrityError, match="cannot be read as a kernel module"):
        read_wanted("gpu", write(node.root / "gpu.ko", "x"))
    with pytest.raises(IntegrityError):
        read_wanted("gpu", write(node.root / "empty.ko"))


def test_modules_are_loaded_by_name_in_order(node: Node) -> None:
    assert node.load() == (("gpu", "gpu-uvm"), ())
    base = f"modprobe -d {node.root}/m -C {node.driver.modprobe_config} --ignore-install"
    assert node.calls == [f"{base} {name}" for name in ("ipmi_si", "gpu", "gpu-uvm")]
    assert "load: gpu-uvm 2.0\n" in node.log.getvalue()
    assert node.load() == ((), ())
    assert len(node.calls) == 3
    assert "gpu, gpu-uvm: loaded already" in node.log.getvalue()


def test_what_is_loaded_right_is_left(node: Node) -> None:
    node.sysfs("gpu", srcversion="Sgpu")
    node.sysfs("ipmi_si")
    assert node.load() == (("gpu-uvm",), ())
    assert len(node.calls) == 1


def test_a_module_that_is_just_coming_is_waited_for_by_modprobe(node: Node) -> None:
    node.sysfs("gpu", srcversion="Sgpu", initstate="coming")
    assert node.load()[0] == ("gpu", "gpu-uvm")


def test_what_a_killed_run_left_coming_is_waited_for(node: Node) -> None:
    node.sysfs("gpu", initstate="live")
    node.sysfs("gpu_uvm", initstate="coming")
    script = f"sleep 0.5; echo live >{node.root}/sys/module/gpu_uvm/initstate"
    with subprocess.Popen(("sh", "-c", script)):
        found = settled(node.root, ["gpu", "gpu-uvm"], node.reporter)
    assert {name: each.state for name, each in found.items()} == dict.fromkeys(
        ("gpu", "gpu_uvm"), "live"
    )
    assert "wait: for gpu_uvm, which is coming" in node.log.getvalue()


def test_what_stays_coming_is_given_up(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("modulus.host.modules.load.SETTLE_SECONDS", 0.2)
    node.sysfs("gpu_uvm", initstate="coming")
    with pytest.raises(BusyError, match="gpu_uvm is coming, and has been") as caught:
        settled(node.root, ["gpu", "gpu-uvm"], node.reporter)
    assert "only with a reboot" in caught.value.hint


def test_a_preload_that_fails_is_a_warning(node: Node) -> None:
    write(node.tools / "ipmi_si.fail", "modprobe: ERROR: No such device\n")
    assert node.load()[0] == ("gpu", "gpu-uvm")
    assert "warning: ipmi_si was not loaded before gpu: modprobe failed" in node.log.getvalue()


@pytest.mark.parametrize(
    ("file", "srcversion", "words"),
    [
        ("", "OTHER", "gpu 1.0 is loaded, not 2.0"),
        ("updates/dkms/gpu.ko", "OTHER", "updates/dkms/gpu.ko (DKMS), not 2.0"),
        ("updates/dkms/gpu-current.ko", "OTHER", "updates/dkms/gpu-current.ko (DKMS), not 2.0"),
        ("kernel/gpu-1/gpu.ko", "OTHER", "kernel/gpu-1/gpu.ko (the distribution), not 2.0"),
        ("updates/dkms/gpu.ko", "THIRD", "gpu 1.0 is loaded, not 2.0"),
        ("updates/dkms/gpu.ko.zst", "OTHER", "updates/dkms/gpu.ko.zst (DKMS), not 2.0"),
    ],
)
def test_another_version_is_refused_before_anything_is_loaded(
    node: Node, file: str, srcversion: str, words: str
) -> None:
    if file:
        content = kernel_module(modinfo={"srcversion": srcversion})
        write(node.kernel / file, b"packed" if file.endswith(".zst") else content)
        with (node.kernel / "modules.dep").open("a") as dep:
            dep.write(f"{file}:\n")
    write(node.root / "etc/modprobe.d/d.conf", "install gpu modprobe -i gpu-current\n")
    node.sysfs("gpu", version="1.0", srcversion="OTHER")
    with pytest.raises(BusyError) as error:
        node.load()
    assert words in error.value.message
    assert node.calls == []
    assert "dkms" in error.value.hint


@pytest.mark.parametrize(("active", "words"), [(False, "an earlier"), (True, "the active")])
def test_a_generation_of_ours_is_told_apart(
    node: Node, monkeypatch: pytest.MonkeyPatch, active: bool, words: str
) -> None:
    home = node.root / "opt/drivers/.gpu/old"
    old = home / f"lib/modules/{RELEASE}/gpu.ko"
    write(old, kernel_module(modinfo={"srcversion": "OLD"}))
    if active:
        generation = SimpleNamespace(path=home)
        monkeypatch.setattr(
            "modulus.host.modules.foreign.active_generation", lambda *_: generation
        )
    node.sysfs("gpu", version="1.0", srcversion="OLD")
    with pytest.raises(BusyError, match=rf"\.gpu/old/.*\({words} generation\)") as error:
        check_loaded(node.driver, RELEASE, node.wanted())
    assert "modulus down gpu-1.0" in error.value.hint


def test_another_build_of_the_same_version_is_not_ours(node: Node) -> None:
    node.sysfs("gpu_uvm", srcversion="OTHER")
    with pytest.raises(BusyError, match="gpu-uvm is loaded, another build than ours"):
        node.load()


def test_a_module_that_was_loaded_from_elsewhere_meanwhile_is_seen(node: Node) -> None:
    write(node.tools / "gpu.other")
    with pytest.raises(BusyError, match=r"gpu 1\.0 is loaded, not 2\.0"):
        node.load()


def test_a_driver_without_versions_is_taken_as_it_is(node: Node) -> None:
    node.sysfs("gpu", version="1.0", srcversion="ANY")
    wanted = [WantedModule("gpu", Path("gpu.ko"), None, None)]
    assert check_loaded(node.driver, RELEASE, wanted) == ()


@pytest.mark.parametrize(
    ("kmsg", "fail", "kind"),
    [
        ("", "modprobe: ERROR: could not insert 'gpu': No such device\n", NoGpuError),
        ("3,9,9,-;gpu: version magic 'a' should be 'b'\n", "bad\n", RefusedError),
        ("3,9,9,-;GPU is taken\n", "modprobe: No such device\n", BusyError),
    ],
)
def test_a_load_that_fails_is_explained(
    node: Node, kmsg: str, fail: str, kind: type[ModulusError]
) -> None:
    write(node.tools / "gpu.kmsg", kmsg)
    write(node.tools / "gpu.fail", fail)
    with pytest.raises(kind, match="gpu was not loaded: "):
        node.load(LoadCause("GPU is taken", "another has it", "take it", "busy"))
    assert "gpu_uvm" not in loaded(node.root, ["gpu-uvm"])


def test_what_the_kernel_said_before_does_not_count(node: Node) -> None:
    write(node.tools / "gpu.fail", "oh\n")
    write(node.tools / "ipmi_si.kmsg", "3,1,1,-;NVRM: No GPU\n")
    with pytest.raises(RefusedError, match="gpu was not loaded: oh"):
        node.load(LoadCause("No GPU", "there is none", "buy one", "no-gpu"))


def test_a_load_that_succeeds_may_leave_findings(node: Node) -> None:
    write(node.tools / "gpu.kmsg", "3,9,9,-;GPU 2 is too old\n")
    cause = LoadCause("too old", "it is old", "use another", "unsupported")
    assert node.load(cause) == (("gpu", "gpu-uvm"), ("kernel-log-unsupported",))


def test_a_modprobe_that_hangs_is_given_up(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("modulus.host.modules.load.LOAD_SECONDS", 0.2)
    write(node.tools / "modprobe", f"#!/bin/sh\necho $$ >{node.root}/pid; exec sleep 9\n")
    node.sysfs("ipmi_si")
    with pytest.raises(BusyError, match="did not finish loading"):
        node.load()
    # What starts a module is not killed.
    pid = int((node.root / "pid").read_text())
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def test_a_node_without_modprobe_is_told(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(node.root))
    with pytest.raises(ToolchainError, match="modprobe is not installed"):
        node.load()


def test_what_sysfs_shows(node: Node) -> None:
    node.sysfs("gpu_uvm", ["b", "a"], srcversion="X", refcnt="3")
    module = loaded(node.root, ["gpu-uvm", "gpu"])["gpu_uvm"]
    assert (module.refcnt, module.holders, module.srcversion) == (3, ("a", "b"), "X")
    (node.root / "sys/module/gpu").mkdir()
    assert loaded(node.root, ["gpu"])["gpu"].refcnt is None


def test_modules_are_unloaded_in_order_and_no_others(node: Node) -> None:
    node.sysfs("gpu", ["gpu_uvm"], refcnt="1")
    node.sysfs("gpu_uvm", refcnt="0")
    node.sysfs("drm", ["gpu"], refcnt="1")
    order = ["gdrdrv", "gpu-uvm", "gpu_drm", "gpu"]
    assert unload(node.root, order, node.reporter) == ("gpu_uvm", "gpu")
    assert node.calls == ["rmmod gpu_uvm", "rmmod gpu"]
    assert unload(node.root, order, node.reporter) == ()


@pytest.mark.parametrize(
    ("holders", "refcnt", "words"),
    [
        (("gpu_uvm", "gpu_fs"), "2", "in use: gpu by module gpu_fs$"),
        (("gpu_uvm",), "4", "in use: gpu by 3 open devices$"),
        (("gpu_uvm", "gpu_fs"), "3", "in use: gpu by module gpu_fs and 1 open device$"),
    ],
)
def test_a_driver_in_use_stays_whole(
    node: Node, holders: tuple[str, ...], refcnt: str, words: str
) -> None:
    node.sysfs("gpu", holders, refcnt=refcnt)
    node.sysfs("gpu_uvm", refcnt="0")
    with pytest.raises(BusyError, match=words):
        unload(node.root, ["gpu_uvm", "gpu"], node.reporter)
    assert node.calls == []


def test_a_module_that_was_taken_into_use_meanwhile_is_told(node: Node) -> None:
    node.sysfs("gpu", refcnt="0")
    write(node.tools / "gpu.fail")
    with pytest.raises(BusyError, match=r"gpu was not unloaded: .*in use"):
        unload(node.root, ["gpu"], node.reporter)


def test_real_tools_load_ours_whatever_a_distribution_has_configured(tmp_path: Path) -> None:
    """Real depmod and modprobe, dry, with DKMS' copy and Debian's install lines in place."""
    root = tmp_path / "root"
    kernel = root / "lib/modules" / RELEASE
    write(kernel / "kernel/drm.ko", kernel_module(exports={"drm_open": 1}))
    write(kernel / "updates/dkms/gpu-current.ko", kernel_module(modinfo={"alias": "pci:v1*"}))
    write(kernel / "updates/dkms/gpu.ko", kernel_module(modinfo={"alias": "pci:v1*"}))
    for name in ("modules.builtin", "modules.order"):
        write(kernel / name)
    run(["depmod", "-b", root, RELEASE])
    hostile = write(
        root / "etc/modprobe.d/gpu.conf",
        "install gpu modprobe -i gpu-current $CMDLINE_OPTS\nalias gpu_uvm gpu-current\n"
        "options gpu Mode=9\nblacklist drm\n",
    )
    info = {"license": "X", "alias": "pci:v1*", "depends": "drm"}
    modules = {
        "gpu": write(
            root / "gen/gpu.ko",
            kernel_module(modinfo=info, undefined=["drm_open"], exports={"gpu_get": 2}),
        ),
        "gpu-uvm": write(
            root / "gen/gpu-uvm.ko",
            kernel_module(modinfo={"depends": "gpu"}, undefined=["gpu_get"]),
        ),
    }
    driver = DriverPaths(root, "gpu")
    found = find_foreign(driver, RELEASE, modules)
    assert [(origin.file.split("/")[-1], origin.owner) for origin in found] == [
        ("gpu-current.ko", "DKMS"),
        ("gpu.ko", "DKMS"),
    ]
    assert len(foreign_findings("gpu", found)) == 1
    blacklist = ["rival", *modules, *foreign_names(found)]
    configure_modprobe(driver, {"gpu": {"Mode": "1"}}, blacklist)
    config = driver.modprobe_config
    made = compose(driver, RELEASE, modules, ["gpu", "gpu-uvm"])

    def shown(*words: str | Path) -> list[str]:
        argv = ["modprobe", "-S", RELEASE, "-n", "-v", "--show-depends", *words]
        return [line.strip() for line in run(argv).stdout.splitlines()]

    updates = f"insmod {made.path}/lib/modules/{RELEASE}/updates"
    drm = f"insmod {made.path}/lib/modules/{RELEASE}/kernel/drm.ko"
    ours: list[str | Path] = ["-d", made.path, "-C", config, "--ignore-install"]
    assert shown(*ours, "gpu-uvm") == [
        drm,
        f"{updates}/gpu.ko Mode=1",
        f"{updates}/gpu-uvm.ko",
    ]
    assert shown(*ours, "gpu") == [drm, f"{updates}/gpu.ko Mode=1"]
    # What it is for: the same on the node's own modules and configuration.
    assert "gpu-current" in "".join(shown("-d", root, "-C", hostile.parent, "gpu"))
    # And udev loads neither copy by alias any more, as it would have.
    by_alias: list[str | Path] = ["modprobe", "-S", RELEASE, "-n", "-v", "-b", "-d", root, "-C"]
    assert "gpu" in run([*by_alias, "/dev/null", "pci:v1d2"]).stdout
    assert run([*by_alias, config.parent, "pci:v1d2"], ok=(0, 1)).stdout == ""
