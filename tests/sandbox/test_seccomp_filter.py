"""The filter decides as it is meant to, on both machines: its program is run here, instruction by instruction, on made-up calls."""

import struct

import pytest

from limbeck.sandbox.inside.seccomp import ALLOW, AUDIT, KILL, NOT_THERE, REFUSE, build
from limbeck.sandbox.inside.syscalls import ALLOWED, CHECKED, MACHINES, TOUCHING, number

PID = 4321
DENIED = {  # calls that must never be in the table, with their numbers on x86_64 and aarch64
    "fork": (57, None), "vfork": (58, None), "execve": (59, 221), "execveat": (322, 281), "socket": (41, 198),
    "connect": (42, 203), "bind": (49, 200), "listen": (50, 201), "accept": (43, 202), "sendmsg": (46, 211),
    "recvmsg": (47, 212), "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271),
    "tkill": (200, 130), "rt_sigqueueinfo": (129, 138), "pidfd_open": (434, 434), "pidfd_send_signal": (424, 424),
    "pidfd_getfd": (438, 438), "unshare": (272, 97), "setns": (308, 268), "mount": (165, 40), "umount2": (166, 39),
    "pivot_root": (155, 41), "chroot": (161, 51), "bpf": (321, 280), "keyctl": (250, 219), "add_key": (248, 217),
    "io_uring_setup": (425, 425), "memfd_create": (319, 279), "perf_event_open": (298, 241), "shmget": (29, 194),
    "userfaultfd": (323, 282), "msgget": (68, 186), "semget": (64, 190), "mknodat": (259, 33), "setuid": (105, 146),
    "capset": (126, 91), "setresuid": (117, 147), "setsid": (112, 157), "setpriority": (141, 140),
    "inotify_init1": (294, 26), "open_tree": (428, 428), "clock_settime": (227, 112), "adjtimex": (159, 171),
    "reboot": (169, 142), "init_module": (175, 105), "sync": (162, 81), "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265), "personality": (135, 92), "fchownat": (260, 54), "splice": (275, 76),
}  # fmt: skip


def decide(code: bytes, machine: str, call: int, *arguments: int) -> int:
    """Run the program as the kernel would and return what it returns."""
    words = [*arguments, 0, 0, 0, 0, 0, 0][:6]
    data = struct.pack("=iIQ6Q", call if call < 2**31 else call - 2**32, AUDIT[machine], 0, *words)
    steps = [struct.unpack_from("=HBBI", code, at) for at in range(0, len(code), 8)]
    place = value = 0
    while True:
        operation, yes, no, constant = steps[place]
        place += 1
        if operation == 0x20:
            value = struct.unpack_from("=I", data, constant)[0]
        elif operation == 0x54:
            value &= constant
        elif operation == 0x05:
            place += constant
        elif operation == 0x06:
            return constant
        else:
            holds = {0x15: value == constant, 0x35: value >= constant, 0x45: bool(value & constant)}[operation]
            place += yes if holds else no


@pytest.fixture(params=MACHINES)
def machine(request):
    return request.param


def _code(machine: str, writable: bool = False) -> bytes:
    return bytes(build(machine, writable=writable).for_process(PID))


def test_every_allowed_call_is_allowed_and_every_other_is_not(machine):
    code = _code(machine)
    allowed = {number(name, machine) for name in ALLOWED} - {None}
    checked = {number(name, machine) for name in CHECKED} - {None}
    for call in range(600):
        if call in checked:
            continue
        wanted = ALLOW if call in allowed else REFUSE if call < 451 else NOT_THERE
        assert decide(code, machine, call) == wanted, call


@pytest.mark.parametrize("name", DENIED)
def test_the_dangerous_calls_are_refused_whatever_the_arguments(machine, name):
    call = DENIED[name][MACHINES.index(machine)]
    if call is None:
        return
    for arguments in ((), (0,) * 6, (PID, PID), (1, 1, 1, 1, 0)):
        assert decide(_code(machine), machine, call, *arguments) == REFUSE
        assert decide(_code(machine, writable=True), machine, call, *arguments) == REFUSE


@pytest.mark.parametrize(
    ("name", "arguments", "wanted"),
    [
        ("clone", (0x3D0F00,), ALLOW),  # what pthread_create asks for
        ("clone", (17,), REFUSE),
        ("clone", (0x4111,), REFUSE),  # vfork
        ("clone", (0x3D0F00 | 0x10000000,), REFUSE),  # a thread in a new user namespace
        ("clone", (0x3D0F00 | 0x40000000,), REFUSE),
        ("clone", (0x3D0F00 | 0x80,), REFUSE),
        ("clone3", (), NOT_THERE),
        ("kill", (PID, 9), ALLOW),
        ("kill", (PID + 1, 9), REFUSE),
        ("kill", (0, 9), REFUSE),
        ("kill", (0xFFFFFFFF, 9), REFUSE),
        ("tgkill", (PID, 99, 6), ALLOW),
        ("tgkill", (PID - 1, 99, 6), REFUSE),
        ("socketpair", (1, 1, 0), ALLOW),
        ("socketpair", (1, 1 | 0x80800, 0), ALLOW),
        ("socketpair", (1, 2, 0), REFUSE),
        ("socketpair", (1, 5, 0), REFUSE),
        ("socketpair", (2, 1, 0), REFUSE),
        ("sendto", (3, 1, 1, 0, 0, 0), ALLOW),
        ("sendto", (3, 1, 1, 0, 0x1000, 16), REFUSE),
        ("sendto", (3, 1, 1, 0, 0x7F00000000, 16), REFUSE),
        ("fcntl", (1, 3), ALLOW),
        ("fcntl", (1, 8), REFUSE),  # F_SETOWN
        ("fcntl", (1, 15), REFUSE),  # F_SETOWN_EX
        ("fcntl", (1, 1031), REFUSE),  # F_SETPIPE_SZ
        ("ioctl", (0, 0x5401), ALLOW),
        ("ioctl", (0, 0x5412), REFUSE),  # TIOCSTI
        ("prctl", (15,), ALLOW),
        ("prctl", (1,), REFUSE),  # PR_SET_PDEATHSIG
        ("prctl", (4,), REFUSE),  # PR_SET_DUMPABLE
        ("prlimit64", (0,), ALLOW),
        ("prlimit64", (PID,), REFUSE),
        ("seccomp", (1, 0), REFUSE),
        ("landlock_create_ruleset", (), REFUSE),
    ],
)
def test_calls_that_are_looked_into(machine, name, arguments, wanted):
    assert decide(_code(machine), machine, number(name, machine), *arguments) == wanted


@pytest.mark.parametrize("name", TOUCHING)
def test_modes_and_times_may_change_only_where_nothing_but_the_box_can_be_changed(machine, name):
    call = number(name, machine)
    if call is None:
        return
    assert decide(_code(machine), machine, call) == REFUSE
    assert decide(_code(machine, writable=True), machine, call) == ALLOW


def test_another_machines_calls_end_the_process():
    code = _code("x86_64")
    assert decide(code, "aarch64", 0) == KILL
    assert decide(code, "x86_64", 0x40000000) == KILL
    assert decide(code, "x86_64", 0x40000000 | 41) == KILL
    assert decide(_code("aarch64"), "x86_64", 63) == KILL


def test_the_kernel_could_take_it(machine):
    assert len(_code(machine)) // 8 < 4096
