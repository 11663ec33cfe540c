//! Entries of `permissions.net` for HTTP over a Unix socket: `METHODS unix:///SOCKET:/PATH`.

use super::glob::{glob_covers, pattern_of};
use super::socket::check_socket_path;
use crate::format_error::{FormatError, refuse};

/// The code of diagnostics about invalid entries.
const CODE: &str = "stagewright::bad-origin";
const HELP: &str = "write `unix:///run/docker.sock`, with methods and a path to restrict it: `GET,HEAD \
                    unix:///run/docker.sock:/containers/*`";

/// What URLs of requests over a socket begin with. The socket's path follows, and after a colon that of the request, as in
/// `unix:///run/docker.sock:/containers/json`.
const SCHEME: &str = "unix://";

/// One entry: requests that may be sent over a Unix socket of this machine.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SocketRoute {
    /// Empty for all methods.
    methods: Vec<String>,
    socket: String,
    /// None for all paths.
    path: Option<String>,
}

/// A request over a Unix socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SocketUrl {
    /// The path of the socket.
    pub socket: String,
    /// The path of the request, with a leading `/` and without a query.
    pub path: String,
    /// The query, with its `?`; empty if there is none.
    pub query: String,
}

impl SocketUrl {
    /// Reads the URL of a request. None if it has another scheme.
    ///
    /// # Errors
    /// If its path isn't one that servers read as it is written: `/a/../b`, `/a//b` and `/a%2fb` may mean another path to
    /// them than to the check of a grant.
    pub fn parse(url: &str) -> Option<Result<SocketUrl, FormatError>> {
        Some(SocketUrl::of(url.strip_prefix(SCHEME)?))
    }

    fn of(rest: &str) -> Result<SocketUrl, FormatError> {
        let Some((socket, request)) = split(rest) else {
            return refuse(CODE, "names no path after its socket", "write `unix:///SOCKET:/PATH`");
        };
        check_socket_path(socket)?;
        let request = request.split('#').next().unwrap_or(request);
        let (path, query) = request.split_at(request.find('?').unwrap_or(request.len()));
        let names = path.strip_prefix('/').unwrap_or(path).split('/').collect::<Vec<_>>();
        let ends_with_slash = |at: usize| at > 0 && at + 1 == names.len();
        let is_odd = |(at, name): (usize, &&str)| {
            let lower = name.to_ascii_lowercase();
            let is_empty = name.is_empty() && names.len() > 1 && !ends_with_slash(at);
            is_empty || matches!(*name, "." | "..") || ["%2e", "%2f", "%5c", "\\"].iter().any(|odd| lower.contains(odd))
        };
        let is_printable = request.bytes().all(|byte| byte.is_ascii_graphic());
        if !is_printable || names.iter().enumerate().any(is_odd) {
            return refuse(
                CODE,
                "has a path that isn't in normal form",
                "leave out `.`, `..` and empty names, and encode no `/`",
            );
        }
        Ok(SocketUrl { socket: socket.to_owned(), path: path.to_owned(), query: query.to_owned() })
    }

    /// The URL without its query, which may contain secrets.
    pub fn shown(&self) -> String {
        format!("{SCHEME}{}:{}", self.socket, self.path)
    }
}

impl SocketRoute {
    /// Whether an entry is one of these.
    pub(super) fn is(entry: &str) -> bool {
        entry.starts_with(SCHEME) || entry.split_once(' ').is_some_and(|(_, url)| url.trim_start().starts_with(SCHEME))
    }

    /// Parses an entry.
    pub fn parse(entry: &str) -> Result<SocketRoute, FormatError> {
        let (methods, url) = match entry.split_once(' ') {
            Some((methods, url)) => (methods.split(',').map(str::to_owned).collect(), url.trim_start()),
            None => (Vec::new(), entry),
        };
        let is_method = |method: &String| !method.is_empty() && method.bytes().all(|byte| byte.is_ascii_uppercase());
        if !methods.iter().all(is_method) {
            return refuse(CODE, "has methods that aren't upper-case words with commas between them", HELP);
        }
        let Some(rest) = url.strip_prefix(SCHEME) else { return refuse(CODE, "isn't the URL of a Unix socket", HELP) };
        let (socket, path) = split(rest).map_or((rest, None), |(socket, path)| (socket, Some(path)));
        check_socket_path(socket)?;
        if path.is_some_and(|path| !is_pattern(path)) {
            let help = "`*` matches within a name, `**` at the end all that follows; queries aren't restricted";
            return refuse(CODE, "has a path that isn't a pattern", help);
        }
        Ok(SocketRoute { methods, socket: socket.to_owned(), path: path.map(str::to_owned) })
    }

    /// The path of the socket, if the entry isn't restricted to methods or paths.
    pub(crate) fn parse_whole(entry: &str) -> Result<String, FormatError> {
        let SocketRoute { methods, socket, path } = SocketRoute::parse(entry)?;
        match methods.is_empty() && path.is_none() {
            true => Ok(socket),
            false => refuse(CODE, "is more than a socket", "write the socket alone, as in `unix:///run/docker.sock`"),
        }
    }

    /// Whether a request is granted.
    pub fn grants(&self, method: &str, url: &SocketUrl) -> bool {
        let is_method = self.methods.is_empty() || self.methods.iter().any(|granted| granted == method);
        let is_path = self.path.as_deref().is_none_or(|path| path_covers(path, &url.path));
        is_method && self.socket == url.socket && is_path
    }

    /// Whether this entry grants everything that `other` grants.
    pub fn covers(&self, other: &SocketRoute) -> bool {
        let methods = self.methods.is_empty()
            || (!other.methods.is_empty() && other.methods.iter().all(|one| self.methods.contains(one)));
        let paths = match (&self.path, &other.path) {
            (None, _) => true,
            (Some(own), Some(other)) => path_covers(own, other),
            (Some(_), None) => false,
        };
        self.socket == other.socket && methods && paths
    }

