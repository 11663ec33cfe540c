//! What a hostile program tries and a shell has no word for. Each way ends with 0 where it was let through.
//!
//! `with-key COMMAND…` is for the other side: it starts a command whose session holds a key.

#![expect(clippy::disallowed_types, reason = "a program of its own")]
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "its output is what it has found")]

use std::ffi::CString;
use std::fs::{self, File};
use std::io::{Error, ErrorKind, Result};
use std::net::{TcpStream, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixStream};
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

/// Looks into another process as a debugger would.
fn trace(process: i32) -> Result<()> {
    // SAFETY: the request takes two numbers.
    check(unsafe { libc::ptrace(libc::PTRACE_SEIZE, process, 0, 0) }).map(drop)
}

/// Finds shared memory that somebody else made.
fn memory(key: i32) -> Result<()> {
    // SAFETY: three numbers.
    check(unsafe { libc::shmget(key, 0, 0) }.into()).map(drop)
}

/// Types a letter for whoever reads the terminal next.
fn type_into(terminal: &File) -> Result<()> {
    // SAFETY: the request reads one byte.
    check(unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSTI, c"x".as_ptr()) }.into()).map(drop)
}

/// Lists what is open, without what this takes itself.
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

/// Finds the key of whoever started the engine.
fn key() -> Result<()> {
    const SEARCH: libc::c_long = 10;
    // SAFETY: the strings live for the call.
    let found = unsafe {
        libc::syscall(libc::SYS_keyctl, SEARCH, libc::KEY_SPEC_SESSION_KEYRING, c"user".as_ptr(), KEY.as_ptr(), 0)
    };
    check(found).map(drop)
}

fn with_key(program: &str, args: &[&str]) -> Result<()> {
    let name = CString::new("stagewright-tests")?;
    let value = b"hunter2";
    // SAFETY: the strings live for the calls, and the length is the value's.
    unsafe {
        check(libc::syscall(libc::SYS_keyctl, libc::KEYCTL_JOIN_SESSION_KEYRING, name.as_ptr()))?;
        let keyring = libc::KEY_SPEC_SESSION_KEYRING;
        check(libc::syscall(libc::SYS_add_key, c"user".as_ptr(), KEY.as_ptr(), value.as_ptr(), value.len(), keyring))?;
    }
    key()?;
    Err(Command::new(program).args(args).exec())
}
