//! Attacks that can't be written in shell. Each one exits with 0 if it succeeds.
//!
//! `with-key COMMAND…` isn't an attack: it starts a command in a session with a key, for the tests to look for.

#![expect(clippy::disallowed_types, reason = "a separate program, which isn't part of the engine")]
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "its output is its result")]

use std::ffi::CString;
use std::fs::{self, File};
use std::io::{Error, ErrorKind, Read as _, Result, Write as _};
use std::net::{TcpStream, UdpSocket};
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixListener, UnixStream};
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};
use std::time::Duration;

const KEY: &std::ffi::CStr = c"stagewright-hostile";
const PATIENCE: Duration = Duration::from_secs(5);

fn main() -> ExitCode {
    let args = std::env::args().skip(1).collect::<Vec<_>>();
    let args = args.iter().map(String::as_str).collect::<Vec<_>>();
    match act(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{}: {error}", args.join(" "));
            ExitCode::FAILURE
        }
    }
}

fn act(args: &[&str]) -> Result<()> {
    match args {
        ["trace", process] => trace(number(process)?),
        ["memory", key] => memory(number(key)?),
        ["socket", path] => UnixStream::connect(path).map(drop),
        ["seqpacket", path] => seqpacket(path),
        ["datagram", path] => UnixDatagram::unbound()?.send_to(b"stolen", path).map(drop),
        ["own", path] => own(path),
        ["pairs"] => pairs(),
        ["listen", path, until] => listen(path, until),
        ["connects", path, times] => connects(path, number(times)?),
        ["deep", path, levels] => deep(path, number(levels)?),
        ["family", family, protocol] => {
            // SAFETY: three numbers.
            check(unsafe { libc::socket(number(family)?, libc::SOCK_STREAM, number(protocol)?) }.into()).map(drop)
        }
        ["netlink", protocol] => {
            // SAFETY: three numbers.
            check(unsafe { libc::socket(libc::AF_NETLINK, libc::SOCK_RAW, number(protocol)?) }.into()).map(drop)
        }
        ["ring"] => ring(),
        ["old-abi"] => old_abi(),
        ["set-id", how, path] => set_id(how, path),
        ["link", descriptor, to] => link(descriptor, to),
        ["abstract", name] => UnixStream::connect_addr(&SocketAddr::from_abstract_name(name)?).map(drop),
        ["tcp", address] => {
            let address = address.parse().map_err(Error::other)?;
            TcpStream::connect_timeout(&address, PATIENCE).map(drop)
        }
        ["udp", address] => UdpSocket::bind("0.0.0.0:0")?.send_to(b"\x00", address).map(drop),
        ["type"] => type_into(&File::options().read(true).write(true).open("/dev/tty")?),
        ["descriptors"] => descriptors(),
        ["key"] => key(),
        ["with-key", program, args @ ..] => with_key(program, args),
        _ => Err(ErrorKind::InvalidInput.into()),
    }
}

fn number(text: &str) -> Result<i32> {
    text.parse().map_err(Error::other)
}

fn check(result: libc::c_long) -> Result<libc::c_long> {
    if result == -1 { Err(Error::last_os_error()) } else { Ok(result) }
}

