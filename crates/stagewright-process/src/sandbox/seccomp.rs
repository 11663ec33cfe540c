//! The seccomp filter of a sandbox: denied system calls, and those that [`super::broker`] carries out for programs.
//!
//! Namespaces, mounts and Landlock confine files, processes and networks. The filter denies what they don't cover:
//!
//! - Socket families that no network namespace covers (`AF_VSOCK`, `AF_ALG`, …). Allowed are Unix, IPv4, IPv6, and
//!   routing netlink, from which the C library reads the interfaces.
//! - `io_uring` and calls by the numbers of another ABI (32-bit, x32), either of which bypasses a filter.
//! - Modes with a set-user-ID or set-group-ID bit: such a file would run as the engine's user after the stage. Programs
//!   see `EPERM`, as under systemd's `RestrictSUIDSGID=`. `openat2` takes the mode in memory, where a filter can't
//!   look, so it fails with `ENOSYS`; programs fall back to `openat`.
//! - Parts of the kernel that aren't divided by namespaces, or that builds don't use: keys, BPF, performance counters,
//!   `userfaultfd`, the kernel's log, file handles.
//!
//! Calls that require a capability aren't listed: the harmful capabilities are dropped.
//!
//! `connect` on a Unix socket is by path, and no namespace of the network covers paths: see [`super::broker`], which
//! `connect` and `listen` are handed to. Datagram sockets carry a path with each message, in memory, so that there are
//! no Unix datagram sockets; pairs of them are made of the kind that keeps messages apart as well.
//!
//! The filter is made here and not by `seccompiler`, which knows neither notifications nor more than one answer for
//! each filter, and lets x32 pass.

use std::io;
use std::os::fd::{FromRawFd as _, OwnedFd};

use libc::{
    BPF_ABS, BPF_ALU, BPF_AND, BPF_JEQ, BPF_JGE, BPF_JMP, BPF_K, BPF_LD, BPF_RET, BPF_W, SECCOMP_RET_ALLOW,
    SECCOMP_RET_ERRNO, SECCOMP_RET_KILL_PROCESS, SECCOMP_RET_USER_NOTIF, c_long, sock_filter, sock_fprog,
};

/// `AUDIT_ARCH_…` of linux/audit.h.
#[cfg(target_arch = "x86_64")]
const NATIVE: u32 = 0xC000_003E;
#[cfg(target_arch = "aarch64")]
const NATIVE: u32 = 0xC000_00B7;
#[cfg(target_arch = "riscv64")]
const NATIVE: u32 = 0xC000_00F3;

/// The first number of x32 calls on x86-64. Other architectures have no calls with such numbers.
const FOREIGN: u32 = 0x4000_0000;
/// The number is the same on all architectures, but missing from the C library's headers on some.
const FCHMODAT2: c_long = 452;
/// `SOCK_TYPE_MASK`: above are flags.
const SOCKET_TYPE: u32 = 0xf;
const SET_ID: u32 = libc::S_ISUID | libc::S_ISGID;
/// `open` and `openat` read the mode only if one of these flags is set.
const CREATING: u32 = libc::O_CREAT.cast_unsigned() | (libc::O_TMPFILE & !libc::O_DIRECTORY).cast_unsigned();

const EMPTY_PATH: u32 = libc::AT_EMPTY_PATH.cast_unsigned();
const CODE: u32 = libc::PROT_EXEC.cast_unsigned();
const ANONYMOUS: u32 = libc::MAP_ANONYMOUS.cast_unsigned();

const UNIX: u32 = libc::AF_UNIX.cast_unsigned();
const NETLINK: u32 = libc::AF_NETLINK.cast_unsigned();
const FAMILIES: &[u32] = &[UNIX, libc::AF_INET.cast_unsigned(), libc::AF_INET6.cast_unsigned(), NETLINK];
/// The kernel makes a datagram socket for `SOCK_RAW` of a Unix socket, too.
const DATAGRAMS: &[u32] = &[libc::SOCK_DGRAM.cast_unsigned(), libc::SOCK_RAW.cast_unsigned()];

