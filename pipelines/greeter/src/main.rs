//! A small but complete greeting service: health, readiness, limits, and a graceful shutdown on SIGTERM.
//!
//! It is configured by environment variables: `HOST` (default: 127.0.0.1), `PORT` (default: 8080; 0 picks a free one) and
//! `GREETING`, which replaces the English greeting. The first line of standard output has the address.

mod catalog;
mod request;
mod response;
mod routes;
mod server;

use std::env::VarError;
use std::error::Error;
use std::net::IpAddr;
use std::process::ExitCode;
use std::sync::{Arc, OnceLock};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::catalog::Catalog;
use crate::routes::Service;
use crate::server::Server;

fn main() -> ExitCode {
    match serve() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("greeter: {error}");
            ExitCode::FAILURE
        }
    }
}

fn serve() -> Result<(), Box<dyn Error>> {
    let host: IpAddr =
        variable("HOST")?.as_deref().unwrap_or("127.0.0.1").parse().map_err(|_| "HOST must be an IP address")?;
    let port: u16 = variable("PORT")?.as_deref().unwrap_or("8080").parse().map_err(|_| "PORT must be 0 to 65535")?;
    let greeting = variable("GREETING")?;

    // Install the handler before printing the address, because its reader may send a signal right away.
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    let catalog = Arc::new(OnceLock::new());
    let server = Server::bind((host, port).into(), Service::new(catalog.clone()))
        .map_err(|error| format!("can't listen on {host}:{port}: {error}"))?;
    println!("greeter {} listens on http://{}", env!("CARGO_PKG_VERSION"), server.address());

    // The socket is open first, so that health checks pass while the greetings are loaded.
    catalog.get_or_init(|| Catalog::load(greeting));
    let _ = signals.forever().next();
    println!("greeter stops");
    server.stop();
    Ok(())
}

fn variable(name: &str) -> Result<Option<String>, String> {
    match std::env::var(name) {
        Ok(value) => Ok(Some(value)),
        Err(VarError::NotPresent) => Ok(None),
        Err(VarError::NotUnicode(_)) => Err(format!("{name} is no UTF-8")),
    }
}