fn opened(descriptor: libc::c_long) -> Result<OwnedFd> {
    let number = i32::try_from(check(descriptor)?).map_err(Error::other)?;
    // SAFETY: it is new, and owned by nothing else.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Connects to a socket of type `SOCK_SEQPACKET`.
fn seqpacket(path: &str) -> Result<()> {
    // SAFETY: three numbers.
    let socket = opened(unsafe { libc::socket(libc::AF_UNIX, libc::SOCK_SEQPACKET, 0) }.into())?;
    // SAFETY: all zeros is a valid value of this structure of integers.
    let mut address: libc::sockaddr_un = unsafe { std::mem::zeroed() };
    address.sun_family = libc::AF_UNIX.try_into().map_err(Error::other)?;
    for (to, from) in address.sun_path.iter_mut().zip(path.bytes()) {
        *to = from.cast_signed();
    }
    let length = size_of_val(&address).try_into().map_err(Error::other)?;
    // SAFETY: the address lives until the call returns, and has the given length.
    check(unsafe { libc::connect(socket.as_raw_fd(), (&raw const address).cast(), length) }.into()).map(drop)
}

/// Listens on a Unix socket and connects to it itself.
fn own(path: &str) -> Result<()> {
    let listener = UnixListener::bind(path)?;
    let mut near = UnixStream::connect(path)?;
    let (mut far, _) = listener.accept()?;
    near.write_all(b"?")?;
    let mut byte = [0];
    far.read_exact(&mut byte)?;
    let there = near.peer_addr()?;
    if there.as_pathname() == Some(path.as_ref()) { fs::remove_file(path) } else { Err(Error::other("another path")) }
}

/// Accepts connections until the file `until` exists.
fn listen(path: &str, until: &str) -> Result<()> {
    let listener = UnixListener::bind(path)?;
    listener.set_nonblocking(true)?;
    while !fs::exists(until)? {
        if listener.accept().is_err() {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    Ok(())
}

/// Connects until it has been accepted and refused several times each.
fn connects(path: &str, times: i32) -> Result<()> {
    let (mut let_in, mut refused) = (0, 0);
    for _ in 0..times * 100 {
        match UnixStream::connect(path) {
            Ok(_) => let_in += 1,
            Err(error) if error.kind() == ErrorKind::PermissionDenied => refused += 1,
            Err(_) => {}
        }
        if let_in > times && refused > times {
            return Ok(());
        }
    }
    Err(Error::other(format!("let in {let_in} times, refused {refused} times")))
}

/// Creates nested folders without using the whole path.
fn deep(path: &str, levels: i32) -> Result<()> {
    fs::create_dir(path)?;
    std::env::set_current_dir(path)?;
    for _ in 0..levels {
        fs::create_dir("one-more-level")?;
        std::env::set_current_dir("one-more-level")?;
    }
    Ok(())
}

fn pairs() -> Result<()> {
    let (mut one, mut other) = UnixStream::pair()?;
    one.write_all(b"?")?;
    other.read_exact(&mut [0])?;
    let (one, other) = UnixDatagram::pair()?;
    one.send(b"first")?;
    one.send(b"second")?;
    let mut buffer = [0; 100];
    let lengths = [other.recv(&mut buffer)?, other.recv(&mut buffer)?];
    if lengths == [5, 6] { Ok(()) } else { Err(Error::other("messages were merged")) }
}

/// Sets up an `io_uring`.
fn ring() -> Result<()> {
    // `struct io_uring_params`.
    let mut parameters = [0_u8; 120];
    // SAFETY: the parameters have the size that the kernel writes, and live until the call returns.
    opened(unsafe { libc::syscall(libc::SYS_io_uring_setup, 1, parameters.as_mut_ptr()) }).map(drop)
}

/// Makes a system call through the 32-bit ABI.
#[cfg(target_arch = "x86_64")]
fn old_abi() -> Result<()> {
    const GETPID: i32 = 20;
    let process: i32;
    // SAFETY: the call takes no pointers, and preserves all other registers.
    unsafe { std::arch::asm!("int 0x80", inlateout("eax") GETPID => process) };
    if process > 0 { Ok(()) } else { Err(Error::from_raw_os_error(-process)) }
}

#[cfg(not(target_arch = "x86_64"))]
fn old_abi() -> Result<()> {
    Err(ErrorKind::Unsupported.into())
}

/// Sets the set-user-id or set-group-id bit of a file.
fn set_id(how: &str, path: &str) -> Result<()> {
    const FCHMODAT2: libc::c_long = 452;
    let (at, name) = (libc::AT_FDCWD, CString::new(path)?);
    let (name, user, group, create) = (name.as_ptr(), 0o4755_u64, 0o2755_u64, libc::O_CREAT | libc::O_WRONLY);
    let file = || File::options().create(true).append(true).open(path);
    // The kernel ignores the upper half of a 32-bit argument, so a filter must not rely on it being zero.
    let garbage = (1_u64 << 40) | user;
    // SAFETY: the string, and the two numbers of `open_how`, live until the calls return.
    check(unsafe {
        match how {
            "chmod" => libc::syscall(libc::SYS_fchmodat, at, name, user),
            "chmod-group" => libc::syscall(libc::SYS_fchmodat, at, name, group),
            "chmod-garbage" => libc::syscall(libc::SYS_fchmodat, at, name, garbage),
            "fchmod" => libc::syscall(libc::SYS_fchmod, file()?.as_raw_fd(), user),
            "fchmodat2" => libc::syscall(FCHMODAT2, at, name, user, 0),
            "open" => libc::syscall(libc::SYS_openat, at, name, create, user),
            "temporary" => {
                let file =
                    opened(libc::syscall(libc::SYS_openat, at, c".".as_ptr(), libc::O_TMPFILE | libc::O_RDWR, user))?;
                let from = CString::new(format!("/proc/self/fd/{}", file.as_raw_fd()))?;
                libc::linkat(at, from.as_ptr(), at, name, libc::AT_SYMLINK_FOLLOW).into()
            }
            "openat2" => {
                let how = [u64::try_from(create).map_err(Error::other)?, user, 0];
                libc::syscall(libc::SYS_openat2, at, name, how.as_ptr(), size_of_val(&how))
            }
            "mknod" => libc::syscall(libc::SYS_mknodat, at, name, libc::S_IFREG | 0o4755, 0),
            #[cfg(target_arch = "x86_64")]
            "old-chmod" => libc::syscall(libc::SYS_chmod, name, user),
            #[cfg(target_arch = "x86_64")]
            "old-creat" => libc::syscall(libc::SYS_creat, name, user),
            #[cfg(target_arch = "x86_64")]
            "old-mknod" => libc::syscall(libc::SYS_mknod, name, libc::S_IFREG | 0o4755, 0),
            #[cfg(target_arch = "x86_64")]
            "old-open" => libc::syscall(libc::SYS_open, name, create, user),
            "plain" => libc::syscall(libc::SYS_fchmodat, at, name, 0o1755),
            _ => return Err(ErrorKind::InvalidInput.into()),
        }
    })
    .map(drop)
}

/// Hard-links an open file through its path in `/proc`.
fn link(descriptor: &str, to: &str) -> Result<()> {
    let (from, to) = (CString::new(descriptor)?, CString::new(to)?);
    let at = libc::AT_FDCWD;
    // SAFETY: the strings live until the calls return.
    let file = opened(unsafe { libc::open(from.as_ptr(), libc::O_PATH) }.into())?;
    // SAFETY: as above.
    let by_number = unsafe { libc::linkat(file.as_raw_fd(), c"".as_ptr(), at, to.as_ptr(), libc::AT_EMPTY_PATH) };
    if by_number == 0 {
        return Ok(());
    }
    let from = CString::new(format!("/proc/self/fd/{}", file.as_raw_fd()))?;
    // SAFETY: as above.
    check(unsafe { libc::linkat(at, from.as_ptr(), at, to.as_ptr(), libc::AT_SYMLINK_FOLLOW) }.into()).map(drop)
}

/// Attaches to another process as a debugger.
fn trace(process: i32) -> Result<()> {
    // SAFETY: the request takes two numbers.
    check(unsafe { libc::ptrace(libc::PTRACE_SEIZE, process, 0, 0) }).map(drop)
}

/// Finds a shared memory segment of another process.
fn memory(key: i32) -> Result<()> {
    // SAFETY: three numbers.
    check(unsafe { libc::shmget(key, 0, 0) }.into()).map(drop)
}

/// Injects a character into the input of a terminal.
fn type_into(terminal: &File) -> Result<()> {
    // SAFETY: the request reads one byte.
    check(unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSTI, c"x".as_ptr()) }.into()).map(drop)
}

/// Lists open descriptors, without those of the listing itself.
fn descriptors() -> Result<()> {
    let mut open = Vec::new();
    for entry in fs::read_dir("/proc/self/fd")? {
        let target = fs::read_link(entry?.path())?;
        open.push(target);
    }
    let own = fs::read_link("/proc/self")?;
    open.retain(|target| !target.ends_with(own.join("fd")));
    println!("{} open: {open:?}", open.len());
    Ok(())
}

/// Finds a key in the session of the user who started the engine.
fn key() -> Result<()> {
    const SEARCH: libc::c_long = 10;
    // SAFETY: the strings live until the call returns.
    let found = unsafe {
        libc::syscall(libc::SYS_keyctl, SEARCH, libc::KEY_SPEC_SESSION_KEYRING, c"user".as_ptr(), KEY.as_ptr(), 0)
    };
    check(found).map(drop)
}

fn with_key(program: &str, args: &[&str]) -> Result<()> {
    let name = CString::new("stagewright-tests")?;
    let value = b"hunter2";
    // SAFETY: the strings live until the calls return, and the length is that of the value.
    unsafe {
        check(libc::syscall(libc::SYS_keyctl, libc::KEYCTL_JOIN_SESSION_KEYRING, name.as_ptr()))?;
        let keyring = libc::KEY_SPEC_SESSION_KEYRING;
        check(libc::syscall(libc::SYS_add_key, c"user".as_ptr(), KEY.as_ptr(), value.as_ptr(), value.len(), keyring))?;
    }
    key()?;
    Err(Command::new(program).args(args).exec())
}
