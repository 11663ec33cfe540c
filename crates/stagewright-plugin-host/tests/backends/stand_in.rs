//! The test binary as a supervisor and as a service: each runs a single test of the harness by name.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::path::{Path, PathBuf};

use stagewright_plugin_host::service::proxy;
use stagewright_process::supervisor::{SUBCOMMAND, supervise};

/// The script of a release whose program is a shell. It runs the server in this binary.
pub(crate) const SERVE: &str =
    r#"echo serving "$ANSWER"; exec "$BINARY" --exact stand_in::__serve --nocapture "$PORT" "$ANSWER""#;

pub(crate) fn binary() -> PathBuf {
    std::env::current_exe().unwrap()
}

#[test]
fn __supervise() {
    let mut args = std::env::args().skip_while(|arg| arg != SUBCOMMAND).skip(1);
    if let Some(dir) = args.next() {
        assert_eq!(supervise(Path::new(&dir)), 0);
    }
}

#[test]
fn __proxy() {
    let mut args = std::env::args().skip_while(|arg| arg != proxy::SUBCOMMAND).skip(1);
    if let Some(dir) = args.next() {
        assert_eq!(proxy::serve(Path::new(&dir)), 0);
    }
}

/// A server that responds to each connection with the same line.
#[test]
fn __serve() {
    let mut args = std::env::args().skip_while(|arg| arg != "--nocapture").skip(1);
    let (Some(port), Some(answer)) = (args.next().and_then(|port| port.parse::<u16>().ok()), args.next()) else {
        return;
    };
    let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
    for connection in listener.incoming() {
        let mut connection = connection.unwrap();
        let _ = BufReader::new(&connection).read_line(&mut String::new());
        let _ = writeln!(connection, "{answer}");
    }
}
