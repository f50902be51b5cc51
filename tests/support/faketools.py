"""The programs that a node with the small driver has: they load it into a fake /sys.

``modprobe`` makes what the kernel would show of a driver (``sys/module``, ``proc/devices``,
the GPUs it is bound to) and ``rmmod`` takes it away again, ``ldconfig`` is the real one. All
note that they ran.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.support.headertrees import write

_COMMON = """#!/bin/sh
tools=@TOOLS@ root=@ROOT@
echo "${0##*/} $*" >>$tools/log
devices() {
    echo "Character devices:"
    echo "  1 mem"
    [ ! -d $root/sys/module/gpu ] || echo "195 gpu"
    [ ! -d $root/sys/module/gpu_uvm ] || echo "$(cat $tools/uvm-major) gpu-uvm"
    echo
    echo "Block devices:"
}
"""
_MODPROBE = """
# -d DIR -C FILE --ignore-install NAME
for name; do :; done
[ ! -e $tools/$name.kmsg ] || cat $tools/$name.kmsg >>$root/dev/kmsg
[ ! -e $tools/$name.fail ] || { cat $tools/$name.fail >&2; exit 1; }
file=$(find $2/lib/modules -name $name.ko)
info() { head -c 65536 $file | tr '\\0' '\\n' | sed -n "s/^$1=//p"; }
fails=$tools/$name-$(info version).fail
[ ! -e $fails ] || { cat $fails >&2; exit 1; }
kernel=$(echo $name | tr - _)
module=$root/sys/module/$kernel
mkdir -p $module/holders
info version >$module/version
info srcversion >$module/srcversion
echo live >$module/initstate
echo 0 >$module/refcnt
case $kernel in
gpu)
    driver=$root/sys/bus/pci/drivers/gpu minor=0
    mkdir -p $driver $root/proc/driver/gpu
    ln -sfn ../../../../module/gpu $driver/module
    cp $tools/params $root/proc/driver/gpu/params
    for device in $root/sys/bus/pci/devices/*; do
        [ "$(cat $device/class)" = 0x030200 ] && [ ! -e $device/driver ] || continue
        ln -s ../../../bus/pci/drivers/gpu $device/driver
        mkdir -p $root/proc/driver/gpu/gpus/${device##*/}
        echo "Device Minor: $minor" >$root/proc/driver/gpu/gpus/${device##*/}/information
        minor=$((minor + 1))
    done ;;
gpu_uvm)
    ln -s ../../gpu_uvm $root/sys/module/gpu/holders/gpu_uvm
    echo 1 >$root/sys/module/gpu/refcnt ;;
esac
devices >$root/proc/devices
"""
_RMMOD = """
[ ! -e $tools/$1.fail ] || { cat $tools/$1.fail >&2; exit 1; }
if [ -n "$(ls $root/sys/module/$1/holders)" ]; then
    echo "rmmod: ERROR: Module $1 is in use" >&2
    exit 1
fi
rm -r $root/sys/module/$1
case $1 in
gpu)
    rm -r $root/proc/driver/gpu
    for device in $root/sys/bus/pci/devices/*; do
        case $(readlink $device/driver) in */gpu) rm $device/driver ;; esac
    done ;;
gpu_uvm)
    rm $root/sys/module/gpu/holders/gpu_uvm
    echo 0 >$root/sys/module/gpu/refcnt ;;
esac
devices >$root/proc/devices
"""
_TOOLS = {
    "modprobe": _MODPROBE,
    "rmmod": _RMMOD,
    "depmod": "",
    "ldconfig": f'exec {shutil.which("ldconfig", path="/usr/sbin:/sbin")} "$@"\n',
}


def write_tools(tools: Path, root: Path) -> None:
    """Puts them into the folder ``tools``; they act on ``root``."""
    for name, script in _TOOLS.items():
        # In a child: a kernel ends what it has begun, although who asked for it is killed.
        text = f"{_COMMON}(:\n{script}\n) &\nwait $!\n"
        for mark, place in {"@TOOLS@": tools, "@ROOT@": root}.items():
            text = text.replace(mark, str(place))
        write(tools / name, text, 0o755)
    write(tools / "uvm-major", "243\n")
    write_params(tools)


def write_params(tools: Path, modify: int = 1) -> None:
    """What the driver will say of its nodes."""
    write(
        tools / "params",
        f"DeviceFileUID: 0\nDeviceFileGID: 0\nDeviceFileMode: 438\n"
        f"ModifyDeviceFiles: {modify}\n",
    )
