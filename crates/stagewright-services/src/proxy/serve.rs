//! The process of a proxy.

use std::convert::Infallible;
use std::io;
use std::net::TcpListener as StdListener;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1::Builder;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use stagewright_process::name_this_process;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{interval, sleep};

use super::control;
use super::forward::{ClientConnection, forward};
use super::routes::Routes;
use super::table::RoutingTable;

/// How long a client may take to send the head of a request, and to begin the next one on the same connection.
const HEAD: Duration = Duration::from_secs(60);
/// How often unused connections to replicas are looked for.
const TIDY: Duration = Duration::from_secs(1);
/// The most connections of clients. Others wait in the backlog of the listening socket.
const MOST_CONNECTIONS: usize = 8192;
/// Descriptors that aren't those of a connection of a client.
const OTHER_DESCRIPTORS: u64 = 64;

/// The body of the hidden subcommand: accepts connections on the listening socket that is standard input, and
/// distributes their requests as the table in `dir` says, until the process is ended. Returns the exit code if it can't
/// begin, and writes the reason to standard error, which its supervisor logs. Must be called outside of any runtime.
pub fn serve(dir: &Path) -> i32 {
    name_this_process();
    let begin = || -> io::Result<()> {
        let connections = raise_descriptors();
        let listener = StdListener::from(rustix::stdio::stdin().try_clone_to_owned()?);
        listener.set_nonblocking(true)?;
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        runtime.block_on(async { run(TcpListener::from_std(listener)?, dir, connections).await })
    };
    match begin() {
        Ok(()) => 0,
        Err(error) => {
            use io::Write as _;
            #[expect(clippy::disallowed_methods, reason = "it is a file, whose text is escaped where it is shown")]
            let _ = writeln!(io::stderr(), "the proxy in `{}` can't begin: {error}", dir.display());
            1
        }
    }
}

/// Raises the limit on descriptors. Returns how many connections of clients there may be at a time: each may need a second
/// descriptor, for a connection to a replica.
fn raise_descriptors() -> usize {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    // An error is ignored: fewer connections are accepted then.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    let current = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let connections = usize::try_from(current.saturating_sub(OTHER_DESCRIPTORS) / 2).unwrap_or(usize::MAX);
    connections.clamp(1, MOST_CONNECTIONS)
}

/// Serves until the process ends.
pub(super) async fn run(listener: TcpListener, dir: &Path, most_connections: usize) -> io::Result<()> {
    let routes = Arc::new(Routes::default());
    routes.apply(RoutingTable::read(dir)?);
    let control = control::listen(dir)?;
    tokio::select! {
        () = accept(listener, routes.clone(), most_connections) => {}
        () = control::answer(control, dir, &routes) => {}
        () = tidy(&routes) => {}
    }
    Ok(())
}

async fn accept(listener: TcpListener, routes: Arc<Routes>, most_connections: usize) {
    let connections = Arc::new(Semaphore::new(most_connections));
    while let Ok(permit) = connections.clone().acquire_owned().await {
        match listener.accept().await {
            Ok((stream, peer)) => {
                let client = ClientConnection { address: peer.ip(), _permit: Arc::new(permit) };
                tokio::spawn(serve_connection(stream, client, routes.clone()));
            }
            // The connection has gone again, or the machine is out of descriptors or memory.
            Err(_) => sleep(super::PAUSE).await,
        }
    }
}

async fn serve_connection(stream: TcpStream, client: ClientConnection, routes: Arc<Routes>) {
    let _ = stream.set_nodelay(true);
    let (routes, client) = (&routes, &client);
    let service = service_fn(|request| async move { Ok::<_, Infallible>(forward(routes, client, request).await) });
    let connection = Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .preserve_header_case(true)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    // The client has gone, or has sent something that isn't HTTP.
    let _ = connection.await;
}

async fn tidy(routes: &Routes) {
    let mut times = interval(TIDY);
    loop {
        times.tick().await;
        routes.tidy();
    }
}