/// What the filter does with a call.
#[derive(Clone, Copy)]
enum CallAction {
    Errno(i32),
    /// The broker carries it out or denies it.
    Mediate,
}

/// A test of the lower half of an argument. All tested arguments have 32 bits, and the kernel ignores the upper half
/// too. Passes if the masked value is among `values`, or isn't among them if `among` is false.
#[derive(Clone, Copy)]
struct ArgumentTest {
    argument: u32,
    mask: u32,
    among: bool,
    values: &'static [u32],
}

const fn is(argument: u32, values: &'static [u32]) -> ArgumentTest {
    ArgumentTest { argument, mask: u32::MAX, among: true, values }
}

const fn is_not(argument: u32, values: &'static [u32]) -> ArgumentTest {
    ArgumentTest { argument, mask: u32::MAX, among: false, values }
}

const fn has(argument: u32, bits: u32) -> ArgumentTest {
    ArgumentTest { argument, mask: bits, among: false, values: &[0] }
}

const fn lacks(argument: u32, bits: u32) -> ArgumentTest {
    ArgumentTest { argument, mask: bits, among: true, values: &[0] }
}

const fn is_kind(argument: u32, values: &'static [u32]) -> ArgumentTest {
    ArgumentTest { argument, mask: SOCKET_TYPE, among: true, values }
}

