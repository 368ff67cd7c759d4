"""A cell for code of strangers: no network, no other process, and on its disk only Python.

Linux namespaces (unshare -rnm, and -p): a new root holds Python and the package, to be read only;
everything else, solutions and other submissions among it, is not there. Where this does not work,
`fault` says why.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import matplotlib

PACKAGE = Path(__file__).resolve().parents[1]
SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib64", "/etc/ld.so.cache", "/etc/localtime")
TOOLS = ("unshare", "mount", "pivot_root", "setpriv")
SCRIPT = r"""
set -e
root=$1 fonts=$2; shift 2
mount -t tmpfs -o size=256m,mode=755 cell "$root"
while [ "$1" != -- ]; do
  if [ -d "$1" ]; then mkdir -p "$root$1"; else mkdir -p "$root${1%/*}"; : > "$root$1"; fi
  mount --rbind "$1" "$root$1"
  mount -o remount,bind,ro "$root$1"
  shift
done
shift
mkdir -p "$root/proc" "$root/tmp/mpl" "$root/dev/shm" "$root/old"
cp "$fonts"/fontlist-*.json "$root/tmp/mpl/" 2>/dev/null || :
mount -t proc proc "$root/proc"
for device in null zero urandom; do
  : > "$root/dev/$device"
  mount --bind "/dev/$device" "$root/dev/$device"
done
cd "$root"
pivot_root . old
umount -l /old
rmdir /old
cd /tmp
exec setpriv --no-new-privs --bounding-set=-all --inh-caps=-all -- "$@"
"""
PROBE = r"""
import os, socket, sys
package, *hidden = sys.argv[1:]
seen = [path for path in hidden if os.path.exists(path)]
assert not seen, f"a submission would see {seen[0]}"
nets = [name for _, name in socket.if_nameindex()]
assert nets in ([], ["lo"]), f"a submission would have the network {nets}"
try:
    open(os.path.join(package, "written"), "w").close()
except OSError:
    print("isolated", end="")
else:
    raise AssertionError("a submission could write into the package")
"""


def environment(place: str = "/tmp") -> dict[str, str]:
    """What a submission sees of the environment: nothing of the lecturer's."""
    fixed = {"PATH": "/usr/bin:/bin:/usr/sbin:/sbin", "LANG": "C.UTF-8", "OMP_NUM_THREADS": "1"}
    own = {"HOME": place, "TMPDIR": place, "MPLCONFIGDIR": f"{place}/mpl", "IPYTHONDIR": place}
    own |= {f"JUPYTER_{kind}_DIR": f"{place}/j" for kind in ("RUNTIME", "DATA", "CONFIG")}
    return fixed | own | {"PYTHONPATH": str(PACKAGE.parent), "PYTHONDONTWRITEBYTECODE": "1"}


def isolated(command: Sequence[str], root: Path) -> list[str]:
    """A command line that runs `command` in a cell; `root` is an empty folder for it to hang on."""
    unshare = ["unshare", "--map-root-user", "--net", "--mount", "--pid", "--ipc", "--fork"]
    unshare += ["--kill-child", "sh", "-c", SCRIPT, "sh", str(root), matplotlib.get_cachedir()]
    return [*unshare, *readable(), "--", *command]


def readable() -> list[str]:
    """Files and folders that a cell holds: the system's programs, Python, the package."""
    wanted = [*SYSTEM, sys.base_prefix, sys.prefix, str(PACKAGE)]
    there = sorted({path for path in wanted if os.path.exists(path)}, key=len)
    kept: list[str] = []
    for path in there:
        if not any(path == other or path.startswith(other + "/") for other in kept):
            kept.append(path)
    return kept


def fault(hidden: Sequence[Path]) -> str:
    """Why a cell would not hold here, or ""; `hidden` are paths a submission must not see."""
    if missing := [tool for tool in TOOLS if shutil.which(tool) is None]:
        return f"{', '.join(missing)} not found (Linux with util-linux is needed)"
    with tempfile.TemporaryDirectory() as place:
        probe = [sys.executable, "-I", "-c", PROBE, str(PACKAGE), *map(str, hidden)]
        command = isolated(probe, Path(place))
        try:
            done = subprocess.run(
                command, env=environment(), capture_output=True, text=True, timeout=60
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            return str(error)
    if done.stdout == "isolated":
        return ""
    return (done.stderr.strip().splitlines() or ["the probe said nothing"])[-1]
