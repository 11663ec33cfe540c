//! What AWS checks before a service gets a request, and `ministack` doesn't: the time of the signature, and whether the keys have
//! expired.

use crate::environment::TestEnvironment;
use crate::targets::aws::{Aws, ENDPOINT};

/// Where requests are checked, and then forwarded.
const FRONT: &str = "http://127.0.0.1:4567";

/// Arguments: a folder. If its file `expires-at` has a part of a request's line, the keys have expired from this request on.
const PROGRAM: &str = r#"
import calendar, http.client, http.server, os, sys, time
folder = sys.argv[1]
def has_expired(line):
    path = os.path.join(folder, "expires-at")
    if not os.path.exists(path):
        return False
    if open(path).read() in line:
        open(os.path.join(folder, "expired"), "w").close()
    return os.path.exists(os.path.join(folder, "expired"))
class Front(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def log_message(self, *words):
        pass
    def answer(self, status, headers, body):
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        if not any(name.lower() == "content-length" for name, _ in headers):
            self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def refuse(self, is_s3, code, message):
        if is_s3:
            body = f"<Error><Code>{code}</Code><Message>{message}</Message></Error>"
        else:
            body = f'{{"__type":"{code}","message":"{message}"}}'
        self.answer(403, [], b"" if self.command == "HEAD" else body.encode())
    def any(self):
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        is_s3 = "/s3/aws4_request" in self.headers["authorization"]
        date = self.headers["x-amz-date"]
        signed = calendar.timegm(time.strptime(date, "%Y%m%dT%H%M%SZ"))
        apart = time.time() - signed
        if abs(apart) > (900 if is_s3 else 300):
            now = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
            if is_s3:
                return self.refuse(True, "RequestTimeTooSkewed", "The difference between the request time and the current time is too large.")
            word = "Signature expired" if apart > 0 else "Signature not yet current"
            return self.refuse(False, "InvalidSignatureException", f"{word}: {date} is now apart from {now}")
        if has_expired(f"{self.command} {self.path} {self.headers.get('x-amz-target')}"):
            if is_s3:
                return self.refuse(True, "ExpiredToken", "The provided token has expired.")
            return self.refuse(False, "ExpiredTokenException", "The security token included in the request is expired")
        service = http.client.HTTPConnection("127.0.0.1", 4566, timeout=60)
        headers = {name: value for name, value in self.headers.items() if name.lower() != "connection"}
        service.request(self.command, self.path, body, headers)
        response = service.getresponse()
        content = response.read()
        left_out = ("transfer-encoding", "connection", "date", "server")
        self.answer(response.status, [pair for pair in response.getheaders() if pair[0].lower() not in left_out], content)
        service.close()
    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = do_PATCH = any
http.server.ThreadingHTTPServer(("127.0.0.1", 4567), Front).serve_forever()
"#;

impl Aws {
    /// Lets the requests of the repository's deploys be checked.
    pub(in crate::targets) fn check_requests(&self, repository: &TestEnvironment) {
        let folder = self.machine.path("front").display().to_string();
        std::fs::create_dir_all(&folder).expect("a folder");
        let listens = |machine: &crate::targets::machine::Machine| {
            let output = machine.command("curl").args(["-s", FRONT]).output().expect("curl starts");
            output.status.code() != Some(7)
        };
        self.machine.serve("python3", &["-c", PROGRAM, &folder], listens);
        let pipeline = repository.read("stagewright.toml");
        let origin = |endpoint: &str| format!("origins = [\"{endpoint}\"]");
        assert!(pipeline.contains(&origin(ENDPOINT)), "{pipeline}");
        repository.write("stagewright.toml", &pipeline.replace(&origin(ENDPOINT), &origin(FRONT)));
    }

    /// Lets the keys expire from the next request on whose method, path or operation has this.
    pub(in crate::targets) fn expire_keys(&self, at: &str) {
        self.machine.write("front/expires-at", at);
    }

    /// As if the secrets had the values of newer keys.
    pub(in crate::targets) fn renew_keys(&self) {
        for file in ["front/expires-at", "front/expired"] {
            std::fs::remove_file(self.machine.path(file)).expect("the keys have expired");
        }
    }
}
