//! How a deploy and the proxy speak: a connection to a socket in the proxy's folder makes the proxy read its table again,
//! and then say which one is in effect, and how many requests each replica hasn't answered.

use std::collections::BTreeMap;
use std::io::{self, Read as _};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{CWD, Mode, OFlags, openat};
use serde::{Deserialize, Serialize};
use tokio::io::AsyncWriteExt as _;
use tokio::net::UnixListener;

use super::routes::Routes;
use super::table::RoutingTable;

/// How long a proxy may take to answer.
const LIMIT: Duration = Duration::from_secs(5);
/// The most bytes of a report.
const LONGEST: u64 = 1024 * 1024;

/// What a proxy says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct ProxyReport {
    /// The table in effect.
    pub(super) table: RoutingTable,
    /// How many requests each replica hasn't answered, by port.
    pub(super) in_flight: BTreeMap<u16, usize>,
}

/// A path of the socket in the folder `dir`. The name of a socket has at most 108 bytes, which paths of state folders can
/// exceed, so this one leads through a descriptor of the folder.
fn socket(dir: &Path) -> io::Result<(OwnedFd, PathBuf)> {
    let folder = openat(CWD, dir, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let path = PathBuf::from(format!("/proc/self/fd/{}/control.sock", folder.as_raw_fd()));
    Ok((folder, path))
}

/// Makes the proxy in the folder `dir` read its table.
pub(super) fn reload(dir: &Path) -> io::Result<ProxyReport> {
    let (_folder, path) = socket(dir)?;
    let stream = UnixStream::connect(path)?;
    stream.set_read_timeout(Some(LIMIT))?;
    let mut text = Vec::new();
    stream.take(LONGEST).read_to_end(&mut text)?;
    Ok(serde_json::from_slice(&text)?)
}

/// Listens for [`reload`] in the folder `dir`. Must be called within a runtime.
pub(super) fn listen(dir: &Path) -> io::Result<UnixListener> {
    let (_folder, path) = socket(dir)?;
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    UnixListener::bind(path)
}

/// Answers [`reload`].
pub(super) async fn answer(listener: UnixListener, dir: &Path, routes: &Routes) {
    loop {
        let Ok((mut stream, _)) = listener.accept().await else {
            tokio::time::sleep(super::PAUSE).await;
            continue;
        };
        // A table that can't be read isn't acknowledged: the report has the present one.
        if let Ok(table) = RoutingTable::read(dir) {
            routes.apply(table);
        }
        let report = ProxyReport { table: routes.table(), in_flight: routes.in_flight() };
        if let Ok(text) = serde_json::to_vec(&report) {
            // The other end may have closed the connection.
            let _ = tokio::time::timeout(LIMIT, stream.write_all(&text)).await;
        }
    }
}