/// The number of a call, tests that its arguments must all pass, and the action. The first matching rule applies.
struct FilterRule(c_long, &'static [ArgumentTest], CallAction);

const DENIED: CallAction = CallAction::Errno(libc::EPERM);
const UNKNOWN: CallAction = CallAction::Errno(libc::ENOSYS);
const NO_FAMILY: CallAction = CallAction::Errno(libc::EAFNOSUPPORT);

/// Calls that builds make most often come first, because rules are tested one by one.
const RULES: &[FilterRule] = &[
    FilterRule(libc::SYS_openat, &[has(2, CREATING), has(3, SET_ID)], DENIED),
    #[cfg(target_arch = "x86_64")]
    FilterRule(libc::SYS_open, &[has(1, CREATING), has(2, SET_ID)], DENIED),
    #[cfg(target_arch = "x86_64")]
    FilterRule(libc::SYS_chmod, &[has(1, SET_ID)], DENIED),
    #[cfg(target_arch = "x86_64")]
    FilterRule(libc::SYS_mkdir, &[has(1, SET_ID)], DENIED),
    #[cfg(target_arch = "x86_64")]
    FilterRule(libc::SYS_mknod, &[has(1, SET_ID)], DENIED),
    #[cfg(target_arch = "x86_64")]
    FilterRule(libc::SYS_creat, &[has(1, SET_ID)], DENIED),
    FilterRule(libc::SYS_fchmod, &[has(1, SET_ID)], DENIED),
    FilterRule(libc::SYS_fchmodat, &[has(2, SET_ID)], DENIED),
    FilterRule(FCHMODAT2, &[has(2, SET_ID)], DENIED),
    FilterRule(libc::SYS_mkdirat, &[has(2, SET_ID)], DENIED),
    FilterRule(libc::SYS_mknodat, &[has(2, SET_ID)], DENIED),
    FilterRule(libc::SYS_openat2, &[], UNKNOWN),
    FilterRule(libc::SYS_socket, &[is_not(0, FAMILIES)], NO_FAMILY),
    FilterRule(libc::SYS_socket, &[is(0, &[UNIX]), is_kind(1, DATAGRAMS)], CallAction::Errno(libc::ESOCKTNOSUPPORT)),
    FilterRule(libc::SYS_socket, &[is(0, &[NETLINK]), is_not(2, &[0])], CallAction::Errno(libc::EPROTONOSUPPORT)),
    FilterRule(libc::SYS_socketpair, &[is_not(0, &[UNIX])], NO_FAMILY),
    FilterRule(libc::SYS_socketpair, &[is_kind(1, DATAGRAMS)], CallAction::Mediate),
    FilterRule(libc::SYS_connect, &[], CallAction::Mediate),
    FilterRule(libc::SYS_listen, &[], CallAction::Mediate),
    FilterRule(libc::SYS_io_uring_setup, &[], UNKNOWN),
    FilterRule(libc::SYS_io_uring_enter, &[], UNKNOWN),
    FilterRule(libc::SYS_io_uring_register, &[], UNKNOWN),
    FilterRule(libc::SYS_keyctl, &[], UNKNOWN),
    FilterRule(libc::SYS_add_key, &[], UNKNOWN),
    FilterRule(libc::SYS_request_key, &[], UNKNOWN),
    FilterRule(libc::SYS_bpf, &[], DENIED),
    FilterRule(libc::SYS_perf_event_open, &[], DENIED),
    FilterRule(libc::SYS_userfaultfd, &[], DENIED),
    FilterRule(libc::SYS_syslog, &[], DENIED),
    FilterRule(libc::SYS_open_by_handle_at, &[], DENIED),
];

/// The calls that [`super::observe`] hears of, in addition. None of them is denied.
const OBSERVED: &[FilterRule] = &[
    FilterRule(libc::SYS_openat, &[], CallAction::Mediate),
    // Without a path they are about an open file.
    FilterRule(libc::SYS_newfstatat, &[lacks(3, EMPTY_PATH)], CallAction::Mediate),
    FilterRule(libc::SYS_statx, &[lacks(2, EMPTY_PATH)], CallAction::Mediate),
    // Code of a file: programs, libraries and modules.
    FilterRule(libc::SYS_mmap, &[has(2, CODE), lacks(3, ANONYMOUS)], CallAction::Mediate),
    FilterRule(libc::SYS_readlinkat, &[], CallAction::Mediate),
    FilterRule(libc::SYS_faccessat, &[], CallAction::Mediate),
    FilterRule(libc::SYS_faccessat2, &[], CallAction::Mediate),
    FilterRule(libc::SYS_getdents64, &[], CallAction::Mediate),
    FilterRule(libc::SYS_execve, &[], CallAction::Mediate),
    FilterRule(libc::SYS_execveat, &[], CallAction::Mediate),
    FilterRule(libc::SYS_chdir, &[], CallAction::Mediate),
    FilterRule(libc::SYS_mkdirat, &[], CallAction::Mediate),
    FilterRule(libc::SYS_mknodat, &[], CallAction::Mediate),
    FilterRule(libc::SYS_symlinkat, &[], CallAction::Mediate),
    FilterRule(libc::SYS_linkat, &[], CallAction::Mediate),
    #[cfg(not(target_arch = "riscv64"))]
    FilterRule(libc::SYS_renameat, &[], CallAction::Mediate),
    FilterRule(libc::SYS_renameat2, &[], CallAction::Mediate),
    FilterRule(libc::SYS_unlinkat, &[], CallAction::Mediate),
    FilterRule(libc::SYS_truncate, &[], CallAction::Mediate),
    FilterRule(libc::SYS_fchmodat, &[], CallAction::Mediate),
    FilterRule(libc::SYS_fchownat, &[], CallAction::Mediate),
    FilterRule(libc::SYS_utimensat, &[], CallAction::Mediate),
];
/// The older forms of these calls.
#[cfg(target_arch = "x86_64")]
const OBSERVED_BEFORE: &[FilterRule] = &[
    FilterRule(libc::SYS_open, &[], CallAction::Mediate),
    FilterRule(libc::SYS_stat, &[], CallAction::Mediate),
    FilterRule(libc::SYS_lstat, &[], CallAction::Mediate),
    FilterRule(libc::SYS_access, &[], CallAction::Mediate),
    FilterRule(libc::SYS_readlink, &[], CallAction::Mediate),
    FilterRule(libc::SYS_creat, &[], CallAction::Mediate),
    FilterRule(libc::SYS_mkdir, &[], CallAction::Mediate),
    FilterRule(libc::SYS_mknod, &[], CallAction::Mediate),
    FilterRule(libc::SYS_symlink, &[], CallAction::Mediate),
    FilterRule(libc::SYS_link, &[], CallAction::Mediate),
    FilterRule(libc::SYS_rename, &[], CallAction::Mediate),
    FilterRule(libc::SYS_unlink, &[], CallAction::Mediate),
    FilterRule(libc::SYS_rmdir, &[], CallAction::Mediate),
    FilterRule(libc::SYS_chmod, &[], CallAction::Mediate),
    FilterRule(libc::SYS_chown, &[], CallAction::Mediate),
    FilterRule(libc::SYS_lchown, &[], CallAction::Mediate),
    FilterRule(libc::SYS_utime, &[], CallAction::Mediate),
    FilterRule(libc::SYS_utimes, &[], CallAction::Mediate),
];
#[cfg(not(target_arch = "x86_64"))]
const OBSERVED_BEFORE: &[FilterRule] = &[];

/// For a process with a network namespace of its own and the machine's files: no socket that is reached by path, and
/// no family that namespaces don't cover.
const INTERNET_ALONE: &[FilterRule] = &[
    FilterRule(libc::SYS_socket, &[is_not(0, &INTERNET)], NO_FAMILY),
    FilterRule(libc::SYS_socket, &[is(0, &[NETLINK]), is_not(2, &[0])], CallAction::Errno(libc::EPROTONOSUPPORT)),
    FilterRule(libc::SYS_io_uring_setup, &[], UNKNOWN),
    FilterRule(libc::SYS_io_uring_enter, &[], UNKNOWN),
    FilterRule(libc::SYS_io_uring_register, &[], UNKNOWN),
];
const INTERNET: [u32; 3] = [libc::AF_INET.cast_unsigned(), libc::AF_INET6.cast_unsigned(), NETLINK];

/// Leaves this thread, and all that it starts from now on, nothing of sockets but the network's, for good. Pairs of
/// Unix sockets, which are connected to nothing else, stay. To be called with no new privileges.
pub(crate) fn internet_alone() -> io::Result<()> {
    let mut program = program(&[INTERNET_ALONE])?;
    let length = u16::try_from(program.len()).map_err(io::Error::other)?;
    let filter = sock_fprog { len: length, filter: program.as_mut_ptr() };
    let (mode, flags) = (libc::SECCOMP_SET_MODE_FILTER, 0);
    // SAFETY: the filter is complete and lives for the call.
    let set = unsafe { libc::syscall(libc::SYS_seccomp, mode, flags, std::ptr::from_ref::<sock_fprog>(&filter)) };
    if set == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Puts this thread, and all that it starts from now on, under the filter, for good. Gives the descriptor by which the
/// broker hears of calls. To be called with no new privileges. `observes`: whether it also hears of calls that name
/// files.
pub(super) fn install(observes: bool) -> io::Result<OwnedFd> {
    let mut program = match observes {
        // What is denied stays denied, because the first rule that matches applies.
        true => program(&[RULES, OBSERVED, OBSERVED_BEFORE])?,
        false => program(&[RULES])?,
    };
    let length = u16::try_from(program.len()).map_err(io::Error::other)?;
    let filter = sock_fprog { len: length, filter: program.as_mut_ptr() };
    // Without the second flag, kernels before 5.16 enable mitigations against speculative reads in all programs under
    // a filter, which makes them slower.
    let usual = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER | libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW;
    // With this flag only a fatal signal interrupts a call that the broker has received. Without it, any signal would
    // cancel the call and restart it, and the broker would carry it out twice.
    let flags = usual | libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV;
    match set(&filter, flags) {
        // Kernels before 5.19 don't know the flag.
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => set(&filter, usual),
        result => result,
    }
}

fn set(filter: &sock_fprog, flags: libc::c_ulong) -> io::Result<OwnedFd> {
    // SAFETY: the filter is complete and lives for the call.
    let fd = unsafe {
        libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, std::ptr::from_ref::<sock_fprog>(filter))
    };
    let fd = i32::try_from(fd).map_err(io::Error::other)?;
    // SAFETY: the descriptor is new and owned by nothing else.
    if fd < 0 { Err(io::Error::last_os_error()) } else { Ok(unsafe { OwnedFd::from_raw_fd(fd) }) }
}

const LOAD: u32 = BPF_LD | BPF_W | BPF_ABS;
const EQUAL: u32 = BPF_JMP | BPF_JEQ | BPF_K;

/// One instruction. `jt` and `jf` are how many instructions are skipped if its condition holds, or doesn't.
fn code(code: u32, jt: u8, jf: u8, k: u32) -> io::Result<sock_filter> {
    Ok(sock_filter { code: u16::try_from(code).map_err(io::Error::other)?, jt, jf, k })
}

fn return_action(value: u32) -> io::Result<sock_filter> {
    code(BPF_RET | BPF_K, 0, 0, value)
}

fn program(rules: &[&[FilterRule]]) -> io::Result<Vec<sock_filter>> {
    // Offsets are those of `struct seccomp_data`: the number, the architecture, an address, six arguments.
    let (number, architecture) = (0, 4);
    let mut program = vec![
        code(LOAD, 0, 0, architecture)?,
        code(EQUAL, 1, 0, NATIVE)?,
        return_action(SECCOMP_RET_KILL_PROCESS)?,
        code(LOAD, 0, 0, number)?,
        code(BPF_JMP | BPF_JGE | BPF_K, 0, 1, FOREIGN)?,
        return_action(SECCOMP_RET_ERRNO | libc::ENOSYS.cast_unsigned())?,
    ];
    for rule in rules.iter().copied().flatten() {
        program.extend(compile(rule)?);
    }
    program.push(return_action(SECCOMP_RET_ALLOW)?);
    Ok(program)
}

/// Compiles a rule. If it doesn't match, it jumps past its own end. The accumulator holds the call's number at its
/// start and at its end.
fn compile(FilterRule(call, tests, action): &FilterRule) -> io::Result<Vec<sock_filter>> {
    let action = match action {
        CallAction::Errno(errno) => SECCOMP_RET_ERRNO | errno.cast_unsigned(),
        CallAction::Mediate => SECCOMP_RET_USER_NOTIF,
    };
    // Compiled from the end, because a jump needs the length of the code that it skips.
    let mut tail = vec![return_action(action)?];
    if !tests.is_empty() {
        tail.push(code(LOAD, 0, 0, 0)?);
    }
    for test in tests.iter().rev() {
        let values = u8::try_from(test.values.len()).map_err(io::Error::other)?;
        // A failed test jumps to the last instruction of the rule, which loads the call's number again.
        let fails = u8::try_from(tail.len() - 1).map_err(io::Error::other)?;
        let mut head =
            vec![code(LOAD, 0, 0, 16 + 8 * test.argument)?, code(BPF_ALU | BPF_AND | BPF_K, 0, 0, test.mask)?];
        for (at, &value) in (1_u8..).zip(test.values) {
            let left = values - at;
            let other = if left == 0 && test.among { fails } else { 0 };
            head.push(code(EQUAL, if test.among { left } else { left + fails }, other, value)?);
        }
        head.extend(tail);
        tail = head;
    }
    let skipped = u8::try_from(tail.len()).map_err(io::Error::other)?;
    let mut whole = vec![code(EQUAL, 0, skipped, u32::try_from(*call).map_err(io::Error::other)?)?];
    whole.extend(tail);
    Ok(whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FAMILY: u32 = SECCOMP_RET_ERRNO | libc::EAFNOSUPPORT.cast_unsigned();
    const EPERM: u32 = SECCOMP_RET_ERRNO | libc::EPERM.cast_unsigned();
    const ENOSYS: u32 = SECCOMP_RET_ERRNO | libc::ENOSYS.cast_unsigned();

    /// Runs the filter as the kernel would, for the few instructions that it uses.
    fn verdict(architecture: u32, number: u32, arguments: &[u64]) -> u32 {
        verdict_of(&[RULES], architecture, number, arguments)
    }

    fn verdict_of(rules: &[&[FilterRule]], architecture: u32, number: u32, arguments: &[u64]) -> u32 {
        let program = program(rules).unwrap();
        let (mut at, mut value) = (0, 0);
        loop {
            let sock_filter { code, jt, jf, k } = program[at];
            at += 1;
            let jump = |holds: bool| usize::from(if holds { jt } else { jf });
            match u32::from(code) {
                LOAD => {
                    value = match k {
                        0 => number,
                        4 => architecture,
                        _ => {
                            let argument = arguments.get((k as usize - 16) / 8).copied().unwrap_or(0);
                            (argument & u64::from(u32::MAX)) as u32
                        }
                    }
                }
                EQUAL => at += jump(value == k),
                code if code == BPF_JMP | BPF_JGE | BPF_K => at += jump(value >= k),
                code if code == BPF_ALU | BPF_AND | BPF_K => value &= k,
                code if code == BPF_RET | BPF_K => return k,
                code => panic!("unexpected instruction {code}"),
            }
        }
    }

    fn native(call: c_long, arguments: &[u64]) -> u32 {
        verdict(NATIVE, u32::try_from(call).unwrap(), arguments)
    }

    #[test]
    fn other_abis_are_refused() {
        assert_eq!(verdict(0x4000_0003, 102, &[]), SECCOMP_RET_KILL_PROCESS, "32 bits");
        for call in [libc::SYS_connect, libc::SYS_getpid] {
            let x32 = FOREIGN | u32::try_from(call).unwrap();
            assert_eq!(verdict(NATIVE, x32, &[]), ENOSYS);
        }
        assert_eq!(native(libc::SYS_getpid, &[]), SECCOMP_RET_ALLOW);
        // A number that no call has yet.
        assert_eq!(verdict(NATIVE, 9999, &[]), SECCOMP_RET_ALLOW);
    }

    #[test]
    fn what_is_denied_stays_denied_when_calls_are_observed() {
        let observed = |call: c_long, arguments: &[u64]| {
            verdict_of(&[RULES, OBSERVED, OBSERVED_BEFORE], NATIVE, u32::try_from(call).unwrap(), arguments)
        };
        let create = u64::from(CREATING);
        assert_eq!(observed(libc::SYS_openat, &[0, 0, create, 0o4755]), EPERM);
        assert_eq!(observed(libc::SYS_openat, &[0, 0, create, 0o755]), SECCOMP_RET_USER_NOTIF);
        assert_eq!(observed(libc::SYS_openat2, &[]), ENOSYS);
        assert_eq!(observed(libc::SYS_mkdirat, &[0, 0, 0o2755]), EPERM);
        assert_eq!(observed(libc::SYS_mmap, &[0, 0, u64::from(CODE), u64::from(ANONYMOUS)]), SECCOMP_RET_ALLOW);
        assert_eq!(observed(libc::SYS_mmap, &[0, 0, u64::from(CODE), 2]), SECCOMP_RET_USER_NOTIF);
        assert_eq!(observed(libc::SYS_newfstatat, &[0, 0, 0, u64::from(EMPTY_PATH)]), SECCOMP_RET_ALLOW);
        assert_eq!(native(libc::SYS_openat, &[0, 0, 0, 0]), SECCOMP_RET_ALLOW, "nothing is reported otherwise");
    }

    #[test]
    fn only_socket_families_with_namespaces_are_allowed() {
        let [stream, datagram, raw, seqpacket] = [1, 2, 3, 5];
        for (arguments, expected) in [
            ([1, stream, 0], SECCOMP_RET_ALLOW),
            ([1, seqpacket | 0o2_004_000, 0], SECCOMP_RET_ALLOW),
            ([1, datagram, 0], SECCOMP_RET_ERRNO | libc::ESOCKTNOSUPPORT.cast_unsigned()),
            ([1, raw | 0o2_000_000, 0], SECCOMP_RET_ERRNO | libc::ESOCKTNOSUPPORT.cast_unsigned()),
            ([1 | 1 << 40, datagram | 1 << 40, 0], SECCOMP_RET_ERRNO | libc::ESOCKTNOSUPPORT.cast_unsigned()),
            ([2, datagram, 17], SECCOMP_RET_ALLOW),
            ([10, stream, 0], SECCOMP_RET_ALLOW),
            ([16, raw, 0], SECCOMP_RET_ALLOW),
            ([16, raw, 15], SECCOMP_RET_ERRNO | libc::EPROTONOSUPPORT.cast_unsigned()),
            ([40, stream, 0], FAMILY),
            ([38, seqpacket, 0], FAMILY),
            ([40 | 1 << 32, stream, 0], FAMILY),
        ] {
            assert_eq!(native(libc::SYS_socket, &arguments), expected, "{arguments:?}");
        }
        assert_eq!(native(libc::SYS_socketpair, &[1, stream]), SECCOMP_RET_ALLOW);
        assert_eq!(native(libc::SYS_socketpair, &[1, datagram]), SECCOMP_RET_USER_NOTIF);
        assert_eq!(native(libc::SYS_socketpair, &[30, stream]), FAMILY);
        assert_eq!(native(libc::SYS_connect, &[]), SECCOMP_RET_USER_NOTIF);
        assert_eq!(native(libc::SYS_listen, &[]), SECCOMP_RET_USER_NOTIF);
    }

    #[test]
    fn modes_that_act_for_another_user_are_refused() {
        let create = u64::from(libc::O_CREAT.cast_unsigned());
        let temporary = u64::from(libc::O_TMPFILE.cast_unsigned());
        let folder = u64::from(libc::O_DIRECTORY.cast_unsigned());
        for mode in [0o4755, 0o2755, 0o6000, 0o104_644 | 1 << 40] {
            assert_eq!(native(libc::SYS_fchmod, &[3, mode]), EPERM);
            assert_eq!(native(libc::SYS_fchmodat, &[0, 0, mode]), EPERM);
            assert_eq!(native(FCHMODAT2, &[0, 0, mode]), EPERM);
            assert_eq!(native(libc::SYS_mkdirat, &[0, 0, mode]), EPERM);
            assert_eq!(native(libc::SYS_mknodat, &[0, 0, mode]), EPERM);
            assert_eq!(native(libc::SYS_openat, &[0, 0, create, mode]), EPERM);
            assert_eq!(native(libc::SYS_openat, &[0, 0, temporary, mode]), EPERM);
            // Without either the mode is whatever the register held.
            assert_eq!(native(libc::SYS_openat, &[0, 0, folder, mode]), SECCOMP_RET_ALLOW);
        }
        assert_eq!(native(libc::SYS_openat, &[0, 0, create, 0o1777]), SECCOMP_RET_ALLOW);
        assert_eq!(native(libc::SYS_fchmod, &[3, 0o1777]), SECCOMP_RET_ALLOW);
        assert_eq!(native(libc::SYS_openat2, &[]), ENOSYS);
    }

    /// Other architectures don't have these calls.
    #[cfg(target_arch = "x86_64")]
    #[test]
    fn modes_that_act_for_another_user_are_refused_by_old_calls_as_well() {
        let create = u64::from(libc::O_CREAT.cast_unsigned());
        for mode in [0o4755, 0o2755, 0o6000, 0o104_644 | 1 << 40] {
            assert_eq!(native(libc::SYS_open, &[0, create, mode]), EPERM);
            assert_eq!(native(libc::SYS_open, &[0, 0, mode]), SECCOMP_RET_ALLOW);
            for call in [libc::SYS_chmod, libc::SYS_creat, libc::SYS_mkdir, libc::SYS_mknod] {
                assert_eq!(native(call, &[0, mode]), EPERM, "{call}");
                assert_eq!(native(call, &[0, 0o1777]), SECCOMP_RET_ALLOW, "{call}");
            }
        }
    }
}
