//! A thread for each connection, a limit on their number, and a shutdown that waits for open connections.

use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::request::{Request, RequestError};
use crate::response::Response;
use crate::routes::Service;

/// Connections beyond this number are refused.
const CONNECTION_LIMIT: usize = 128;

/// The timeout for reading a request, and for writing its response.
const PATIENCE: Duration = Duration::from_secs(4);

/// How long `stop` waits for connections: longer than one can take, shorter than the 10 s that supervisors give.
const STOP_LIMIT: Duration = Duration::from_secs(9);

/// A listening service.
pub(crate) struct Server {
    address: SocketAddr,
    stopping: Arc<AtomicBool>,
    connections: Arc<Connections>,
    acceptor: JoinHandle<()>,
}

impl Server {
    /// Listens, and starts responding to requests.
    pub(crate) fn bind(address: SocketAddr, service: Service) -> io::Result<Server> {
        let listener = TcpListener::bind(address)?;
        let address = listener.local_addr()?;
        let stopping = Arc::new(AtomicBool::new(false));
        let connections = Arc::new(Connections::default());
        let acceptor = std::thread::Builder::new().name("accept".to_owned()).spawn({
            let (stopping, connections) = (stopping.clone(), connections.clone());
            move || accept(&listener, &service, &stopping, &connections)
        })?;
        Ok(Server { address, stopping, connections, acceptor })
    }

    /// The address that it listens on.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stops accepting connections, and waits for the open ones, at most for `STOP_LIMIT`.
    pub(crate) fn stop(self) {
        self.stopping.store(true, Ordering::SeqCst);
        // `accept` has no timeout, so wake it with a connection. If that fails, nothing is listening any more.
        if TcpStream::connect_timeout(&self.address, Duration::from_secs(1)).is_ok() {
            let _ = self.acceptor.join();
        }
        self.connections.wait_until_none(STOP_LIMIT);
    }
}

fn accept(listener: &TcpListener, service: &Service, stopping: &AtomicBool, connections: &Arc<Connections>) {
    for stream in listener.incoming() {
        if stopping.load(Ordering::SeqCst) {
            return;
        }
        let Ok(stream) = stream else {
            // Out of file descriptors, most likely: wait for some to come back instead of spinning.
            std::thread::sleep(Duration::from_millis(50));
            continue;
        };
        let Some(slot) = Connections::take(connections) else {
            turn_away(stream);
            continue;
        };
        let service = service.clone();
        // When no thread can be had, the connection closes, which says it.
        let _ = std::thread::Builder::new().name("connection".to_owned()).spawn(move || {
            let _slot = slot;
            // A client that went away is not an event of this service.
            let _ = answer(stream, &service);
        });
    }
}

fn answer(mut stream: TcpStream, service: &Service) -> io::Result<()> {
    stream.set_write_timeout(Some(PATIENCE))?;
    let (response, with_body) = match Request::read(&mut stream, PATIENCE) {
        Ok(request) => (service.respond(&request), request.method != "HEAD"),
        Err(RequestError::Gone) => return Ok(()),
        Err(RequestError::Slow) => (Response::error(408, "the request took too long to arrive"), true),
        Err(RequestError::TooLarge) => (Response::error(431, "request line and headers are too long"), true),
        Err(RequestError::Malformed) => (Response::error(400, "not an HTTP/1 request"), true),
    };
    response.write(&mut stream, with_body)?;
    stream.shutdown(Shutdown::Write)
}

fn turn_away(mut stream: TcpStream) {
    // Without a timeout a client that doesn't read could stop the acceptor.
    if stream.set_write_timeout(Some(Duration::from_millis(100))).is_ok() {
        let _ = Response::error(503, "too many connections").write(&mut stream, true);
    }
}

/// Counts open connections.
#[derive(Default)]
struct Connections {
    count: Mutex<usize>,
    ended: Condvar,
}

/// A counted connection; dropping it decreases the count.
struct Slot(Arc<Connections>);

impl Connections {
    fn take(connections: &Arc<Connections>) -> Option<Slot> {
        let mut count = connections.count.lock().unwrap_or_else(PoisonError::into_inner);
        if *count >= CONNECTION_LIMIT {
            return None;
        }
        *count += 1;
        Some(Slot(connections.clone()))
    }

    fn wait_until_none(&self, limit: Duration) {
        let count = self.count.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = self.ended.wait_timeout_while(count, limit, |count| *count > 0);
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        *self.0.count.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        self.0.ended.notify_all();
    }
}