    /// The path of the socket.
    pub fn socket(&self) -> &str {
        &self.socket
    }

    /// Whether only requests are granted that change nothing, as HTTP defines their methods.
    pub fn is_read_only(&self) -> bool {
        !self.methods.is_empty() && self.methods.iter().all(|method| matches!(method.as_str(), "GET" | "HEAD"))
    }
}

/// Stands for all names that follow.
const REST: &str = "**";

fn is_pattern(path: &str) -> bool {
    let names = path.strip_suffix(REST).filter(|path| path.ends_with('/')).unwrap_or(path);
    !names.contains(['?', '#']) && pattern_of(names).is_some()
}

/// Whether the pattern of a path matches everything that another one, or a path, matches. They are compared name by name,
/// because `*` stays within a name: `/containers/*` must not match `/containers/x/exec`, nor `/*/containers/json` an image
/// that is called `containers/json`.
fn path_covers(pattern: &str, path: &str) -> bool {
    let (own, other): (Vec<&str>, Vec<&str>) = (pattern.split('/').collect(), path.split('/').collect());
    let (own, is_longer) = match own.split_last() {
        Some((&REST, before)) => (before, other.len() > before.len()),
        _ => (own.as_slice(), other.len() == own.len()),
    };
    is_longer && own.iter().zip(&other).all(|(own, other)| glob_covers(own, other))
}

/// Splits the text after the scheme into the path of the socket and that of the request.
fn split(rest: &str) -> Option<(&str, &str)> {
    let colon = rest.find(":/")?;
    Some((&rest[..colon], &rest[colon + 1..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(text: &str) -> SocketRoute {
        SocketRoute::parse(text).unwrap_or_else(|error| panic!("{text}: {}", error.message))
    }

    fn url(text: &str) -> SocketUrl {
        SocketUrl::parse(text).expect("a socket").unwrap_or_else(|error| panic!("{text}: {}", error.message))
    }

    #[test]
    fn a_request_is_granted_by_method_socket_and_path() {
        let all = url("unix:///run/docker.sock:/v1.43/containers/json?all=1");
        assert_eq!((all.path.as_str(), all.query.as_str()), ("/v1.43/containers/json", "?all=1"));
        assert_eq!(all.shown(), "unix:///run/docker.sock:/v1.43/containers/json");
        for granted in [
            "unix:///run/docker.sock",
            "GET unix:///run/docker.sock",
            "HEAD,GET unix:///run/docker.sock:/v1.*/containers/*",
            "unix:///run/docker.sock:/v1.43/**",
        ] {
            assert!(route(granted).grants("GET", &all), "{granted}");
        }
        for denied in [
            "POST unix:///run/docker.sock",
            "GET unix:///run/docker.sock:/v1.*/images/*",
            "GET unix:///run/docker.sock:/v1.43/containers",
            "GET unix:///run/docker.sock:/v1.*/json",
            "GET unix:///run/docker.sock:/*",
            "GET unix:///run/docker.sock:/v1.43/containers/json/**",
            "unix:///run/docker.sock2",
        ] {
            assert!(!route(denied).grants("GET", &all), "{denied}");
        }
    }

    #[test]
    fn paths_that_servers_may_read_differently_are_refused() {
        for odd in ["/a/../b", "/./a", "/a//b", "//a", "/a/%2E%2e/b", "/a%2Fb", "/a%5cb", "/a\\b", "/a b", "/ä"] {
            let text = format!("unix:///run/x.sock:{odd}");
            assert!(SocketUrl::parse(&text).unwrap().is_err(), "{text}");
        }
        for usual in ["/", "/a", "/a/", "/a/b%20c", "/a?x=..%2f"] {
            url(&format!("unix:///run/x.sock:{usual}"));
        }
        assert!(SocketUrl::parse("https://a.test/").is_none());
        for wrong in ["unix:///run/x.sock", "unix://run/x.sock:/a", "unix:///run/../x.sock:/a"] {
            assert!(SocketUrl::parse(wrong).unwrap().is_err(), "{wrong}");
        }
    }

    #[test]
    fn an_entry_covers_what_it_restricts_no_more_than() {
        let all = "unix:///s";
        for narrower in ["GET unix:///s", "unix:///s:/a/*", "GET,POST unix:///s:/a"] {
            assert!(route(all).covers(&route(narrower)) && !route(narrower).covers(&route(all)), "{narrower}");
        }
        assert!(route("GET,HEAD unix:///s:/a/*").covers(&route("GET unix:///s:/a/b")));
        for (own, other) in [("/a/**", "/a/b/*"), ("/a/**", "/a/**"), ("/*/b*", "/a/bc"), ("/**", "/")] {
            assert!(path_covers(own, other), "{own} {other}");
        }
        for (own, other) in [("/a/*", "/a/b/c"), ("/a/*", "/a/**"), ("/a/**", "/a"), ("/*", "/a/b"), ("/a/b", "/a/*")] {
            assert!(!path_covers(own, other), "{own} {other}");
        }
        assert!(!route("GET unix:///s:/a/*").covers(&route("GET,HEAD unix:///s:/a/b")));
        assert!(!route("unix:///s").covers(&route("unix:///t")));
        for wrong in [
            "get unix:///s",
            "GET, unix:///s",
            "unix://s",
            "GET unix:///s:/a?b",
            "GET https://a.test",
            "unix:///s:/[a",
            "unix:///s:/a**",
            "unix:///s:/**/b",
        ] {
            assert!(SocketRoute::parse(wrong).is_err(), "{wrong}");
        }
    }
}
