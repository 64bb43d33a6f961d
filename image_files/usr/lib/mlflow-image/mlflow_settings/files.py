"""File access of mlflow-configure: atomic writes, locks, dropped privileges; own addresses."""

from __future__ import annotations

import contextlib
import fcntl
import grp
import os
import pwd
import shutil
import socket
import struct
import tempfile
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

from mlflow_settings.blocks.block import Machine

SERVICE_USER = "mlflow"
# Documentation addresses (RFC 5737, RFC 3849). Connecting a datagram socket to one sends nothing,
# but the kernel selects the source address.
_ELSEWHERE = ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1"))

_SIOCGIFADDR = 0x8915


def write_if_changed(
    path: Path,
    content: str | bytes,
    mode: int,
    group: str = "root",
    *,
    owner: str = "root",
    durable: bool = False,
) -> bool:
    """Write `content` to `path` atomically, unless it is there already; returns whether it wrote.

    durable: the file survives a power failure. Owner and group are set only as root.
    """
    raw = content.encode() if isinstance(content, str) else content
    with contextlib.suppress(OSError):
        if path.read_bytes() == raw and path.stat().st_mode & 0o777 == mode:
            return False
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            if os.geteuid() == 0:
                os.fchown(file.fileno(), _user_id(owner), _group_id(group))
            os.fchmod(file.fileno(), mode)
            file.write(raw)
            file.flush()
            if durable:
                os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    if durable:
        _sync_directory(path.parent)
    return True


def ensure_directory(path: Path, mode: int, group: str = "root") -> None:
    """Create a directory of root with this mode, and its parents if they are missing."""
    path.mkdir(parents=True, exist_ok=True)
    if os.geteuid() == 0:
        os.chown(path, 0, _group_id(group))
    path.chmod(mode)


def give_to_service(path: Path) -> None:
    """Give a directory that belongs to root to the service: the top of a new disk, say.

    cloud-init makes and mounts a disk after systemd-tmpfiles has set the owner below it.
    """
    user = _service_user()
    with contextlib.suppress(FileNotFoundError):
        if user and os.geteuid() == 0 and path.stat().st_uid == 0:
            os.chown(path, user.pw_uid, user.pw_gid)
            path.chmod(0o750)


def not_a_directory(root: Path, path: str) -> str:
    """The part of an absolute path that exists below root and is no directory, or ""."""
    for part in (Path(path), *Path(path).parents):
        found = root / str(part).lstrip("/")
        if found.exists():
            return "" if found.is_dir() else str(part)
    return ""


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock: only one mlflow-configure runs at a time."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def copy_new(source: Path, target: Path) -> None:
    """Copy a file atomically as the service's user; an existing target is kept.

    Root must not write there: the service owns the directory and could place links in it.
    """

    def copy() -> None:
        with _umask(0o027):
            target.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
        try:
            with os.fdopen(descriptor, "wb") as new, source.open("rb") as old:
                shutil.copyfileobj(old, new)
                os.fchmod(new.fileno(), 0o640)
                new.flush()
                os.fsync(new.fileno())
            with contextlib.suppress(FileExistsError):
                os.link(name, target)
        finally:
            Path(name).unlink()
        _sync_directory(target.parent)

    _as_service_user(copy)


@contextlib.contextmanager
def _umask(mask: int) -> Iterator[None]:
    """Set the umask, and restore it: without root, this is the caller's process."""
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def this_machine() -> Machine:
    """What settings depend on. Without /proc/meminfo, which the unit hides."""
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    processors = len(os.sched_getaffinity(0))
    return Machine(own_addresses(), processors, pages >> 20)


def own_addresses() -> tuple[str, ...]:
    """The machine's own IP addresses: that of the default route first, IPv4 before IPv6."""
    towards = {family: _address_towards(family, elsewhere) for family, elsewhere in _ELSEWHERE}
    found = [towards[socket.AF_INET], *_interface_addresses(), towards[socket.AF_INET6]]
    found += _global_ipv6_addresses()
    return tuple(dict.fromkeys(filter(None, found)))


def _address_towards(family: int, elsewhere: str) -> str:
    with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as probe:
        probe.connect((elsewhere, 9))
        return str(probe.getsockname()[0])
    return ""


def _interface_addresses() -> list[str]:
    """The first IPv4 address of each interface except the loopback; see netdevice(7)."""
    found = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        for _, name in socket.if_nameindex():
            with contextlib.suppress(OSError):
                request = struct.pack("256s", name.encode()[:15])
                answer = fcntl.ioctl(asking.fileno(), _SIOCGIFADDR, request)
                found.append(socket.inet_ntoa(answer[20:24]))
    return [address for address in found if not address.startswith("127.")]


def _global_ipv6_addresses() -> list[str]:
    """The global IPv6 addresses of every interface; see proc(5).

    /proc/net itself is hidden from the unit (ProcSubset=pid).
    """
    try:
        lines = Path("/proc/self/net/if_inet6").read_text(encoding="ascii").splitlines()
    except OSError:
        return []
    fields = [line.split() for line in lines]
    # The fourth field is the scope: 00 is global, 20 the link, 10 the machine.
    found = [socket.inet_ntop(socket.AF_INET6, bytes.fromhex(f[0])) for f in fields if f[3] == "00"]
    return sorted(found)


def _as_service_user(work: Callable[[], None]) -> None:
    if os.geteuid() != 0:
        work()
        return
    child = os.fork()
    if child == 0:
        status = 1
        try:
            become_service_user()
            work()
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    _, wait_status = os.waitpid(child, 0)
    if wait_status != 0:
        raise OSError("the new database could not be written; see the traceback above")


def become_service_user() -> None:
    """Give up root's rights for those of the service, for good."""
    if user := _service_user():
        os.setgroups([])
        os.setgid(user.pw_gid)
        os.setuid(user.pw_uid)


def _service_user() -> pwd.struct_passwd | None:
    try:
        return pwd.getpwnam(SERVICE_USER)
    except KeyError:
        # Only in tests as root outside the image: in the image, sysusers.d creates the user.
        return None


def _user_id(user: str) -> int:
    try:
        return pwd.getpwnam(user).pw_uid
    except KeyError:
        return 0


def _group_id(group: str) -> int:
    try:
        return grp.getgrnam(group).gr_gid
    except KeyError:
        return 0


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
