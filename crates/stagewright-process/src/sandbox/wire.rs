//! Messages between the engine and a sandbox: a length, JSON of it, and descriptors beside the length.
//!
//! The engine doesn't trust messages from inside: lengths are limited, and a message about an unknown program is
//! ignored.

use std::io::{self, IoSlice, IoSliceMut, Read as _, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::Confinement;
use super::observe::FileObservation;
use super::refusal::Refusal;

/// The longest message in bytes. Arguments and environment of a program are at most a few megabytes, a limit of the
/// kernel.
const MAX_LENGTH: usize = 16 * 1024 * 1024;
/// The most descriptors with one message.
const MAX_DESCRIPTORS: usize = 64;

/// A message of the engine to the maker, a keeper or init.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum InitRequest {
    /// To the maker: fork a keeper, whose socket is the attached descriptor.
    Fork,
    /// The first message to a keeper.
    Begin(Box<Confinement>),
    /// The users and groups of the namespace are set.
    Mapped,
    /// Start a program. Attached are three descriptors: standard input, output and error.
    Spawn { id: u64, program: PathBuf, args: Vec<String>, env: Vec<(String, String)>, current_dir: PathBuf },
    /// Send a signal to the group of a program.
    Signal { id: u64, signal: i32 },
}

/// A message of a keeper or init to the engine.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum InitAnswer {
    /// The user namespace of the process `keeper` exists, and the engine must map users and groups into it.
    Unmapped {
        keeper: u32,
    },
    /// The sandbox is set up. Attached are the descriptors of its listeners, and then that of its name server, if it has
    /// one.
    Ready,
    /// The setup failed at `step`.
    Impossible {
        step: String,
        error: String,
        errno: Option<i32>,
    },
    /// With an image, the program and init are attached, as descriptors of processes.
    Started {
        id: u64,
    },
    NotStarted {
        id: u64,
        errno: Option<i32>,
        error: String,
    },
    Ended {
        id: u64,
        code: Option<i32>,
        signal: Option<i32>,
    },
    /// A program didn't get a connection.
    Refused(Refusal),
    /// What programs that haven't been reported as ended did.
    Observed(Vec<FileObservation>),
    /// Everything inside was killed.
    Exceeded(Exceeded),
}

/// A limit that was exceeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Exceeded {
    /// More processes than this existed at a time.
    Processes(u32),
    /// The processes took more CPU time than this, in milliseconds.
    Cpu(u64),
}

pub(super) fn send<T: Serialize>(mut socket: &UnixStream, message: &T, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    let body = serde_json::to_vec(message)?;
    let length = u32::try_from(body.len()).ok().filter(|&length| length as usize <= MAX_LENGTH);
    let length = length.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "the message is too long"))?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "there are too many descriptors"));
    }
    // The kernel sends four bytes completely or not at all, and the descriptors with them.
    loop {
        let head = length.to_le_bytes();
        match rustix::net::sendmsg(socket, &[IoSlice::new(&head)], &mut control, SendFlags::NOSIGNAL) {
            Ok(_) => break,
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    socket.write_all(&body)
}

/// Receives a message and its descriptors; none at the end of the stream.
pub(super) fn receive<T: DeserializeOwned>(mut socket: &UnixStream) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
    let mut head = [0; 4];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let got = loop {
        let mut into = [IoSliceMut::new(&mut head)];
        match rustix::net::recvmsg(socket.as_fd(), &mut into, &mut control, RecvFlags::CMSG_CLOEXEC) {
            Ok(message) => break message.bytes,
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    };
    if got == 0 {
        return Ok(None);
    }
    let fds = control.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(fds) => Some(fds),
        _ => None,
    });
    let fds = fds.flatten().collect();
    socket.read_exact(&mut head[got..])?;
    let length = u32::from_le_bytes(head) as usize;
    if length > MAX_LENGTH {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a message is too long"));
    }
    let mut body = vec![0; length];
    socket.read_exact(&mut body)?;
    Ok(Some((serde_json::from_slice(&body)?, fds)))
}

/// Paths, for serde: as text, or as bytes where they aren't text.
pub(super) mod path {
    use std::ffi::OsString;
    use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
    use std::path::{Path, PathBuf};

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Spelled {
        Text(String),
        Bytes(Vec<u8>),
    }

    pub(in super::super) fn serialize<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
        match path.to_str() {
            Some(text) => serializer.serialize_str(text),
            None => path.as_os_str().as_bytes().serialize(serializer),
        }
    }

    pub(in super::super) fn deserialize<'a, D: Deserializer<'a>>(deserializer: D) -> Result<PathBuf, D::Error> {
        Ok(match Spelled::deserialize(deserializer)? {
            Spelled::Text(text) => PathBuf::from(text),
            Spelled::Bytes(bytes) => PathBuf::from(OsString::from_vec(bytes)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_are_not_text_arrive() {
        use std::os::unix::ffi::OsStrExt as _;

        use super::super::{Place, Source};

        for name in [&b"a/b"[..], b"a\xff/b"] {
            let path = std::path::PathBuf::from(std::ffi::OsStr::from_bytes(name));
            let place = Place { source: Source::Held("/w".into(), path.clone()), path, access: None };
            let sent = serde_json::to_vec(&place).unwrap();
            assert_eq!(serde_json::from_slice::<Place>(&sent).unwrap(), place);
        }
    }

    #[test]
    fn messages_arrive_whole_and_with_their_descriptors() {
        let (one, other) = UnixStream::pair().unwrap();
        let (mut end, far) = UnixStream::pair().unwrap();
        let args = vec!["x".repeat(1 << 20)];
        let sender = std::thread::spawn(move || {
            let id = 7;
            let request =
                InitRequest::Spawn { id, program: "/bin/true".into(), args, env: Vec::new(), current_dir: "/".into() };
            send(&one, &request, &[far.as_fd()]).unwrap();
            send(&one, &InitRequest::Mapped, &[]).unwrap();
        });
        let (spawn, fds) = receive::<InitRequest>(&other).unwrap().unwrap();
        assert!(matches!(spawn, InitRequest::Spawn { id: 7, args, .. } if args[0].len() == 1 << 20));
        let mut far = UnixStream::from(fds.into_iter().next().unwrap());
        far.write_all(b"!").unwrap();
        let mut byte = [0];
        end.read_exact(&mut byte).unwrap();
        assert_eq!(byte, *b"!");
        sender.join().unwrap();
        assert!(
            matches!(receive::<InitRequest>(&other).unwrap().unwrap(), (InitRequest::Mapped, fds) if fds.is_empty())
        );
        assert!(receive::<InitRequest>(&other).unwrap().is_none());
    }

    #[test]
    fn a_length_beyond_the_bound_is_refused() {
        let (mut one, other) = UnixStream::pair().unwrap();
        one.write_all(&u32::MAX.to_le_bytes()).unwrap();
        assert!(receive::<InitAnswer>(&other).is_err());
    }
}
